"""Calibration: from a study's probability to one that is as often right as it says.

Owns how the numbers of a calibration are fitted and applied, and how its gain is
measured; must not know files or nets.

Platt, "Probabilistic outputs for support vector machines", 1999, fits two numbers on
the value before the sigmoid, here the logit of a study's probability. Guo et al., "On
calibration of modern neural networks", ICML 2017, fit one, the temperature, by which
the logit is divided.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

import numpy as np
from scipy import optimize
from sklearn.metrics import brier_score_loss

from xenon_mx.errors import XenonError
from xenon_mx.evaluation import cross_fitting, metrics

# Nine digits after the decimal point are what a table tells of a probability near 1.
_NEAREST_TO_CERTAIN = 1e-9
_GRADIENT = 1e-10  # of the mean log loss, at which the fit has converged


class Calibration(NamedTuple):
    """The numbers of a calibration: sigmoid(slope * logit(probability) + intercept).

    Attributes:
        slope: Above 0, so that no two studies change their order.
        intercept: 0 if only a temperature was fitted, which is 1 / slope.
    """

    slope: float
    intercept: float

    def apply(self, prob: np.ndarray) -> np.ndarray:
        """Return the calibrated probabilities of (N,) probabilities, float64."""
        return metrics.sigmoid(self.slope * logit(prob) + self.intercept)


class Quality(NamedTuple):
    """How well probabilities agree with labels; 0 is best for all three.

    Attributes:
        brier: The Brier score.
        calibration_error: See `metrics.calibration_error`.
        log_loss: The mean negative log-likelihood, in nats.
    """

    brier: float
    calibration_error: float
    log_loss: float


def logit(prob: np.ndarray) -> np.ndarray:
    """Return the logits of (N,) probabilities, finite also for 0 and 1."""
    inside = np.clip(prob, _NEAREST_TO_CERTAIN, 1 - _NEAREST_TO_CERTAIN)
    return np.log(inside) - np.log1p(-inside)


def fit(labels: np.ndarray, prob: np.ndarray, temperature: bool = False) -> Calibration:
    """Compute the calibration with the lowest log loss.

    Args:
        labels: (N,) of 0 and 1, both of them.
        prob: (N,) probabilities, 0 to 1.
        temperature: Fit the slope alone.

    Raises:
        XenonError: The probabilities do not rise with the labels.
    """
    found = _minimize_log_loss(labels, prob, temperature)
    if len(np.unique(prob)) < 2 or not found.slope > 0:
        raise XenonError(
            "no calibration: abnormal studies have no higher probabilities than normal "
            "ones: the nets have not learned to tell them apart, or the labels are "
            "those of other studies"
        )
    return found


def cross_fit(
    labels: np.ndarray,
    prob: np.ndarray,
    patients: Sequence[str],
    temperature: bool = False,
) -> np.ndarray:
    """Return each probability as calibrated on other patients: (N,) float64.

    Args:
        labels: (N,) of 0 and 1; at least two patients have each of them.
        prob: (N,) probabilities, 0 to 1.
        patients: The patient of each sample.
        temperature: As for `fit`.
    """
    calibrated = np.full(len(prob), math.nan)
    for others, own in cross_fitting.splits(labels, patients):
        found = _minimize_log_loss(labels[others], prob[others], temperature)
        calibrated[own] = found.apply(prob[own])
    return calibrated


def quality(labels: np.ndarray, prob: np.ndarray) -> Quality:
    """Compute how well (N,) probabilities agree with (N,) labels of 0 and 1."""
    values = logit(prob)
    return Quality(
        brier=float(brier_score_loss(labels, prob, pos_label=1)),
        calibration_error=metrics.calibration_error(labels, prob),
        log_loss=float(np.mean(np.logaddexp(0, values) - labels * values)),
    )


def _targets(labels: np.ndarray) -> np.ndarray:
    """Return what the labels are fitted as: (N,) float64.

    Platt, 1999, section 2.2: not 0 and 1, but the shares that a uniform prior expects
    of as many samples. So the fit is finite where no abnormal sample is below a normal
    one.
    """
    abnormal = float((labels == 1).sum())
    normal = float(len(labels) - abnormal)
    return np.where(labels == 1, (abnormal + 1) / (abnormal + 2), 1 / (normal + 2))


def _minimize_log_loss(
    labels: np.ndarray, prob: np.ndarray, temperature: bool
) -> Calibration:
    """Compute the numbers with the lowest log loss, which has one minimum."""
    values, targets = logit(prob), _targets(labels)
    columns = [values] if temperature else [values, np.ones_like(values)]
    design = np.stack(columns, axis=1)

    def loss(numbers: np.ndarray) -> float:
        fitted = design @ numbers
        return float(np.mean(np.logaddexp(0, fitted) - targets * fitted))

    def gradient(numbers: np.ndarray) -> np.ndarray:
        return design.T @ (metrics.sigmoid(design @ numbers) - targets) / len(values)

    def hessian(numbers: np.ndarray) -> np.ndarray:
        share = metrics.sigmoid(design @ numbers)
        return (design.T * (share * (1 - share))) @ design / len(values)

    found = optimize.minimize(
        loss,
        x0=np.array([1.0, 0.0][: len(columns)]),
        jac=gradient,
        hess=hessian,
        method="trust-exact",
        options={"gtol": _GRADIENT},
    )
    slope, *rest = map(float, found.x)
    return Calibration(slope, *(rest or [0.0]))
