"""Metrics against sums worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from support.evaluation_sets import noisy_samples

from xenon_mx.evaluation import metrics


def test_kappa_of_a_table_worked_by_hand():
    # 20 agree on 1, 15 on 0; 5 and 10 differ: pa = .7, pe = .5, kappa = .4
    labels = np.array([1] * 25 + [0] * 25)
    predictions = np.array([1] * 20 + [0] * 5 + [1] * 10 + [0] * 15)
    assert metrics.kappa(labels, predictions) == pytest.approx(0.4)


def test_kappa_of_chance_is_zero_and_of_contradiction_negative():
    assert metrics.kappa(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])) == 0
    assert metrics.kappa(np.array([0, 1]), np.array([1, 0])) == -1


@pytest.mark.parametrize("label", [0, 1])
def test_kappa_of_one_class_on_both_sides_is_undefined(label):
    ones = np.full(4, label)
    assert math.isnan(metrics.kappa(ones, ones))


@pytest.mark.parametrize("label", [0, 1])
def test_kappa_of_labels_of_one_class_is_undefined(label):
    # the formula would give 0, whether one prediction is wrong or all but one
    labels = np.full(4, label)
    assert math.isnan(metrics.kappa(labels, np.array([0, 1, 1, 1])))


def test_kappa_of_predictions_of_one_class_is_zero():
    assert metrics.kappa(np.array([0, 1, 1]), np.ones(3)) == 0


def test_auroc_counts_the_pairs_in_order_and_half_of_the_ties():
    # pairs (.8 .2) (.8 .5) (.5 .2) in order, (.5 .5) a tie: 3.5 of 4
    labels, prob = np.array([1, 1, 0, 0]), np.array([0.8, 0.5, 0.2, 0.5])
    assert metrics.auroc(labels, prob) == pytest.approx(3.5 / 4)


def test_auroc_of_one_class_is_undefined():
    assert math.isnan(metrics.auroc(np.zeros(3), np.array([0.1, 0.2, 0.3])))


def test_sigmoid_follows_the_formula_without_overflow():
    values = np.array([-1000.0, -2.0, 0.0, 3.0, 1000.0])
    expected = [0, 1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-3)), 1]
    np.testing.assert_allclose(metrics.sigmoid(values), expected, atol=1e-15)


def test_reliability_has_the_points_of_scikit_learns_curve():
    samples = noisy_samples(200, seed=3)
    mean, share, count = metrics.reliability(samples.labels, samples.prob, bins=7)
    filled = count > 0
    expected_share, expected_mean = calibration_curve(
        samples.labels, samples.prob, n_bins=7
    )
    np.testing.assert_allclose(share[filled], expected_share)
    np.testing.assert_allclose(mean[filled], expected_mean)
    assert count.sum() == 200


def test_reliability_of_an_empty_bin_is_undefined_and_edges_belong_below():
    mean, share, count = metrics.reliability(
        np.array([0, 1, 1, 0]), np.array([0.0, 0.5, 1.0, 0.5]), bins=4
    )
    np.testing.assert_array_equal(count, [1, 2, 0, 1])
    np.testing.assert_array_equal(mean, [0, 0.5, np.nan, 1])
    np.testing.assert_array_equal(share, [0, 0.5, np.nan, 1])
