"""Warnings about estimates that may be better than the nets are.

Owns the rules of what looks like leakage; must not know nets, runs or pages.
"""

from __future__ import annotations

import math
from typing import Iterator, Mapping, Sequence

import numpy as np

from xenon_mx.evaluation.estimates import Estimate
from xenon_mx.evaluation.evaluation_set import EvaluationSet
from xenon_mx.evaluation.prediction_tables import PLURAL
from xenon_mx.evaluation.published import REPRODUCTIONS, SEED_SPREAD

# Chosen here: the share of the public validation set that a user's copy may lack.
_MISSING_SHARE = 0.05
_REMEDY = "set patients aside with xenon-pack --holdout 0.1"


def leakage_warnings(
    samples: EvaluationSet,
    estimates: Mapping[str, Sequence[Estimate]],
    validated_on: str | None = None,
    needs_no_guess: bool = False,
) -> list[str]:
    """Return the reasons why the estimates may be better than the nets are.

    Three rules. Samples in the folder `train` trained the nets or, held out, chose the
    checkpoints. Samples in `valid` chose the checkpoints if the run was validated on
    `valid`, and so may samples in a folder of unknown split. On MURA's public
    validation set, a kappa looks like leakage if its whole interval is above every open
    reproduction by more than seeds differ. There are no published kappas of other data,
    so the third rule applies to a study type only if it has about as many normal and
    abnormal studies as MURA's validation set.

    Args:
        samples: What was evaluated.
        estimates: What `evaluate_by_study_type` returned for the samples.
        validated_on: The split that chose the checkpoints, as in run.json under
            `validated_on`: `valid`, `holdout`, or None if unknown.
        needs_no_guess: Whether the first two rules say nothing: the record of the table
            tells what the nets have seen of the samples (`provenance.Seen`), or a net
            was not trained here, so that any sample may have trained it.

    Returns:
        One sentence per warning, without a capital letter and a full stop.
    """
    guessed = [] if needs_no_guess else _checkpoint_warnings(samples, validated_on)
    return [*guessed, *_implausible_kappas(samples, estimates)]


def _checkpoint_warnings(
    samples: EvaluationSet, validated_on: str | None
) -> Iterator[str]:
    """Yield warnings if samples trained the nets or may have chosen the checkpoints."""
    trained = samples.splits.count("train")
    plural = PLURAL[samples.level]
    if trained:
        yield (
            f"{trained} of the {len(samples.labels)} {plural} are in train/: they "
            f"trained the nets or, held out, chose the checkpoints"
        )
    if validated_on == "valid" and "valid" in samples.splits:
        yield (
            f"the validation set also chose the checkpoints, so these estimates are "
            f"too good: {_REMEDY}"
        )
    elif validated_on is None and "valid" in samples.splits:
        yield (
            f"if the run was validated on valid, that split also chose the "
            f"checkpoints, and these estimates are too good: {_REMEDY}"
        )
    elif validated_on == "valid" and not all(samples.splits):
        yield (
            f"the checkpoints were chosen on valid, and the paths do not show whether "
            f"these {plural} are from it: if they are, these estimates are too good: "
            f"{_REMEDY}"
        )


def _implausible_kappas(
    samples: EvaluationSet, estimates: Mapping[str, Sequence[Estimate]]
) -> Iterator[str]:
    """Yield a warning per kappa that is too good for MURA's public validation set."""
    if samples.level != "study":
        return  # the reproductions publish kappas of studies
    for name, published in REPRODUCTIONS.items():
        chosen = samples.select(name)
        counts = ((chosen.labels == 0).sum(), (chosen.labels == 1).sum())
        is_similar = np.isclose(counts, published[:2], rtol=_MISSING_SHARE, atol=0)
        if name not in estimates or not is_similar.all():
            continue
        if set(chosen.splits) - {"", "valid"}:
            continue
        kappa = next(each for each in estimates[name] if each.name == "kappa")
        # Without a single mistake the interval is undefined, and leakage most likely.
        lowest = kappa.value if math.isnan(kappa.low) else kappa.low
        if lowest > published.kappa + SEED_SPREAD:
            yield (
                f"{name}: a kappa of {kappa.value:.3f} on what seems to be MURA's "
                f"public validation set looks like leakage: open reproductions reach "
                f"{published.kappa:.3f} at most; check that none of its patients "
                f"trained the nets"
            )
