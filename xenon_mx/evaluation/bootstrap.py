"""How sure a figure is: 95% intervals by drawing the patients anew, many times.

Studies of one patient resemble one another, so what is drawn is patients, with all of
their cases: drawing studies would give intervals that are too narrow. A draw of
patients with replacement is a count for each of them, and a figure over the drawn cases
is the figure over all cases, weighted by these counts. So thousands of draws are a few
products of matrices; the closed forms here are scikit-learn's figures, weighted.

Owns the draws and the intervals. Knows no files and no study types.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

import numpy as np

from xenon_mx.evaluation import metrics

LEVEL = 0.95
# An interval leaves 5% of the draws outside. Were a figure undefined in more of them
# than that, they alone would decide where its ends lie.
_DEFINED = LEVEL
# With fewer draws than this, not even one lies beyond either end of the interval.
_FEWEST = 40
# Draws that differ by less than this differ by rounding only.
_ROUNDING = 1e-12
# Weights held at once, 8 bytes each: keeps 36,808 images x 1,000 draws in 32 MB a copy.
_CELLS = 4_000_000


class Interval(NamedTuple):
    """A percentile interval, NaN where undefined; `defined` counts the draws used."""

    low: float
    high: float
    defined: int


def percentile_interval(values: np.ndarray) -> Interval:
    """Give the 95% percentile interval of a figure's (R,) draws.

    Draws in which the figure is undefined (NaN) are left out. The interval is undefined
    if they are more than 5%, if fewer than 40 draws are left, or if its ends meet: of
    one patient, or of figures without a single mistake, drawing anew tells nothing, and
    an interval of no width would claim certainty.
    """
    defined = values[~np.isnan(values)]
    nothing = Interval(math.nan, math.nan, len(defined))
    if len(defined) < max(_FEWEST, _DEFINED * len(values)):
        return nothing
    low, high = np.quantile(defined, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    if high - low < _ROUNDING:
        return nothing
    return Interval(float(low), float(high), len(defined))


def bootstrap_metrics(
    labels: np.ndarray,
    prob: np.ndarray,
    patients: Sequence[str],
    threshold: float,
    repeats: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Compute each figure of `metrics.METRICS` over many draws of the patients.

    The result does not depend on the order of the cases.

    Args:
        labels: (N,) of 0 and 1.
        prob: (N,) probabilities, 0 to 1.
        patients: The patient of each of the N cases.
        threshold: Abnormal if strictly above.
        repeats: How many draws, R; each of as many patients as there are.
        seed: Of the draws: the same one draws the same patients.

    Returns:
        Name to (R,) float64, NaN where a figure is undefined in a draw.
    """
    names, owner = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    order = np.lexsort((owner, labels, prob))
    labels, prob, owner = labels[order], prob[order], owner[order]
    # Not default_rng: the numbers of RandomState are the same in every NumPy.
    random = np.random.RandomState(seed)
    block = max(1, _CELLS // max(1, len(labels)))
    drawn = [
        weighted_metrics(
            labels, prob, _patient_counts(random, size, len(names))[:, owner], threshold
        )
        for size in _blocks(repeats, block)
    ]
    empty = np.zeros(0)
    return {
        name: np.concatenate([empty, *(each[name] for each in drawn)])
        for name in metrics.METRICS
    }


def _blocks(total: int, size: int) -> list[int]:
    """Split a total into blocks of a size and what is left."""
    return [min(size, total - start) for start in range(0, total, size)]


def _patient_counts(
    random: np.random.RandomState, repeats: int, patients: int
) -> np.ndarray:
    """Count how often each patient is drawn, (R, P) float64; rows add up to P."""
    if not patients:
        return np.zeros((repeats, 0))
    drawn = random.randint(0, patients, (repeats, patients))
    cells = drawn + patients * np.arange(repeats)[:, None]
    counts = np.bincount(cells.ravel(), minlength=repeats * patients)
    return counts.reshape(repeats, patients).astype(np.float64)


def weighted_metrics(
    labels: np.ndarray, prob: np.ndarray, weights: np.ndarray, threshold: float
) -> dict[str, np.ndarray]:
    """Compute each figure of `metrics.METRICS` for many weightings of the cases.

    Args:
        labels: (N,) of 0 and 1.
        prob: (N,) probabilities, 0 to 1.
        weights: (R, N) counts of each case, in each of R weightings.
        threshold: Abnormal if strictly above.

    Returns:
        Name to (R,) float64, NaN where a figure is undefined.
    """
    truth, called = labels == 1, prob > threshold
    outcomes = (truth & called, ~truth & called, truth & ~called, ~truth & ~called)
    tp, fp, fn, tn = (weights @ each.astype(np.float64) for each in outcomes)
    abnormal, normal, total = tp + fn, fp + tn, tp + fp + fn + tn
    # Cohen's (pa - pe) / (1 - pe), multiplied out: all integers, so exactly 0 or not.
    disagreement = (tp + fp) * normal + abnormal * (fn + tn)
    both = (abnormal > 0) & (normal > 0)
    values = (
        _divide(2 * (tp * tn - fp * fn), disagreement, both),
        _auroc(truth, prob, weights),
        _divide(tp, abnormal, abnormal > 0),
        _divide(tn, normal, normal > 0),
        _divide(tp + tn, total, total > 0),
        _divide(2 * tp, 2 * tp + fp + fn, abnormal > 0),
        _divide(weights @ (prob - labels) ** 2, total, total > 0),
        _divide(_gaps(labels, prob, weights), total, total > 0),
    )
    return dict(zip(metrics.METRICS, values))


def _auroc(truth: np.ndarray, prob: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Count, of all pairs of an abnormal and a normal case, those in order.

    A tie counts half: the Mann-Whitney statistic, which is the area.
    """
    if not len(prob):
        return np.full(len(weights), np.nan)
    order = np.argsort(prob, kind="stable")
    truth, prob, weights = truth[order], prob[order], weights[:, order]
    # Cases of one probability stand together: `starts` is where each group begins.
    starts = np.flatnonzero(np.concatenate([[True], prob[1:] != prob[:-1]]))
    abnormal = np.add.reduceat(weights * truth, starts, axis=1)
    normal = np.add.reduceat(weights * ~truth, starts, axis=1)
    below = np.cumsum(normal, axis=1) - normal
    in_order = (abnormal * (below + normal / 2)).sum(axis=1)
    pairs = abnormal.sum(axis=1) * normal.sum(axis=1)
    return _divide(in_order, pairs, pairs > 0)


def _gaps(labels: np.ndarray, prob: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Add up over the bins how far probabilities and labels are apart: (R,)."""
    in_bin = np.eye(metrics.BINS)[metrics.bin_index(prob)]
    apart: np.ndarray = weights @ (in_bin * (prob - labels)[:, None])
    return np.abs(apart).sum(axis=1)


def _divide(above: np.ndarray, below: np.ndarray, defined: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=defined)
