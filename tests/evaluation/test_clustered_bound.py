"""The bound against Clopper and Pearson's, and a sum over patients worked in a loop."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from xenon_mx.evaluation import clustered_bound


def _exact(right, count):
    """Clopper and Pearson's one-sided lower bound, by SciPy."""
    test = stats.binomtest(right, count, alternative="greater")
    return test.proportion_ci(clustered_bound.LEVEL, "exact").low


def test_it_is_clopper_and_pearsons_if_every_patient_has_one_study():
    bounds = clustered_bound.lower_bounds([str(i) for i in range(40)])
    exact = [_exact(40 - missed, 40) for missed in range(41)]
    assert bounds == pytest.approx(exact, abs=1e-9)


def _korn_and_graubard(patients, missed):
    """The bound as the paper writes it, patient by patient."""
    names = sorted(set(patients))
    count, total = len(names), len(patients)
    share = missed / total
    deviations = [
        patients[:missed].count(name) - share * patients.count(name) for name in names
    ]
    variance = count / (count - 1) * sum(d * d for d in deviations) / total**2
    simple = share * (1 - share) / (total - 1)
    effective = total / max(1, variance / simple)
    t = [stats.t.ppf(0.95, degrees - 1) for degrees in (total, count)]
    effective *= (t[0] / t[1]) ** 2
    right = (1 - share) * effective
    return stats.beta.ppf(0.05, right, effective - right + 1)


def test_it_is_korn_and_graubards_once_five_patients_have_a_miss():
    random = np.random.RandomState(0)
    patients = [f"p{number}" for number in random.randint(0, 30, 100)]
    bounds = clustered_bound.lower_bounds(patients)
    for missed in range(1, 100):
        expected = _korn_and_graubard(patients, missed)
        if len(set(patients[:missed])) >= 5:
            assert bounds[missed] == pytest.approx(expected, abs=1e-9), missed
        else:
            assert bounds[missed] <= expected + 1e-12
    assert bounds[100] == 0


def test_while_few_patients_have_a_miss_a_patient_counts_as_one_study():
    patients = [f"p{number}" for number in range(50) for _ in range(3)]
    bounds = clustered_bound.lower_bounds(patients)
    for patients_missed in range(5):
        exact = _exact(50 - patients_missed, 50)
        assert exact - 0.01 < bounds[3 * patients_missed] <= exact + 1e-9
    assert bounds[0] == pytest.approx(_exact(50, 50), abs=1e-9)


def test_studies_that_are_missed_together_count_as_few():
    """As if each patient had one study, or a little lower."""
    patients = [f"p{number}" for number in range(60) for _ in range(4)]
    bounds = clustered_bound.lower_bounds(patients)
    for patients_missed in (5, 10, 30):
        bound = bounds[4 * patients_missed]
        exact = _exact(60 - patients_missed, 60)
        assert exact - 0.01 < bound <= exact + 1e-3
        assert bound < _exact(4 * (60 - patients_missed), 240) - 0.02


@pytest.mark.parametrize("target", [0.5, 0.8, 0.95, 0.99, 0.999])
def test_the_fewest_patients_are_enough_and_one_fewer_is_not(target):
    count = clustered_bound.fewest_patients(target)
    assert _exact(count, count) >= target
    assert _exact(count - 1, count - 1) < target


def test_59_patients_are_needed_for_95_percent():
    assert clustered_bound.fewest_patients(0.95) == 59


def test_one_patient_is_no_error():
    assert clustered_bound.lower_bounds(["a"] * 3)[0] == pytest.approx(0.05)
