"""How many patients have a study that was called the other class: what was promised.

Owns the rates of a table with decisions, and their intervals; must not know how
decisions are made, or pages.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from xenon_mx.evaluation.decision import ABNORMAL, NORMAL
from xenon_mx.evaluation.evaluation_set import EvaluationSet

_TAIL = 0.025  # beyond either end of a 95% interval


class ObservedRate(NamedTuple):
    """A share of patients with its 95% interval; NaN is undefined.

    Attributes:
        missed: How many patients have a study of a class that was called the other.
        patients: How many have a study of the class.
        low: The lower end of the interval.
        high: The upper end.
    """

    missed: int
    patients: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share; NaN without patients."""
        return self.missed / self.patients if self.patients else math.nan


def rates(samples: EvaluationSet, decisions: list[str]) -> dict[int, ObservedRate]:
    """Compute the rates of patients with a missed study, as a promise counts them.

    Each patient counts once for a class, however many studies of it were missed: so
    patients are independent, and the interval is Clopper and Pearson's (Biometrika 26,
    1934). A referred study is not missed.

    Args:
        samples: Labelled studies.
        decisions: The decision about each of them.

    Returns:
        Label to rate: 1, of patients with an abnormal study, one of which was called
        normal; 0, of patients with a normal study, one of which was called abnormal.
    """
    patients, called = np.asarray(samples.patients, dtype=str), np.array(decisions)
    found = {}
    for label, other in ((1, NORMAL), (0, ABNORMAL)):
        own = samples.labels == label
        missed = len(set(patients[own & (called == other)]))
        found[label] = _with_interval(missed, len(set(patients[own])))
    return found


def _with_interval(missed: int, patients: int) -> ObservedRate:
    if not patients:
        return ObservedRate(0, 0, math.nan, math.nan)
    others = patients - missed
    low = special.betaincinv(missed, others + 1, _TAIL) if missed else 0.0
    high = special.betaincinv(missed + 1, others, 1 - _TAIL) if others else 1.0
    return ObservedRate(missed, patients, float(low), float(high))
