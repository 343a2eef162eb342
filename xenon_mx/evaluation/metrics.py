"""Metrics: kappa, AUROC, sensitivity, predictive values, calibration error and others.

Owns the definition of each metric, as scikit-learn computes it, and where it is
undefined: NaN (with one class only), never a number; must not know files.
"""

from __future__ import annotations

import math

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

# In the order of the rows of --figures.
METRICS = (
    "kappa",
    "AUROC",
    "sensitivity",
    "specificity",
    "accuracy",
    "F1",
    "Brier score",
    "calibration error",
    "PPV",
    "NPV",
    "average precision",
)
# The expected calibration error depends on the number of bins: ten of equal width, as
# in Naeini et al., AAAI 2015.
BINS = 10


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, float64, without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(values, np.float64)))


def kappa(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Compute Cohen's unweighted kappa of (N,) labels and predictions of 0 and 1.

    NaN if the labels are of one class only: the formula gives 0 (or 0/0) for them,
    however good the predictions are.
    """
    if len(np.unique(labels)) < 2:
        return math.nan
    return float(cohen_kappa_score(labels, predictions))


def auroc(labels: np.ndarray, prob: np.ndarray) -> float:
    """Compute the area under the ROC curve, (N,) each; NaN with one class only."""
    if len(np.unique(labels)) < 2:
        return math.nan
    return float(roc_auc_score(labels, prob))


def average_precision(labels: np.ndarray, prob: np.ndarray) -> float:
    """Compute the average precision, (N,) each; NaN with one class only.

    The precision at each distinct probability, weighted by the increase of recall:
    without interpolation between points (Davis and Goadrich, ICML 2006).
    """
    if len(np.unique(labels)) < 2:
        return math.nan
    return float(average_precision_score(labels, prob))


def predictive_value(
    labels: np.ndarray, predictions: np.ndarray, prediction: int
) -> float:
    """Compute the share of the samples of one prediction whose label is the same.

    Args:
        labels: (N,) of 0 and 1.
        predictions: (N,) of 0 and 1.
        prediction: 1 for the positive predictive value (PPV, precision), 0 for the
            negative one (NPV).

    Returns:
        NaN with labels of one class only, and if nothing has this prediction.
    """
    if len(np.unique(labels)) < 2 or not (predictions == prediction).any():
        return math.nan
    return float(precision_score(labels, predictions, pos_label=prediction))


def predictive_values_at(
    prevalence: float, sensitivity: np.ndarray, specificity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute PPV and NPV at another prevalence than that of the samples.

    By Bayes' theorem (Altman and Bland, BMJ 1994;309:102), which assumes that
    sensitivity and specificity are the same at that prevalence.

    Args:
        prevalence: The share of abnormal samples, above 0 and below 1.
        sensitivity: (R,), 0 to 1 or NaN.
        specificity: (R,), 0 to 1 or NaN.

    Returns:
        PPV and NPV, (R,) each; NaN where either is undefined, PPV where no sample would
        be called abnormal, and NPV where none would be called normal.
    """
    true_positive = prevalence * sensitivity
    false_negative = prevalence * (1 - sensitivity)
    true_negative = (1 - prevalence) * specificity
    false_positive = (1 - prevalence) * (1 - specificity)
    return (
        _share(true_positive, false_positive),
        _share(true_negative, false_negative),
    )


def _share(part: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Return part / (part + rest), NaN where both are 0."""
    total = np.asarray(part + rest)
    return np.divide(part, total, out=np.full(total.shape, np.nan), where=total > 0)


def compute_all(
    labels: np.ndarray, prob: np.ndarray, threshold: float
) -> dict[str, float]:
    """Compute each of `METRICS`.

    Sensitivity and F1 are undefined without an abnormal sample, specificity without a
    normal one; kappa, AUROC, average precision, PPV and NPV without both, PPV also
    without an abnormal prediction and NPV without a normal one; and all metrics without
    any sample.

    Args:
        labels: (N,) of 0 (normal) and 1 (abnormal).
        prob: (N,) probabilities of being abnormal, 0 to 1.
        threshold: A sample is called abnormal if its probability is strictly above.

    Returns:
        Name to metric, in the order of `METRICS`.
    """
    if not len(labels):
        return dict.fromkeys(METRICS, math.nan)
    predictions = (prob > threshold).astype(int)
    abnormal, normal = bool((labels == 1).any()), bool((labels == 0).any())
    values = (
        kappa(labels, predictions),
        auroc(labels, prob),
        recall_score(labels, predictions, pos_label=1) if abnormal else math.nan,
        recall_score(labels, predictions, pos_label=0) if normal else math.nan,
        accuracy_score(labels, predictions),
        f1_score(labels, predictions, zero_division=0) if abnormal else math.nan,
        brier_score_loss(labels, prob, pos_label=1),
        calibration_error(labels, prob),
        predictive_value(labels, predictions, 1),
        predictive_value(labels, predictions, 0),
        average_precision(labels, prob),
    )
    return {name: float(value) for name, value in zip(METRICS, values)}


def reliability(
    labels: np.ndarray, prob: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the points of a reliability curve, over equal bins of probability.

    Returns:
        Three (bins,) arrays: the mean probability of the samples in each bin, the share
        of abnormal samples (both float64, NaN in an empty bin), and the number of
        samples (int64).
    """
    index = bin_index(prob, bins)
    count = np.bincount(index, minlength=bins)
    divisor = np.where(count, count, np.nan)
    mean = np.bincount(index, weights=prob, minlength=bins) / divisor
    share = np.bincount(index, weights=labels, minlength=bins) / divisor
    return mean, share, count


def bin_index(prob: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return the bin of each probability, of bins of equal width: (N,) int64, from 0.

    A probability on an edge belongs to the bin below, as in scikit-learn's
    `calibration_curve`, so that none of ten bins holds both sides of 0.5.
    """
    return np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], prob)


def calibration_error(labels: np.ndarray, prob: np.ndarray, bins: int = BINS) -> float:
    """Compute the expected calibration error (Naeini et al., AAAI 2015).

    The distance between the mean probability and the share of abnormal samples in each
    bin, averaged over all samples: 0 is best, 1 worst. NaN without samples.
    """
    if not len(labels):
        return math.nan
    mean, share, count = reliability(labels, prob, bins)
    return float(np.nansum(count * np.abs(mean - share)) / count.sum())
