"""Thresholds worked by hand, and what is refused; `test_promises` has the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from support.evaluation_sets import make_samples, noisy_samples

from xenon_mx.errors import XenonError
from xenon_mx.evaluation import decided_threshold
from xenon_mx.evaluation.decided_threshold import promise


def _ladder():
    """100 abnormal patients at .30 to .79 in steps of .005, 100 normal from .01 up."""
    abnormal = 0.3 + 0.005 * np.arange(100)
    normal = 0.01 + 0.005 * np.arange(100)
    return make_samples([1] * 100 + [0] * 100, [*abnormal, *normal])


def test_the_threshold_misses_as_many_as_the_bound_allows_and_no_more():
    # Clopper and Pearson's bound of 95 of 100 is .8975, of 94 is .8848.
    found = promise(_ladder(), "sensitivity", 0.89)
    assert found.estimate == 0.95
    assert found.bound == pytest.approx(0.8977, abs=1e-4)
    # The sixth lowest abnormal probability is .325, which a normal study has, too; the
    # next lower one is .32, of both classes.
    assert found.threshold == pytest.approx(0.3225)


def test_a_specificity_is_a_sensitivity_in_the_mirror():
    samples = noisy_samples(400, seed=3, patients=250)
    mirrored = replace(samples, labels=1 - samples.labels, prob=1 - samples.prob)
    for target in (0.6, 0.8, 0.9):
        found = promise(samples, "specificity", target)
        other = promise(mirrored, "sensitivity", target)
        assert found[1:] == pytest.approx(other[1:])
        called = mirrored.prob > other.threshold  # normal
        assert (called == (samples.prob <= found.threshold)).all()


def test_studies_of_one_probability_are_missed_together():
    # 30 abnormal patients share .4: missing one of them is missing all.
    samples = make_samples(
        [1] * 100 + [0] * 100, [0.4] * 30 + [0.9] * 70 + [0.1] * 50 + [0.6] * 50
    )
    assert promise(samples, "sensitivity", 0.8) == (
        0.25,
        1.0,
        pytest.approx(0.9705, abs=1e-4),
    )
    assert promise(samples, "sensitivity", 0.6).threshold == 0.75


def test_the_search_stops_at_the_first_threshold_that_fails():
    """Later thresholds whose bound would hold, by a smaller variance, are not tried."""
    bounds = decided_threshold.clustered_bound.lower_bounds

    def broken(patients):
        values = bounds(patients)
        values[3] = 0
        return values

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decided_threshold.clustered_bound, "lower_bounds", broken)
        assert promise(_ladder(), "sensitivity", 0.8).estimate == 0.98


def test_the_order_of_the_studies_does_not_matter():
    samples = noisy_samples(300, seed=5, patients=150)
    order = np.random.RandomState(0).permutation(300)
    shuffled = replace(
        samples,
        labels=samples.labels[order],
        prob=samples.prob[order],
        patients=[samples.patients[i] for i in order],
    )
    assert promise(samples, "sensitivity", 0.8) == promise(shuffled, "sensitivity", 0.8)


@pytest.mark.parametrize(
    ("patients", "kind", "needed"),
    [(58, "sensitivity", "59"), (30, "specificity", "59")],
)
def test_too_few_patients_are_told_how_many_are_needed(patients, kind, needed):
    labels = [1] * patients + [0] * patients
    samples = make_samples(labels, [0.9] * patients + [0.1] * patients)
    with pytest.raises(XenonError, match=rf"about {needed} .* there are {patients}:"):
        promise(samples, kind, 0.95)


def test_patients_of_unequal_size_count_less():
    """50 patients with one study and 10 with ten are not 60 of one size."""
    patients = [
        f"p{number}" for number in range(60) for _ in range(1 + 9 * (number > 49))
    ]
    labels = [1] * len(patients) + [0] * 60
    samples = make_samples(
        labels, [0.9] * len(patients) + [0.1] * 60, [*patients, *map(str, range(60))]
    )
    with pytest.raises(XenonError, match=r"about 166 patients .* there are 60"):
        promise(samples, "sensitivity", 0.95)


def test_a_threshold_that_is_no_better_than_a_coin_is_refused():
    samples = make_samples([1] * 100 + [0] * 100, [*np.linspace(0, 1, 100)] * 2)
    with pytest.raises(XenonError, match="no useful threshold"):
        promise(samples, "sensitivity", 0.95)


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_has_a_better_kappa(seed):
    samples = noisy_samples(120, seed)
    found = decided_threshold.best_kappa(samples)
    tried = [
        cohen_kappa_score(samples.labels, samples.prob > threshold)
        for threshold in np.linspace(0, 0.999, 1000)
    ]
    assert found.value == pytest.approx(max(tried))
    assert cohen_kappa_score(
        samples.labels, samples.prob > found.threshold
    ) == pytest.approx(found.value)
    assert found.cross_fitted <= found.value


def test_the_lowest_of_equally_good_thresholds_is_taken():
    samples = make_samples([0, 0, 1, 1] * 3, [0.1, 0.2, 0.6, 0.9] * 3)
    assert decided_threshold.best_kappa(samples).threshold == 0.4
    assert decided_threshold.best_kappa(samples).value == 1
