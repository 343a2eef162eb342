"""Simulated patients whose studies resemble one another, and the truth about them.

The logit of a study is above 0 if it is abnormal, else below, plus an effect of its
patient, normal with standard deviation `spread`, plus a noise of 1; it is `SHIFT`
standard deviations above or below, so that the AUROC is 0.955 whatever the spread is. A
probability is the sigmoid of a tenth of the logit, so that none is 0 or 1. Where sizes
are `informative`, the patients whose studies look most normal have the most of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from xenon_mx.evaluation import metrics
from xenon_mx.evaluation.evaluation_set import EvaluationSet

SHIFT = 1.2
SIZES = (1, 2, 3, 4)
POPULATION = 10**6  # patients


def probability(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits."""
    return metrics.sigmoid(logits / 10)


class Drawn(NamedTuple):
    """Studies: (N,) each, sorted by patient."""

    labels: np.ndarray
    logits: np.ndarray
    patients: np.ndarray

    def samples(self) -> EvaluationSet:
        """Return the studies as they are evaluated."""
        count = len(self.labels)
        return EvaluationSet(
            labels=self.labels,
            prob=probability(self.logits),
            patients=[str(number) for number in self.patients],
            study_types=["XR_A"] * count,
        )

    def worst(self, label: int) -> np.ndarray:
        """The worst probability of each patient with studies of a label, sorted."""
        own = self.labels == label
        prob, patients = probability(self.logits[own]), self.patients[own]
        starts = np.flatnonzero(np.concatenate([[True], np.diff(patients) > 0]))
        reduce = np.minimum if label else np.maximum
        return np.sort(reduce.reduceat(prob, starts))


def draw(
    random: np.random.RandomState,
    patients: int,
    spread: float,
    informative: bool = False,
    labels: int | None = None,
) -> Drawn:
    """Draw patients; `labels` is that of all studies, or None for half of each."""
    effect = random.randn(patients) * spread
    sizes = random.choice(SIZES, patients)
    if informative:
        sizes = np.where(effect < -spread / 2, max(SIZES), sizes)
    index = np.repeat(np.arange(patients), sizes)
    drawn = random.randint(0, 2, len(index))
    truth = drawn if labels is None else np.full(len(index), labels)
    shift = SHIFT * np.hypot(spread, 1) * (2 * truth - 1)
    logits = shift + effect[index] + random.randn(len(index))
    return Drawn(truth, logits, index)


def true_sensitivity(threshold: float, spread: float) -> float:
    """Return the share of abnormal studies above a threshold, in closed form."""
    logit = 10 * (np.log(threshold) - np.log1p(-threshold))
    deviation = np.hypot(spread, 1)
    return float(stats.norm.sf(logit, SHIFT * deviation, deviation))


def share_above(sorted_values: np.ndarray, limit: float) -> float:
    """Return the share of sorted values that is strictly above a limit."""
    return 1 - np.searchsorted(sorted_values, limit, side="right") / len(sorted_values)


def share_below(sorted_values: np.ndarray, limit: float) -> float:
    """Return the share of sorted values that is strictly below a limit."""
    return float(np.searchsorted(sorted_values, limit) / len(sorted_values))
