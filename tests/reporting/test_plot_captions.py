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


LABELS = np.array([0, 0, 0, 0, 1, 1, 1])
PROB = np.array([0.1, 0.2, 0.3, 0.8, 0.4, 0.7, 0.9])
PATIENTS = [f"patient{number}" for number in range(7)]
SAMPLES = EvaluationSet(LABELS, PROB, PATIENTS, ["XR_HAND"] * 7)
ESTIMATES = {each.name: each for each in evaluate(SAMPLES, repeats=0)}


def test_the_roc_curve_has_sensitivity_over_false_positives(axes):
    """Its area is the AUROC, and the operating point at the threshold lies on it."""
    plot_captions.roc_plots(SAMPLES, ESTIMATES, with_paper=False)
    _, curve, point = (call.args[:2] for call in axes.plot.call_args_list)
    x, y = (np.asarray(values) for values in curve)
    # Ten of the twelve pairs of an abnormal and a normal sample are in order.
    area = ((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum()
    assert area == pytest.approx(10 / 12)
    # Above 0.5 are two of three abnormal samples and one of four normal ones.
    assert point == pytest.approx((1 / 4, 2 / 3))
    assert axes.set_xlabel.call_args.args == ("1 - specificity",)
    assert axes.set_ylabel.call_args.args == ("sensitivity",)


def test_the_precision_recall_curve_has_precision_over_recall(axes):
    """The area below its steps is the average precision."""
    (plot,) = plot_captions.precision_recall_plots(SAMPLES, ESTIMATES)
    chance, curve, point = (call.args[:2] for call in axes.plot.call_args_list)
    recall, precision = (np.asarray(values) for values in curve)
    assert axes.plot.call_args_list[1].kwargs["drawstyle"] == "steps-post"
    # A step keeps the precision at its left end: the higher recall, as recall falls.
    area = ((recall[:-1] - recall[1:]) * precision[:-1]).sum()
    # At .9 one of one is abnormal, at .7 two of three, at .4 three of four.
    expected = (1 + 2 / 3 + 3 / 4) / 3
    assert area == pytest.approx(expected)
    assert f"{expected:.3f}" in plot.caption
    # Above 0.5 are two of three abnormal samples, among three that are above it.
    assert point == pytest.approx((2 / 3, 2 / 3))
    assert chance[1] == pytest.approx([3 / 7, 3 / 7])
    assert axes.set_xlabel.call_args.args == ("recall (sensitivity)",)
    assert axes.set_ylabel.call_args.args == ("precision (PPV)",)


def test_one_class_only_has_no_precision_recall_curve(axes):
    samples = EvaluationSet(LABELS[:3], PROB[:3], PATIENTS[:3], ["XR_HAND"] * 3)
    estimates = {each.name: each for each in evaluate(samples, repeats=0)}
    assert plot_captions.precision_recall_plots(samples, estimates) == []
