"""How good predictions are, and how sure that is: figures with intervals.

Owns the figures of each study type and of all of them pooled, the competition's own
scores, and what makes figures doubtful. The sums are of `metrics` and `bootstrap`, what
is evaluated of `cases`. Knows no nets, no runs and no pages.
"""

from __future__ import annotations

import math
from typing import Iterator, Mapping, NamedTuple, Sequence

import numpy as np

from xenon_mx.config import THRESHOLD
from xenon_mx.errors import XenonError
from xenon_mx.evaluation import bootstrap, metrics
from xenon_mx.evaluation.evaluation_set import OVERALL as OVERALL
from xenon_mx.evaluation.evaluation_set import EvaluationSet as Cases
from xenon_mx.evaluation.evaluation_set import read_predictions as read_predictions
from xenon_mx.evaluation.prediction_tables import PLURAL
from xenon_mx.evaluation.published import PAPER as PAPER
from xenon_mx.evaluation.published import REPRODUCTIONS, SEED_SPREAD

REPEATS = 1000  # seeds then move an end of an interval by about 0.02 of its width
# Measured on simulated nets, 300 of each size: of 3 patients, the intervals of kappa
# held the true one in 87% of cases, of 5 to 60 patients in 91 to 97%.
_FEWEST_PATIENTS = 5

# The names of the competition's scorer; it looks for them in the study's path.
_PARTS = ("Elbow", "Finger", "Forearm", "Hand", "Humerus", "Shoulder", "Wrist")
_NORMAL_QUANTILE = 1.96  # as the scorer rounds it
# How much a user's copy of the public validation set may have lost, chosen here.
_ALIKE = 0.05


class Estimate(NamedTuple):
    """A figure of merit and its 95% interval; NaN is undefined."""

    name: str
    value: float
    low: float
    high: float


def evaluate(
    cases: Cases,
    threshold: float = THRESHOLD,
    repeats: int = REPEATS,
    seed: int = 0,
) -> list[Estimate]:
    """Compute every figure over all the cases, with a 95% interval.

    The interval is the percentile one of a bootstrap over patients: all cases of a
    patient are drawn together. Draws in which a figure is undefined are left out;
    `bootstrap.percentile_interval` says when too few are left; of fewer than five
    patients there is none. That of the calibration error lies too high, since cases
    drawn twice make every bin look less calibrated than it is.

    Args:
        cases: Studies or images.
        threshold: Abnormal if the probability is strictly above.
        repeats: How often the patients are drawn; 0 leaves all intervals undefined.
        seed: Of the draws. The order of the cases does not matter.

    Returns:
        A figure for each of `metrics.METRICS`, in that order.
    """
    labels, prob = cases.labels, cases.prob
    if len(set(cases.patients)) < _FEWEST_PATIENTS:
        repeats = 0
    values = metrics.compute_all(labels, prob, threshold)
    drawn = bootstrap.bootstrap_metrics(
        labels, prob, cases.patients, threshold, repeats, seed
    )
    found = []
    for name in metrics.METRICS:
        interval = bootstrap.percentile_interval(drawn[name])
        found.append(Estimate(name, values[name], interval.low, interval.high))
    return found


def evaluate_by_study_type(
    cases: Cases,
    threshold: float = THRESHOLD,
    repeats: int = REPEATS,
    seed: int = 0,
) -> dict[str, list[Estimate]]:
    """Compute the figures of each study type, by name, and pooled: `overall`, last."""
    names = [*sorted(set(cases.study_types)), OVERALL]
    return {n: evaluate(cases.select(n), threshold, repeats, seed) for n in names}


