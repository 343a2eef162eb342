"""Decisions made for tests."""

from __future__ import annotations

from xenon_mx.evaluation.calibration import Calibration, Quality
from xenon_mx.evaluation.decision import DecidedOn, Decision, Measure, Threshold
from xenon_mx.evaluation.referral import ClassLimit, Referral


def make(threshold, low=None, high=None, members=("a", "b"), **more):
    """Make a decision with a threshold and, if given, the limits of a third answer."""
    referral = None
    if low is not None:
        referral = Referral(0.1, ClassLimit(low, 50, 5), ClassLimit(high, 60, 6))
    values = {
        "members": tuple(members),
        "calibration": Calibration(2.0, -1.0),
        "before": Quality(0.2, 0.1, 0.6),
        "after": Quality(0.1, 0.05, 0.4),
        "threshold": Threshold(threshold, "sensitivity", target=0.9, bound=0.91),
        "measures": {
            "sensitivity": Measure(0.95, 0.9, 0.98),
            "specificity": Measure(0.7, 0.6, 0.8),
            "kappa": Measure(0.6, None, None),
        },
        "referral": referral,
        "answers": {"normal": 3, "refer": 2, "abnormal": 1},
        "decided_on": DecidedOn("0" * 64, 120, 60, 100, 50, 60),
        "time": "2024-05-01T12:00:00Z",
        "versions": {"xenon": "0.2.0"},
    }
    return Decision(**{**values, **more})
