"""Figures of merit over studies: Cohen's kappa, AUROC, study means. Knows no files.

What is undefined (one class only) is NaN, never a number.
"""

from __future__ import annotations

import math
from typing import Hashable, Sequence

import numpy as np
from sklearn.metrics import cohen_kappa_score, roc_auc_score


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

    NaN where it is undefined: both sides hold one and the same class only.
    """
    if len(np.union1d(labels, predictions)) < 2:
        return math.nan
    return float(cohen_kappa_score(labels, predictions))


def auroc(labels: np.ndarray, prob: np.ndarray) -> float:
    """Area under the ROC curve of (N,) probabilities; NaN with one class only."""
    if len(np.unique(labels)) < 2:
        return math.nan
    return float(roc_auc_score(labels, prob))
