"""The third answer, worked by hand; `test_promises` has the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from support.evaluation_sets import make_samples

from xenon_mx.errors import XenonError
from xenon_mx.evaluation import studies
from xenon_mx.evaluation.referral import ClassLimit, Referral, fewest_patients, refer


def _two_studies_each():
    """19 patients of either class, each with a better and a worse study."""
    worst = np.arange(1, 20) / 100  # of the abnormal patients: .01 to .19
    prob = [*worst, *(worst + 0.5), *(1 - worst), *(0.5 - worst)]
    patients = [f"{group}{number}" for group in "aabb" for number in range(19)]
    return make_samples([1] * 38 + [0] * 38, prob, patients)


def test_the_limits_are_order_statistics_of_the_worst_study_of_each_patient():
    """Halfway to the next study beyond."""
    found = refer(_two_studies_each(), 0.05)  # floor(.05 * 20) = 1: the lowest
    assert found.low == (0.005, 19, 1)
    assert found.high == (0.995, 19, 1)
    found = refer(_two_studies_each(), 0.16)  # floor(.16 * 20) = 3: the third
    assert found.low == (0.025, 19, 3)
    assert found.high == (0.975, 19, 3)
    assert found.low.mean_rate == 0.15 <= 0.16


def _overlapping():
    """Studies of 200 patients with the digits of tables."""
    random = np.random.RandomState(0)
    labels = np.arange(200) % 2
    prob = 1 / (1 + np.exp(-random.normal(2 * labels - 1, 1.5)))
    return make_samples(labels, studies.rounded(prob))


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.3])
def test_no_answer_is_another_one_if_an_engine_rounds_otherwise(alpha):
    samples = _overlapping()
    found = refer(samples, alpha)
    for error in (-3e-7, 3e-7):
        moved = samples.prob + error
        for limit in (found.low.limit, found.high.limit):
            assert ((moved > limit) == (samples.prob > limit)).all()
            assert ((moved < limit) == (samples.prob < limit)).all()


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.3])
def test_the_limits_call_the_same_studies_as_the_order_statistics(alpha):
    samples = _overlapping()
    low, high = refer(samples, alpha)[1:]
    ordered = np.sort(samples.prob[samples.labels == 1])
    (worst,) = ordered[low.rank - 1 : low.rank]
    assert low.limit < worst
    assert ((samples.prob < low.limit) == (samples.prob < worst)).all()
    ordered = np.sort(samples.prob[samples.labels == 0])[::-1]
    (worst,) = ordered[high.rank - 1 : high.rank]
    assert high.limit > worst
    assert ((samples.prob > high.limit) == (samples.prob > worst)).all()


def test_between_neighbouring_digits_the_limit_is_the_study_itself():
    prob = [0.5, 0.500000001, 0.500000001, 0.500000002]
    found = refer(make_samples([0, 1, 0, 1], prob), 0.5)
    assert found.low.limit == 0.500000001
    assert found.high.limit == 0.500000001


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
