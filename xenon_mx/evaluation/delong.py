"""DeLong's test: whether the AUROCs of two sets of predictions differ.

Owns the test alone; must not know patients: it assumes independent samples. Where
patients have several studies it claims too much, see `comparison`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from xenon_mx.evaluation.bootstrap import LEVEL

# Of one class, DeLong's variance is the sample variance of the samples' shares.
_FEWEST_OF_A_CLASS = 2
_ROUNDING = 1e-12  # a variance below it is of AUROCs that never differ


class DeLong(NamedTuple):
    """The test of two AUROCs; NaN is undefined.

    Attributes:
        first: The first AUROC.
        second: The second AUROC.
        low: The lower end of the 95% interval of first - second.
        high: The upper end.
        z: The difference divided by its standard error.
        p: The two-sided p-value.
    """

    first: float
    second: float
    low: float
    high: float
    z: float
    p: float


def delong(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> DeLong:
    """Compute DeLong's test of two AUROCs of the same samples.

    DeLong, DeLong and Clarke-Pearson, Biometrics 1988;44:837-845, in the form of Sun
    and Xu, IEEE Signal Processing Letters 2014;21:1389-1393: by ranks, in n log n.

    Args:
        labels: (N,) of 0 and 1.
        first: (N,) probabilities of the one ensemble.
        second: (N,) probabilities of the other.

    Returns:
        The AUROCs are undefined with one class only; the rest also with fewer than two
        samples of a class, and if the AUROCs cannot differ, as of equal probabilities.
    """
    abnormal = labels == 1
    counts = (int(abnormal.sum()), int((~abnormal).sum()))
    if min(counts) < 1:
        return _undefined(math.nan, math.nan)
    of_abnormal, of_normal = zip(*(_shares(abnormal, prob) for prob in (first, second)))
    area, other = (float(shares.mean()) for shares in of_abnormal)
    if min(counts) < _FEWEST_OF_A_CLASS:
        return _undefined(area, other)
    variance = sum(
        np.var(shares[0] - shares[1], ddof=1) / count
        for shares, count in zip((of_abnormal, of_normal), counts)
    )
    if variance < _ROUNDING:
        return _undefined(area, other)
    error, difference = math.sqrt(variance), area - other
    z = difference / error
    margin = float(stats.norm.ppf((1 + LEVEL) / 2)) * error
    p = 2 * float(stats.norm.sf(abs(z)))
    return DeLong(area, other, difference - margin, difference + margin, z, p)


def _undefined(first: float, second: float) -> DeLong:
    """Return two AUROCs without a test."""
    return DeLong(first, second, math.nan, math.nan, math.nan, math.nan)


def _shares(abnormal: np.ndarray, prob: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the share of the other class that each sample is in order with.

    A tie counts half. DeLong's structural components, from midranks: a sample's rank
    among all minus its rank in its class counts the other class below it.

    Returns:
        Of each abnormal sample, the share of normal ones below it; of each normal
        sample, the share of abnormal ones above it.
    """
    ranks = stats.rankdata(prob)
    below_abnormal = ranks[abnormal] - stats.rankdata(prob[abnormal])
    below_normal = ranks[~abnormal] - stats.rankdata(prob[~abnormal])
    of_abnormal = below_abnormal / len(below_normal)
    return of_abnormal, 1 - below_normal / len(below_abnormal)
