"""Figures of merit: kappa, AUROC, calibration and their like, and study means.

Owns what each figure is, as scikit-learn computes it, and where it is undefined: NaN
then (one class only), never a number. Knows no files.
"""

from __future__ import annotations

import math
from typing import Hashable, Sequence

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    recall_score,
    roc_auc_score,
)

# In the order in which tables show them.
METRICS = (
    "kappa",
    "AUROC",
    "sensitivity",
    "specificity",
    "accuracy",
    "F1",
    "Brier score",
    "calibration error",
)
# The expected calibration error depends on the number of bins; ten equal ones are the
# custom since Naeini et al., AAAI 2015.
BINS = 10


def study_means(
    studies: Sequence[Hashable], values: np.ndarray
) -> tuple[list[Hashable], np.ndarray]:
    """Average over the images of each study.

    Args:
        studies: The study of each of N images; they need not stand together.
        values: (N,) or (N, K).

    Returns:
        The S studies in order of first appearance, and their means, (S,) or (S, K)
        float64.
    """
    order = {study: i for i, study in enumerate(dict.fromkeys(studies))}
    index = np.array([order[study] for study in studies], dtype=np.int64)
    values = np.asarray(values, dtype=np.float64)
    sums = np.zeros((len(order), *values.shape[1:]))
    np.add.at(sums, index, values)
    counts = np.bincount(index, minlength=len(order)).astype(np.float64)
    return list(order), (sums.T / counts).T


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Turn logits into probabilities, float64, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(values, np.float64)))


def kappa(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Cohen's unweighted kappa between (N,) labels and predictions of 0 and 1.

    NaN with labels of one class only: the formula gives 0 then (or 0/0), however good
    the predictions are.
    """
    if len(np.unique(labels)) < 2:
        return math.nan
    return float(cohen_kappa_score(labels, predictions))


def auroc(labels: np.ndarray, prob: np.ndarray) -> float:
    """Area under the ROC curve of (N,) probabilities; NaN with one class only."""
    if len(np.unique(labels)) < 2:
        return math.nan
    return float(roc_auc_score(labels, prob))


def compute_all(
    labels: np.ndarray, prob: np.ndarray, threshold: float
) -> dict[str, float]:
    """Compute each of `METRICS`.

    Sensitivity and F1 are undefined without an abnormal case, specificity without a
    normal one, kappa and AUROC without both, all of them without any case.

    Args:
        labels: (N,) of 0 (normal) and 1 (abnormal).
        prob: (N,) probabilities of being abnormal, 0 to 1.
        threshold: Abnormal if strictly above.

    Returns:
        Name to figure, in the order of `METRICS`.
    """
    if not len(labels):
        return dict.fromkeys(METRICS, math.nan)
    called = (prob > threshold).astype(int)
    abnormal, normal = bool((labels == 1).any()), bool((labels == 0).any())
    values = (
        kappa(labels, called),
        auroc(labels, prob),
        recall_score(labels, called, pos_label=1) if abnormal else math.nan,
        recall_score(labels, called, pos_label=0) if normal else math.nan,
        accuracy_score(labels, called),
        f1_score(labels, called, zero_division=0) if abnormal else math.nan,
        brier_score_loss(labels, prob, pos_label=1),
        calibration_error(labels, prob),
    )
    return {name: float(value) for name, value in zip(METRICS, values)}


def reliability(
    labels: np.ndarray, prob: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the points of a reliability curve, over equal bins of probability.

    Returns:
        Three (bins,) arrays: the mean probability of the cases in each bin, the share
        of them that is abnormal (both float64, NaN in an empty bin), and how many they
        are (int64).
    """
    index = bin_index(prob, bins)
    count = np.bincount(index, minlength=bins)
    some = np.where(count, count, np.nan)
    mean = np.bincount(index, weights=prob, minlength=bins) / some
    share = np.bincount(index, weights=labels, minlength=bins) / some
    return mean, share, count


def bin_index(prob: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Tell which of the equal bins each probability lies in: (N,) int64, from 0.

    A probability on an edge belongs to the bin below, as in scikit-learn's
    `calibration_curve`, so that none of ten bins holds both sides of 0.5.
    """
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], prob)


def calibration_error(labels: np.ndarray, prob: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error (Naeini et al., AAAI 2015).

    The mean over all cases of the distance, in their bin, between mean probability and
    share of abnormal ones: 0 is best, 1 worst. NaN without cases.
    """
    if not len(labels):
        return math.nan
    mean, share, count = reliability(labels, prob, bins)
    return float(np.nansum(count * np.abs(mean - share)) / count.sum())
