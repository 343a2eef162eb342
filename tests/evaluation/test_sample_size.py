"""How many patients an interval needs: the binomial's formula, and more patients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support import two_nets
from support.evaluation_sets import from_outcomes, make_samples

from xenon_mx.evaluation import estimates
from xenon_mx.evaluation.sample_size import MARGINS, patients_needed, sample_sizes


def by_name(sizes):
    return {size.metric: size for size in sizes}


def test_a_sensitivity_of_single_studies_is_the_binomials():
    # 1.96^2 p (1 - p) / x^2 abnormal studies, and half of the patients have one
    samples = from_outcomes(tp=160, fn=40, fp=50, tn=150)
    found = by_name(sample_sizes(samples, 0.5, repeats=4000))["sensitivity"]
    for margin in MARGINS:
        expected = 2 * 1.959964**2 * 0.8 * 0.2 / margin**2
        assert found.patients[margin] == pytest.approx(expected, rel=0.06)
    assert found.margin == pytest.approx(1.96 * math.sqrt(0.16 / 200), rel=0.06)


def test_studies_that_repeat_a_patients_first_need_as_many_patients():
    once = from_outcomes(tp=80, fn=20, fp=25, tn=75)
    four = make_samples(
        *(np.repeat(each, 4) for each in (once.labels, once.prob)),
        np.repeat(once.patients, 4).tolist(),
    )
    for one, other in zip(sample_sizes(once, 0.5), sample_sizes(four, 0.5)):
        assert other.patients == one.patients


def test_half_the_margin_needs_four_times_the_patients():
    draws = np.random.RandomState(1).normal(0.7, 0.03, 1000)
    few, many = (patients_needed(draws, 100, margin) for margin in (0.04, 0.02))
    assert many == pytest.approx(4 * few, abs=4)
    deviation = draws.std(ddof=1)
    assert few == math.ceil(100 * (1.959963984540054 * deviation / 0.04) ** 2)


def test_that_many_patients_get_such_an_interval():
    random = np.random.RandomState(2)
    (pilot,) = two_nets.simulate(random, 2000, 3, (2.0,))
    for name, size in by_name(sample_sizes(pilot, 0.5)).items():
        margins = []
        for _ in range(10):
            (samples,) = two_nets.simulate(random, size.patients[0.05], 3, (2.0,))
            drawn = estimates.draw(samples, 0.5).estimate(name)
            margins.append((drawn.high - drawn.low) / 2)
        assert np.mean(margins) == pytest.approx(0.05, rel=0.1), name


@pytest.mark.parametrize(
    "samples",
    [
        make_samples([1] * 30, np.linspace(0, 1, 30)),  # one class
        make_samples([1, 0] * 20, np.linspace(0, 1, 40), ["p"] * 40),  # one patient
        from_outcomes(tp=20, fn=0, fp=0, tn=20),  # no mistake
    ],
)
def test_without_an_interval_it_is_undefined(samples):
    kappa = by_name(sample_sizes(samples, 0.5))["kappa"]
    assert math.isnan(kappa.margin)
    assert set(kappa.patients.values()) == {None}
