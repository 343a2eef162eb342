"""Figures of merit against sums done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

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


def test_study_means_follow_first_appearance_when_studies_are_interleaved():
    studies, means = metrics.study_means(["b", "a", "b", "a", "c"], np.arange(5.0))
    assert studies == ["b", "a", "c"]
    np.testing.assert_allclose(means, [1.0, 2.0, 4.0])


def test_study_means_average_each_column():
    _, means = metrics.study_means([7, 7, 9], np.array([[0, 1], [1, 1], [1, 0]]))
    np.testing.assert_allclose(means, [[0.5, 1.0], [1.0, 0.0]])


def test_sigmoid_follows_the_formula_without_overflow():
    values = np.array([-1000.0, -2.0, 0.0, 3.0, 1000.0])
    expected = [0, 1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-3)), 1]
    np.testing.assert_allclose(metrics.sigmoid(values), expected, atol=1e-15)
