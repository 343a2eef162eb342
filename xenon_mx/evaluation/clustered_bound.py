"""A lower bound of a share, such as the sensitivity, over studies of several patients.

Owns the bound, and the number of patients that it needs; must not know thresholds.

Korn and Graubard, "Confidence intervals for proportions with small expected number of
positive counts estimated from survey data", Survey Methodology 24, 1998: the bound of
Clopper and Pearson (Biometrika 26, 1934), computed for the *effective* number of
studies: the number divided by the design effect, which is the factor by which the
variance exceeds that of as many studies of different patients.
"""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np
from scipy import special

LEVEL = 0.95  # the share is above the bound in at least 95% of repetitions
# Measured on simulated patients, 2,000 repetitions: with the variance of one patient
# with a miss or more, a bound held in 91% of them where studies of a patient were
# almost alike; with that of three, in 95%, with that of five, in 96% or more.
_FEWEST_MISSED_PATIENTS = 5


def fewest_patients(target: float) -> int:
    """Return how many patients a bound at a target needs if nothing is missed.

    The bound of n out of n is 0.05 ** (1 / n).
    """
    return math.ceil(math.log(1 - LEVEL) / math.log(target))


def lower_bounds(patients: Sequence[str]) -> np.ndarray:
    """Compute the one-sided 95% lower bound of the share that is not missed.

    While fewer than five patients have a missed study, the variance between patients is
    not estimated: studies of one patient then count as if they were missed together.

    Args:
        patients: The patient of each of N studies, in the order in which they are
            missed.

    Returns:
        (N + 1,) float64: the bound when none, the first, the first two, ... are missed.
    """
    _, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    sizes = np.bincount(index)
    share = 1 - np.arange(len(index) + 1) / len(index)
    effective = _effective_number(index, sizes, share)
    right = share * effective
    bounds = np.zeros(len(share))
    some = right > 0
    wrong = effective[some] - right[some]
    bounds[some] = special.betaincinv(right[some], wrong + 1, 1 - LEVEL)
    return bounds


def _effective_number(
    index: np.ndarray, sizes: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """Compute the effective number of studies after each miss: (N + 1,) float64.

    Args:
        index: (N,) the patient of each study, in the order in which they are missed.
        sizes: (P,) the number of studies of each patient.
        share: (N + 1,) the share that is not missed.
    """
    total, count = len(index), len(sizes)
    together = total**2 / (sizes**2).sum()  # Kish, Survey Sampling, 1965
    if count == 1:
        return np.full(len(share), together)
    earlier = _earlier_misses(index, sizes)
    squares = _from_zero(2 * earlier + 1)  # of the misses of each patient, summed
    products = _from_zero(sizes[index])  # of misses and size of each patient, summed
    missed = 1 - share
    # Linearised: a patient's misses less those expected of its number of studies.
    residuals = squares - 2 * missed * products + missed**2 * (sizes**2).sum()
    between = count / (count - 1) * residuals
    independent = total / (total - 1) * total * share * missed
    design_effect = np.ones(len(share))
    np.divide(between, independent, out=design_effect, where=independent > 0)
    quantiles = special.stdtrit([total - 1, count - 1], LEVEL)  # of Student's t
    effective = total / np.maximum(1, design_effect)
    effective *= (quantiles[0] / quantiles[1]) ** 2
    few = _from_zero(earlier == 0) < _FEWEST_MISSED_PATIENTS
    return np.where(few, np.minimum(effective, together), effective)


def _earlier_misses(index: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Count the studies of the same patient that are missed before each: (N,) int64."""
    order = np.argsort(index, kind="stable")
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    earlier = np.empty(len(index), dtype=np.int64)
    earlier[order] = np.arange(len(index)) - first
    return earlier


def _from_zero(steps: np.ndarray) -> np.ndarray:
    """Return 0 and the sums of the first, the first two, ... of (N,) steps."""
    return np.concatenate([[0], np.cumsum(steps)])