def reliability(
    cases: Cases, bins: int = metrics.BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the points of the reliability curve over equal bins of probability.

    Returns:
        (bins,) each: mean predicted probability, share abnormal (NaN in an empty bin),
        and the number of cases.
    """
    return metrics.reliability(cases.labels, cases.prob, bins)


def competition_scores(cases: Cases, threshold: float = THRESHOLD) -> dict[str, float]:
    """Compute what the scorer of the MURA competition would print: not our figures.

    Source: evaluate.py in stanfordmlgroup.github.io/competitions/mura. Its intervals
    are wrong, and far too narrow: they take 1.96 variances of kappa, without the square
    root that would make them standard errors. They are here to be compared with the
    paper and the leaderboard, which print them, and for nothing else.

    Args:
        cases: Studies.
        threshold: Abnormal if the probability is strictly above.

    Returns:
        `Elbow_Mean`, `Elbow_Lower`, `Elbow_Upper` and so on, the seven parts by name,
        then `Overall_*`, pooled over all studies. Of a part that has no studies, or
        whose labels and predictions are all of one and the same class, the scorer
        makes an error; here it is NaN.

    Raises:
        XenonError: The cases are images.
    """
    if cases.level != "study":
        raise XenonError("the competition scores studies: give OUT.csv, not --images")
    called = cases.prob > threshold
    truth = cases.labels == 1
    scores: dict[str, float] = {}
    for part in (*_PARTS, "Overall"):
        name = "" if part == "Overall" else part.upper()
        chosen = np.array([name in each for each in cases.study_types], dtype=bool)
        found = _as_the_scorer(truth[chosen], called[chosen])
        for key, value in zip(("Mean", "Lower", "Upper"), found):
            scores[f"{part}_{key}"] = value
    return scores


def _as_the_scorer(truth: np.ndarray, called: np.ndarray) -> tuple[float, float, float]:
    """Kappa, and the scorer's interval of it."""
    if len(np.union1d(truth, called)) < 2:
        return math.nan, math.nan, math.nan
    agreed = float((truth == called).mean())
    positive, predicted = float(truth.mean()), float(called.mean())
    chance = positive * predicted + (1 - positive) * (1 - predicted)
    kappa = (agreed - chance) / (1 - chance)
    variance = agreed * (1 - agreed) / (len(truth) * (1 - chance) ** 2)
    margin = _NORMAL_QUANTILE * variance  # the scorer's error: no square root
    return kappa, kappa - margin, kappa + margin


def leakage_warnings(
    cases: Cases,
    found: Mapping[str, Sequence[Estimate]],
    validated_on: str | None = None,
) -> list[str]:
    """Say why figures may be better than the nets are.

    Three rules. Cases of the folder `train` trained the nets, or, held out, chose the
    checkpoints. Cases of `valid` chose them if the run was validated on `valid`, and
    so may those whose folder is not told. And on MURA's public validation set, a kappa
    whose whole interval is further above every open reproduction than seeds differ
    looks like leakage; other data has no figures to compare with, so the rule holds for
    a study type only where it has about as many normal and abnormal studies as there.

    Args:
        cases: What was evaluated.
        found: What `evaluate_by_study_type` found.
        validated_on: The split that chose the checkpoints, as run.json names it under
            `validated_on`: `valid`, `holdout`, or None if unknown.

    Returns:
        A sentence each, and none if there is nothing to say.
    """
    said = []
    trained = cases.splits.count("train")
    if trained:
        said.append(
            f"{trained} of the {len(cases.labels)} {PLURAL[cases.level]} lie in "
            f"train/: they trained the nets or, held out, chose the checkpoints"
        )
    remedy = "set patients aside with xenon-pack --holdout 0.1"
    if validated_on == "valid" and "valid" in cases.splits:
        said.append(
            f"the validation set also chose the checkpoints, so that these figures are "
            f"too good: {remedy}"
        )
    elif validated_on is None and "valid" in cases.splits:
        said.append(
            f"if the run was validated on valid, that set also chose the checkpoints, "
            f"and these figures are too good; {remedy}"
        )
    elif validated_on == "valid" and not all(cases.splits):
        said.append(
            f"the folder valid chose the checkpoints, and the paths do not tell "
            f"whether these {PLURAL[cases.level]} are of it: if so, the figures are "
            f"too good; {remedy}"
        )
    return [*said, *_leaks(cases, found)]


def _leaks(cases: Cases, found: Mapping[str, Sequence[Estimate]]) -> Iterator[str]:
    """Name the kappas that are too good for MURA's public validation set."""
    if cases.level != "study":
        return  # the reproductions publish figures of studies
    for name, published in REPRODUCTIONS.items():
        chosen = cases.select(name)
        counts = ((chosen.labels == 0).sum(), (chosen.labels == 1).sum())
        alike = np.isclose(counts, published[:2], rtol=_ALIKE, atol=0).all()
        if name not in found or not alike or set(chosen.splits) - {"", "valid"}:
            continue
        kappa = next(each for each in found[name] if each.name == "kappa")
        # Without a single mistake there is no interval, and all the more to say.
        surely = kappa.value if math.isnan(kappa.low) else kappa.low
        if surely > published.kappa + SEED_SPREAD:
            yield (
                f"{name}: a kappa of {kappa.value:.3f} on what seems to be MURA's "
                f"public validation set looks like leakage: open reproductions reach "
                f"{published.kappa:.3f} at most; make sure that none of its "
                f"patients trained the nets"
            )
