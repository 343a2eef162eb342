"""Rates of patients with a missed study, counted by hand and against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from xenon_mx.evaluation.evaluation_set import EvaluationSet
from xenon_mx.evaluation.observed_rates import rates


def _samples(rows):
    patients, labels = zip(*rows)
    prob = np.full(len(rows), 0.5)
    return EvaluationSet(
        np.array(labels), prob, list(patients), ["XR_HAND"] * len(rows)
    )


def test_a_patient_counts_once_and_a_referred_study_is_not_missed():
    rows = [("a", 1), ("a", 1), ("b", 1), ("c", 1), ("c", 0), ("d", 0), ("d", 0)]
    called = ["normal", "normal", "refer", "abnormal", "abnormal", "normal", "refer"]
    found = rates(_samples(rows), called)
    assert found[1][:2] == (1, 3)  # a is missed twice, b is referred, c is right
    assert found[0][:2] == (1, 2)  # c is missed, d is not
    assert found[1].value == 1 / 3


@pytest.mark.parametrize(("missed", "patients"), [(0, 20), (3, 80), (7, 19), (5, 5)])
def test_the_interval_is_clopper_and_pearsons(missed, patients):
    rows = [(str(i), 1) for i in range(patients)]
    called = ["normal"] * missed + ["abnormal"] * (patients - missed)
    found = rates(_samples(rows), called)[1]
    oracle = stats.binomtest(missed, patients).proportion_ci(0.95, "exact")
    np.testing.assert_allclose((found.low, found.high), oracle, rtol=1e-9)


def test_without_patients_of_a_class_its_rate_is_undefined():
    found = rates(_samples([("a", 1)]), ["normal"])
    assert found[0].patients == 0
    assert all(map(math.isnan, (found[0].value, found[0].low, found[0].high)))
