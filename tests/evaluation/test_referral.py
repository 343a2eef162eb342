"""The third answer, worked by hand; `test_promises` has the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from support.evaluation_sets import make_samples

from xenon_mx.errors import XenonError
from xenon_mx.evaluation.referral import ClassLimit, Referral, fewest_patients, refer


def _two_studies_each():
    """19 patients of either class, each with a better and a worse study."""
    worst = np.arange(1, 20) / 100  # of the abnormal patients: .01 to .19
    prob = [*worst, *(worst + 0.5), *(1 - worst), *(0.5 - worst)]
    patients = [f"{group}{number}" for group in "aabb" for number in range(19)]
    return make_samples([1] * 38 + [0] * 38, prob, patients)


def test_the_limits_are_order_statistics_of_the_worst_study_of_each_patient():
    found = refer(_two_studies_each(), 0.05)  # floor(.05 * 20) = 1: the lowest
    assert found.low == (pytest.approx(0.01), 19, 1)
    assert found.high == (pytest.approx(0.99), 19, 1)
    found = refer(_two_studies_each(), 0.16)  # floor(.16 * 20) = 3: the third
    assert found.low == (pytest.approx(0.03), 19, 3)
    assert found.high == (pytest.approx(0.97), 19, 3)
    assert found.low.mean_rate == 0.15 <= 0.16


def test_a_patient_with_studies_of_both_classes_counts_in_both():
    patients = [str(number) for number in range(20)] * 2
    samples = make_samples([1] * 20 + [0] * 20, np.linspace(0.9, 0.1, 40), patients)
    found = refer(samples, 0.1)
    assert (found.low.patients, found.high.patients) == (20, 20)


def test_the_rank_is_computed_in_decimals():
    """0.29 * 100 is 28.999999999999996 in binary."""
    samples = make_samples([1] * 99 + [0] * 99, np.linspace(0, 1, 198))
    assert refer(samples, 0.29).low.rank == 29


@pytest.mark.parametrize(
    ("alpha", "needed"), [(0.05, 19), (0.1, 9), (0.02, 49), (0.03, 33), (0.5, 1)]
)
def test_too_few_patients_are_told_how_many_are_needed(alpha, needed):
    assert fewest_patients(alpha) == needed
    enough = make_samples([1] * needed + [0] * needed, [0.9] * needed + [0.1] * needed)
    assert refer(enough, alpha).low.rank == 1
    if needed > 1:
        labels = [1] * (needed - 1) + [0] * needed
        too_few = make_samples(labels, [0.9] * (needed - 1) + [0.1] * needed)
        with pytest.raises(
            XenonError,
            match=rf"least {needed} .* abnormal .* are {needed - 1}:",
        ):
            refer(too_few, alpha)


def test_the_range_is_that_of_the_beta_distribution():
    limit = ClassLimit(0.3, patients=100, rank=5)
    law = stats.beta(5, 96)
    assert limit.rate_range() == pytest.approx((law.ppf(0.05), law.ppf(0.95)))
    assert limit.mean_rate == pytest.approx(law.mean())


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.2, 0.7, 0.5),  # within the limits
        (0.6, 0.7, 0.6),
        (0.2, 0.4, 0.4),
        (0.6, 0.4, 0.5),  # crossed: nothing need be referred
        (0.9, 0.8, 0.8),
        (0.3, 0.2, 0.275),  # between low and the next lower probability, .25
    ],
)
def test_the_threshold_that_refers_no_further_study(low, high, expected):
    found = Referral(0.1, ClassLimit(low, 20, 2), ClassLimit(high, 20, 2))
    prob = np.array([low, high, 0.25, 0.95])
    assert found.inner_threshold(0.5, prob) == expected
