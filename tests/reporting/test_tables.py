"""Numbers as text: one form for an estimate, wherever people read it."""

from __future__ import annotations

import math

import pytest

from xenon_mx import console
from xenon_mx.evaluation.estimates import Estimate
from xenon_mx.evaluation.study_type_metrics import StudyTypeMetrics
from xenon_mx.reporting.tables import NO_BREAK, format_cell, format_estimate


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.25, -0.537, 1), "0.250 (-0.54 to 1.00)"),
        ((0.8294, 0.744, 0.9149), "0.829 (0.74 to 0.91)"),
        ((1, math.nan, math.nan), "1.000 (no interval)"),
        ((math.nan, math.nan, math.nan), "undefined"),
    ],
)
def test_an_estimate_has_one_form(numbers, text, capsys):
    estimate = Estimate("kappa", *numbers)
    assert format_cell(estimate).replace("\n", " ") == text
    assert format_estimate(estimate).replace(NO_BREAK, " ") == text
    both = {"kappa": estimate, "AUROC": estimate}
    console.print_metrics([StudyTypeMetrics("XR_WRIST", 9, 2, 3, 4, both)])
    assert capsys.readouterr().err.splitlines()[1].count(text) == 2
