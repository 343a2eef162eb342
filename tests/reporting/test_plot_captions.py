"""What the plots of predictions draw, where: the values handed to matplotlib."""

from __future__ import annotations

from unittest.mock import MagicMock

import numpy as np
import pytest

from xenon_mx.evaluation.estimates import evaluate
from xenon_mx.evaluation.evaluation_set import EvaluationSet
from xenon_mx.reporting import plot_captions, plots


@pytest.fixture
def axes(monkeypatch):
    """Axes that remember what is drawn, in place of matplotlib's."""
    axes = MagicMock()
    monkeypatch.setattr(plots, "render", lambda draw, *size: draw(axes))
    return axes


def test_the_roc_curve_has_sensitivity_over_false_positives(axes):
    """Its area is the AUROC, and the operating point at the threshold lies on it."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    prob = np.array([0.1, 0.2, 0.3, 0.8, 0.4, 0.7, 0.9])
    patients = [f"patient{number}" for number in range(7)]
    samples = EvaluationSet(labels, prob, patients, ["XR_HAND"] * 7)
    estimates = {each.name: each for each in evaluate(samples, repeats=0)}
    plot_captions.roc_plots(samples, estimates, with_paper=False)
    _, curve, point = (call.args[:2] for call in axes.plot.call_args_list)
    x, y = (np.asarray(values) for values in curve)
    # Ten of the twelve pairs of an abnormal and a normal sample are in order.
    area = ((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum()
    assert area == pytest.approx(10 / 12)
    # Above 0.5 are two of three abnormal samples and one of four normal ones.
    assert point == pytest.approx((1 / 4, 2 / 3))
    assert axes.set_xlabel.call_args.args == ("1 - specificity",)
    assert axes.set_ylabel.call_args.args == ("sensitivity",)
