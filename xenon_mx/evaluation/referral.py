"""The third answer: which studies are neither called normal nor abnormal, but referred.

Owns the two thresholds of a split conformal prediction by class, and what they promise.
Must not know files or nets.

Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, chapter 4.5:
each class has a threshold of its own (Mondrian). The unit is a patient, by the worst of
his or her studies: the lowest probability of the abnormal ones, the highest of the
normal ones. Studies of one patient resemble one another, so that they are not
exchangeable, as the promise needs it; and whoever has three studies is harmed by the
one that is missed.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import NamedTuple, Sequence

import numpy as np
from scipy import special

from xenon_mx.errors import XenonError
from xenon_mx.evaluation.evaluation_set import EvaluationSet
from xenon_mx.evaluation.studies import format_probability, threshold_between

_NORMAL, _ABNORMAL = 0, 1
_CLASSES = {_NORMAL: "a normal", _ABNORMAL: "an abnormal"}
_RANGE = (0.05, 0.95)  # of the miss rates that one set of patients may give


class ClassLimit(NamedTuple):
    """One of the two thresholds.

    Attributes:
        limit: The probability beyond which a study may be of the other class only;
            halfway between two of the studies that it was chosen from.
        patients: The number of patients with studies of this class, n.
        rank: The rank k, from 1, of the worst probability that is the last within
            the limit, among those of all these patients.
    """

    limit: float
    patients: int
    rank: int

    @property
    def mean_rate(self) -> float:
        """The mean of the miss rate over repetitions, at most alpha: k / (n + 1)."""
        return self.rank / (self.patients + 1)

    def rate_range(self) -> tuple[float, float]:
        """Compute where 90% of the miss rates are, one for each set of n patients.

        Given the set, the rate of all further patients beyond the k-th varies as a
        Beta(k, n + 1 - k): Vovk, "Conditional validity of inductive conformal
        predictors", 2012. Beyond the limit, it is lower by what lies between the two.
        """
        beyond = self.patients + 1 - self.rank
        low, high = special.betaincinv(self.rank, beyond, _RANGE)
        return float(low), float(high)


class Referral(NamedTuple):
    """The two thresholds of `decision.decide`.

    Attributes:
        alpha: The largest mean share of the patients with a study of either class one
            of whose studies is called the other class.
        low: Of abnormal studies: a study is called normal only below.
        high: Of normal studies: a study is called abnormal only above.
    """

    alpha: float
    low: ClassLimit
    high: ClassLimit

    def inner_threshold(self, threshold: float, prob: np.ndarray) -> float:
        """Return the threshold nearest to a given one that refers no further study.

        If low is above high, no study need be referred, and any threshold from high up
        to, but not including, low keeps both promises.

        Args:
            threshold: The given one.
            prob: (N,) the probabilities that the limits were chosen from.
        """
        low, high = self.low.limit, self.high.limit
        if low <= high:
            return min(max(threshold, low), high)
        inner = max(threshold, high)
        if inner < low:
            return inner
        return threshold_between(float(prob[prob < low].max()), low)


def refer(samples: EvaluationSet, alpha: float) -> Referral:
    """Compute the two thresholds.

    Args:
        samples: Studies of both classes.
        alpha: The largest mean miss rate, above 0 and below 1.

    Raises:
        XenonError: There are too few patients of a class.
    """
    return Referral(
        alpha=alpha,
        low=_limit(samples, _ABNORMAL, alpha),
        high=_limit(samples, _NORMAL, alpha),
    )


def fewest_patients(alpha: float) -> int:
    """Return how many patients of a class a threshold needs: 1 / alpha - 1."""
    return math.ceil(1 / Decimal(repr(alpha))) - 1


def _limit(samples: EvaluationSet, label: int, alpha: float) -> ClassLimit:
    """Compute the threshold of the studies with a label."""
    own = samples.labels == label
    patients = [name for name, is_own in zip(samples.patients, own) if is_own]
    worst = _worst(samples.prob[own], patients, label)
    count = len(worst)
    # Decimals: 0.29 * 100 is 28.999999999999996 in binary.
    rank = math.floor(Decimal(repr(alpha)) * (count + 1))
    if not rank:
        raise XenonError(
            f"--refer {alpha:g} needs at least {fewest_patients(alpha)} patients with "
            f"{_CLASSES[label]} study; there are {count}: decide on more patients, or "
            f"allow a larger share"
        )
    ordered = np.sort(worst) if label == _ABNORMAL else np.sort(worst)[::-1]
    limit = _apart(float(ordered[rank - 1]), samples.prob, label)
    return ClassLimit(limit, count, rank)


def _apart(worst: float, prob: np.ndarray, label: int) -> float:
    """Return the limit halfway from a study to the next one beyond, or to 0 or 1.

    Another engine computes the probability of the study with another last digit.
    Halfway, that changes no answer; and since the limit only moves to where fewer
    studies are called the other class, the promise stays.
    """
    if label == _ABNORMAL:
        beyond = float(prob[prob < worst].max(initial=0.0))
    else:
        beyond = float(prob[prob > worst].min(initial=1.0))
    found = float(format_probability((worst + beyond) / 2))
    low, high = sorted((worst, beyond))
    return found if low < found < high else worst


def _worst(prob: np.ndarray, patients: Sequence[str], label: int) -> np.ndarray:
    """Return the probability of each patient that is farthest from the label: (P,)."""
    names, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    if label == _ABNORMAL:
        worst = np.full(len(names), np.inf)
        np.minimum.at(worst, index, prob)
    else:
        worst = np.full(len(names), -np.inf)
        np.maximum.at(worst, index, prob)
    return worst
