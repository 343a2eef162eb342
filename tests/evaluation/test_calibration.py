"""Calibration against scikit-learn, known numbers, and other patients."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize
from sklearn.calibration import _SigmoidCalibration
from sklearn.metrics import log_loss

from xenon_mx.errors import XenonError
from xenon_mx.evaluation import calibration, metrics


def _draw(count, slope=1.0, intercept=0.0, seed=0):
    """Probabilities that a known calibration would set right."""
    random = np.random.RandomState(seed)
    prob = metrics.sigmoid(2 * random.randn(count))
    truth = metrics.sigmoid(slope * calibration.logit(prob) + intercept)
    return (random.rand(count) < truth).astype(int), prob


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.4, 1.5), (3, -1)])
def test_known_numbers_are_found(slope, intercept):
    found = calibration.fit(*_draw(200_000, slope, intercept))
    assert found.slope == pytest.approx(slope, rel=0.03)
    assert found.intercept == pytest.approx(intercept, abs=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_two_numbers_are_those_of_scikit_learn(seed):
    labels, prob = _draw(150, 0.7, -0.4, seed)
    found = calibration.fit(labels, prob)
    theirs = _SigmoidCalibration().fit(calibration.logit(prob), labels)
    assert found == pytest.approx((-theirs.a_, -theirs.b_), rel=1e-4)


def test_a_temperature_has_the_lowest_log_loss_of_all_slopes():
    labels, prob = _draw(500, 0.5)
    found = calibration.fit(labels, prob, temperature=True)
    assert found.intercept == 0
    values = calibration.logit(prob)
    abnormal, normal = labels.sum(), (1 - labels).sum()
    targets = np.where(
        labels == 1, (abnormal + 1) / (abnormal + 2), 1 / (normal + 2)
    )  # Platt's

    def loss(slope):
        share = metrics.sigmoid(slope * values)
        return -np.mean(targets * np.log(share) + (1 - targets) * np.log(1 - share))

    best = optimize.minimize_scalar(loss, bounds=(0, 5), method="bounded")
    assert found.slope == pytest.approx(best.x, rel=1e-4)


def test_the_fit_is_finite_where_the_classes_do_not_overlap():
    labels = np.array([0, 0, 0, 1, 1, 1])
    found = calibration.fit(labels, np.array([0, 0.1, 0.2, 0.8, 0.9, 1]))
    assert np.isfinite(found).all()
    assert (np.diff(found.apply(np.linspace(0.01, 0.99, 99))) > 0).all()


@pytest.mark.parametrize("prob", [[0.9, 0.8, 0.2, 0.1], [0.5, 0.5, 0.5, 0.5]])
def test_probabilities_that_do_not_rise_with_the_labels_are_refused(prob):
    with pytest.raises(XenonError, match="no higher probabilities"):
        calibration.fit(np.array([0, 0, 1, 1]), np.array(prob))


def test_logits_are_finite_and_symmetric_for_every_probability():
    values = calibration.logit(np.array([0, 1e-300, 0.25, 0.5, 0.75, 1, 1]))
    assert np.isfinite(values).all()
    assert values == pytest.approx(-values[::-1], abs=1e-6)
    assert values[2] == pytest.approx(np.log(1 / 3))


def test_what_a_patient_is_calibrated_by_does_not_depend_on_the_patient():
    """Turning a patient's labels changes others' calibration, not the patient's own."""
    labels, prob = _draw(60, 0.5)
    patients = [f"p{number // 3}" for number in range(60)]
    labels[:3] = 1, 0, 1
    before = calibration.cross_fit(labels, prob, patients)
    turned = labels.copy()
    turned[[0, 1]] = labels[[1, 0]]  # of one patient, who keeps both labels
    after = calibration.cross_fit(turned, prob, patients)
    assert (after[:3] == before[:3]).all()
    assert (after[3:] != before[3:]).any()


def test_calibrating_sets_overconfident_probabilities_right_on_other_patients():
    labels, prob = _draw(2000, 0.3, 1)
    calibrated = calibration.cross_fit(labels, prob, [str(i) for i in range(2000)])
    before, after = (calibration.quality(labels, p) for p in (prob, calibrated))
    assert all(new < 0.9 * old for old, new in zip(before, after))


def test_the_quality_is_that_of_scikit_learn():
    labels, prob = _draw(200)
    found = calibration.quality(labels, prob)
    assert found.log_loss == pytest.approx(log_loss(labels, prob))
    every = metrics.compute_all(labels, prob, 0.5)
    assert found.brier == every["Brier score"]
    assert found.calibration_error == every["calibration error"]
    certain = calibration.quality(np.array([0, 1]), np.array([0.0, 1.0]))
    assert certain.log_loss == pytest.approx(0, abs=1e-8)
