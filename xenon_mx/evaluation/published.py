"""Published results on MURA: the paper, its radiologists, open reproductions.

Owns published numbers and their sources; must not know anything else. Only
`REPRODUCTIONS` can be of the same data as a user's predictions: of MURA's public
validation set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Kappa(NamedTuple):
    """A kappa and its 95% interval, as printed."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Paper:
    """The paper's metrics of its model and of three radiologists.

    Attributes:
        source: The publication.
        test_set: What they were measured on; always shown beside the metrics.
        studies: Number of studies of the test set.
        intervals: What is wrong with the printed intervals.
        kappa: Reader to study type (`overall` is pooled over studies) to kappa.
        auroc: The model's area under the ROC curve.
        sensitivity: The model's at its operating point, a probability above 0.5.
        specificity: The model's at the same operating point.
    """

    source: str
    test_set: str
    studies: int
    intervals: str
    kappa: dict[str, dict[str, Kappa]]
    auroc: float
    sensitivity: float
    specificity: float


_TYPES = (
    "XR_ELBOW",
    "XR_FINGER",
    "XR_FOREARM",
    "XR_HAND",
    "XR_HUMERUS",
    "XR_SHOULDER",
    "XR_WRIST",
    "overall",
)


def _column(*rows: tuple) -> dict[str, Kappa]:
    return {name: Kappa(*row) for name, row in zip(_TYPES, rows)}


# Kappas: table 2 of the paper, as the competition's page shows it
# (stanfordmlgroup.github.io/competitions/mura, img/kappa.png). AUROC and operating
# point: the paper's abstract. Its earlier versions have other metrics, of other data.
PAPER = Paper(
    source="Rajpurkar et al. 2018, arXiv 1712.06957v4",
    test_set=(
        "another test set: 207 hidden studies of MURA, labelled by majority vote of "
        "three other radiologists"
    ),
    studies=207,
    intervals=(
        "far too narrow, since they use a variance in place of its square root, the "
        "standard error; a correct interval for a kappa of 0.705 over 207 studies is "
        "about 0.61 to 0.80"
    ),
    kappa={
        "model": _column(
            (0.710, 0.674, 0.745),
            (0.389, 0.332, 0.446),
            (0.737, 0.707, 0.766),
            (0.851, 0.830, 0.871),
            (0.600, 0.558, 0.642),
            (0.729, 0.697, 0.760),
            (0.931, 0.922, 0.940),
            (0.705, 0.700, 0.710),
        ),
        "radiologist 1": _column(
            (0.850, 0.830, 0.871),
            (0.304, 0.249, 0.358),
            (0.796, 0.772, 0.821),
            (0.661, 0.623, 0.698),
            (0.867, 0.850, 0.883),
            (0.864, 0.847, 0.881),
            (0.791, 0.766, 0.817),
            (0.731, 0.726, 0.735),
        ),
        "radiologist 2": _column(
            (0.710, 0.674, 0.745),
            (0.403, 0.339, 0.467),
            (0.802, 0.779, 0.825),
            (0.927, 0.917, 0.937),
            (0.733, 0.703, 0.764),
            (0.791, 0.765, 0.816),
            (0.931, 0.922, 0.940),
            (0.763, 0.759, 0.767),
        ),
        "radiologist 3": _column(
            (0.719, 0.685, 0.752),
            (0.410, 0.358, 0.463),
            (0.798, 0.774, 0.822),
            (0.789, 0.762, 0.815),
            (0.933, 0.925, 0.942),
            (0.864, 0.847, 0.881),
            (0.931, 0.922, 0.940),
            (0.778, 0.774, 0.782),
        ),
    },
    auroc=0.929,
    sensitivity=0.815,
    specificity=0.887,
)


class Reproduction(NamedTuple):
    """Size of MURA's public validation set, and the best published kappa on it.

    Attributes:
        normal: Number of normal studies.
        abnormal: Number of abnormal studies.
        kappa: The highest kappa of a repository that publishes its code.
    """

    normal: int
    abnormal: int
    kappa: float


# Counts: table 1 of the paper. Kappas: github.com/pengshiqi/MURA, its best for each
# study type, and its best mean over study types for `overall`; no other repository
# that publishes its code was found to report higher ones.
REPRODUCTIONS = {
    "XR_ELBOW": Reproduction(92, 66, 0.746),
    "XR_FINGER": Reproduction(92, 83, 0.608),
    "XR_FOREARM": Reproduction(69, 64, 0.711),
    "XR_HAND": Reproduction(101, 66, 0.540),
    "XR_HUMERUS": Reproduction(68, 67, 0.778),
    "XR_SHOULDER": Reproduction(99, 95, 0.576),
    "XR_WRIST": Reproduction(140, 97, 0.770),
    "overall": Reproduction(661, 538, 0.680),
}
# About how much the kappas of single nets trained alike differ, according to the
# reproductions: a kappa above the published ones by no more than this is plausible.
SEED_SPREAD = 0.04
