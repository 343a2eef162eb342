"""Folds: parts of the training patients, each left out of one training.

Owns which patients are in which fold and which of the others tune. Must not know files
or nets.

Patients are dealt out in the order of a hash of (seed, name), those with an abnormal
study first: parts differ by one patient at most, in all and among the abnormal ones,
and none is empty, however few patients there are. (Parts that differ in prevalence
would lower the AUROC over all of them: where more are left out, fewer have trained.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, NamedTuple, Sequence

from xenon_mx.data import mura
from xenon_mx.data.mura import Image
from xenon_mx.errors import XenonError
from xenon_mx.runtime import text

# Chosen here, as `--holdout 0.1` is in the docs: one patient of this many tunes.
_TUNING = 10


class Pooled(NamedTuple):
    """A training image, and where its record is.

    Attributes:
        image: The image.
        split: The split of the packed folder that holds it.
        number: Its record there, from 0.
    """

    image: Image
    split: str
    number: int


@dataclass(frozen=True)
class Fold:
    """The images of one training, by what it uses them for; each in the pool's order.

    Attributes:
        number: From 1.
        train: They train the net.
        tuning: They choose its checkpoints and lower its learning rate.
        left_out: They are predicted.
    """

    number: int
    train: list[Pooled]
    tuning: list[Pooled]
    left_out: list[Pooled]


def assign(pool: Sequence[Pooled], folds: int, seed: int) -> list[Fold]:
    """Return the folds of a pool of training images.

    Each patient is left out of exactly one fold, and trains or tunes in all others. An
    image whose patient is unknown is of a patient of its study's own.

    Args:
        pool: The images.
        folds: How many parts.
        seed: Of the hash.

    Raises:
        XenonError: There are too few patients.
    """
    patients = {each.image.patient_or_study for each in pool}
    if len(patients) < folds or len(patients) - -(-len(patients) // folds) < 2:
        counted = text.counted(
            len(patients), "training patient is", "training patients are"
        )
        raise XenonError(
            f"{counted} too few for --folds {folds}: each fold needs one to leave out, "
            f"one to tune and one to train on"
        )
    is_abnormal = _abnormal(pool)
    dealt = _ordered(is_abnormal, "fold", seed)
    part = {patient: index % folds + 1 for index, patient in enumerate(dealt)}
    return [
        _fold(pool, part, is_abnormal, number, seed) for number in range(1, folds + 1)
    ]


def _abnormal(pool: Sequence[Pooled]) -> dict[str, bool]:
    """Return of each patient whether a study is abnormal."""
    found: dict[str, bool] = {}
    for each in pool:
        patient = each.image.patient_or_study
        found[patient] = found.get(patient, False) or each.image.label == 1
    return found


def _ordered(is_abnormal: Mapping[str, bool], purpose: str, seed: int) -> list[str]:
    """Return the abnormal patients, then the normal ones, each in a hash's order.

    What is dealt out or drawn from this order at a constant step has both classes in
    proportion.
    """
    shuffled = mura.shuffled(is_abnormal, lambda name: f"{purpose}\0{name}", seed)
    return sorted(shuffled, key=lambda name: not is_abnormal[name])


def _fold(
    pool: Sequence[Pooled],
    part: Mapping[str, int],
    is_abnormal: Mapping[str, bool],
    number: int,
    seed: int,
) -> Fold:
    others = {name: of for name, of in is_abnormal.items() if part[name] != number}
    tuning = {*_ordered(others, f"tuning of fold {number}", seed)[::_TUNING]}
    fold = Fold(number, [], [], [])
    for each in pool:
        patient = each.image.patient_or_study
        if part[patient] == number:
            fold.left_out.append(each)
        elif patient in tuning:
            fold.tuning.append(each)
        else:
            fold.train.append(each)
    return fold
