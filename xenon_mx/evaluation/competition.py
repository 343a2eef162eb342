"""Kappa and its interval as the scorer of the MURA competition prints them.

Owns the scorer's formula, its error included; must not know our own estimates.
"""

from __future__ import annotations

import math

import numpy as np

from xenon_mx.config import THRESHOLD
from xenon_mx.errors import XenonError
from xenon_mx.evaluation.evaluation_set import EvaluationSet

# The scorer's names of the study types; it searches the study's path for them.
_PARTS = ("Elbow", "Finger", "Forearm", "Hand", "Humerus", "Shoulder", "Wrist")
_NORMAL_QUANTILE = 1.96  # as the scorer rounds it


def competition_scores(
    samples: EvaluationSet, threshold: float = THRESHOLD
) -> dict[str, float]:
    """Compute what the scorer of the MURA competition would print.

    Source: evaluate.py in stanfordmlgroup.github.io/competitions/mura. Its intervals
    are wrong and far too narrow: they are 1.96 variances of kappa wide on either side,
    without the square root that makes a variance a standard error. Use them only for
    comparison with the paper and the leaderboard, which print them.

    Args:
        samples: Studies.
        threshold: A study is called abnormal if its probability is strictly above.

    Returns:
        `Elbow_Mean`, `Elbow_Lower`, `Elbow_Upper` and so on for the seven parts by
        name, then `Overall_*`, pooled over all studies. NaN for a part without studies,
        or whose labels and predictions are all of one class: the scorer fails on it.

    Raises:
        XenonError: The samples are images.
    """
    if samples.level != "study":
        raise XenonError("the competition scores studies: give OUT.csv, not --images")
    predictions = samples.prob > threshold
    labels = samples.labels == 1
    scores: dict[str, float] = {}
    for part in (*_PARTS, "Overall"):
        substring = "" if part == "Overall" else part.upper()
        chosen = np.array([substring in name for name in samples.study_types], bool)
        values = _kappa_with_interval(labels[chosen], predictions[chosen])
        for key, value in zip(("Mean", "Lower", "Upper"), values):
            scores[f"{part}_{key}"] = value
    return scores


def _kappa_with_interval(
    labels: np.ndarray, predictions: np.ndarray
) -> tuple[float, float, float]:
    """Compute kappa of (N,) bools, and the two ends of the scorer's interval."""
    if len(np.union1d(labels, predictions)) < 2:
        return math.nan, math.nan, math.nan
    observed = float((labels == predictions).mean())
    abnormal, predicted = float(labels.mean()), float(predictions.mean())
    expected = abnormal * predicted + (1 - abnormal) * (1 - predicted)
    kappa = (observed - expected) / (1 - expected)
    variance = observed * (1 - observed) / (len(labels) * (1 - expected) ** 2)
    margin = _NORMAL_QUANTILE * variance  # the scorer's error: no square root
    return kappa, kappa - margin, kappa + margin
