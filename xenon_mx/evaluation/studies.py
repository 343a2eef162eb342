"""From images to studies: mean probabilities, predictions, kappa and AUROC.

Owns how the images of a study are averaged, and that the digits of the tables decide
every prediction; must not know files or nets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Hashable, NamedTuple, Sequence

import numpy as np

from xenon_mx.data.mura import Image
from xenon_mx.evaluation import metrics

UNLABELLED = -1  # in place of a label; an empty cell of a table


@dataclass(frozen=True, eq=False)
class Studies:
    """S studies in the order in which their images first appear.

    Attributes:
        names: What identifies each study.
        study_types: The study type of each.
        labels: (S,) int64: 1 abnormal, 0 normal, or `UNLABELLED`.
        prob: (S,) float64, the mean probability over the study's images.
        images: (S,) int64, the number of the study's images.
    """

    names: list[Hashable]
    study_types: list[Any]
    labels: np.ndarray
    prob: np.ndarray
    images: np.ndarray


class StudyScore(NamedTuple):
    """Kappa and AUROC over studies, NaN where undefined."""

    kappa: float
    auroc: float


def aggregate_studies(
    studies: Sequence[Hashable],
    study_types: Sequence[Any],
    labels: Sequence[int] | np.ndarray,
    prob: np.ndarray,
) -> Studies:
    """Average the probabilities over the images of each study.

    Args:
        studies: The study of each of N images; images of one study need not be
            adjacent.
        study_types: The study type of each image.
        labels: (N,) 1 abnormal, 0 normal, or `UNLABELLED`, alike within a study.
        prob: (N,) probabilities, 0 to 1.
    """
    numbers: dict[Hashable, int] = {}
    index = np.array(
        [numbers.setdefault(study, len(numbers)) for study in studies], dtype=np.int64
    )
    _, first = np.unique(index, return_index=True)
    images = np.bincount(index, minlength=len(numbers))
    sums = np.zeros(len(numbers))
    np.add.at(sums, index, np.asarray(prob, dtype=np.float64))
    return Studies(
        names=list(numbers),
        study_types=[study_types[i] for i in first],
        labels=np.asarray(labels).astype(np.int64)[first],
        prob=sums / images,
        images=images,
    )


def aggregate_images(images: Sequence[Image], prob: np.ndarray) -> Studies:
    """Average the (N,) probabilities of N images over each study."""
    return aggregate_studies(
        [image.study for image in images],
        [image.study_type for image in images],
        image_labels(images),
        prob,
    )


def image_labels(images: Sequence[Image]) -> list[int]:
    """Return the label of each image: 1 abnormal, 0 normal, or `UNLABELLED`."""
    return [UNLABELLED if image.label is None else image.label for image in images]


def format_probability(prob: float) -> str:
    """Return a probability with nine significant digits, as in the tables.

    Nine are enough to recompute the loss to 1e-6.
    """
    return f"{prob:.9g}"


def predict(prob: np.ndarray, threshold: float) -> np.ndarray:
    """Return 1 where a probability is above the threshold, else 0: (N,) int64.

    The probabilities are rounded to the digits of the tables first, since a reader of a
    table has no others.
    """
    return (rounded(prob) > threshold).astype(np.int64)


def threshold_between(low: float, high: float) -> float:
    """Return a threshold from low up to, but not including, high, in tables' digits.

    Another engine computes a study's probability with another last digit; halfway
    between two studies, that changes no prediction.
    """
    found = float(format_probability((low + high) / 2))
    return found if low <= found < high else low


def score(labels: np.ndarray, prob: np.ndarray, threshold: float) -> StudyScore:
    """Compute kappa and AUROC from the digits of the tables.

    Args:
        labels: (S,) of 0 and 1.
        prob: (S,) probabilities, 0 to 1.
        threshold: A study is called abnormal if its probability is strictly above.
    """
    return StudyScore(
        metrics.kappa(labels, predict(prob, threshold)),
        metrics.auroc(labels, rounded(prob)),
    )


def rounded(prob: np.ndarray) -> np.ndarray:
    """Return (N,) probabilities with the digits that the tables have."""
    digits = [float(format_probability(value)) for value in prob]
    return np.array(digits, dtype=np.float64)
