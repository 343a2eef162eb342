"""Forest plots: which way a difference is drawn, and what the words say."""

from __future__ import annotations

import math

import pytest

from xenon_mx.evaluation.comparison import Difference
from xenon_mx.evaluation.estimates import Estimate
from xenon_mx.reporting import forest_plot, interval_plots
from xenon_mx.reporting.comparison_tables import Names
from xenon_mx.reporting.interval_plots import IntervalRow

NAMES = Names("A", "B", "A - B")
NOTHING = Estimate("", 0, 0, 0)


def difference(name, value, low, high):
    return Difference(name, NOTHING, NOTHING, value, low, high, 0.5)


@pytest.fixture
def drawn(monkeypatch):
    """What the next forest plot draws."""
    calls = []
    draw = forest_plot.draw_forest
    monkeypatch.setattr(
        forest_plot, "draw_forest", lambda *args: (calls.append(args), draw(*args))[1]
    )
    return calls


def test_better_is_right_also_where_lower_is_better(drawn):
    rows = [
        ("kappa", difference("kappa", 0.1, -0.05, 0.25)),
        ("Brier score", difference("Brier score", -0.02, -0.05, 0.01)),
    ]
    plot = forest_plot.forest_plot(rows, NAMES, 0.05, "Differences")
    ((found, label, margin),) = drawn
    assert found[0] == IntervalRow("kappa", 0.1, -0.05, 0.25)
    assert found[1].name == "Brier score, B - A"
    assert found[1][1:] == pytest.approx((0.02, -0.01, 0.05))
    assert (label, margin) == ("right of 0: A is better", 0.05)
    no_break = "\N{NO-BREAK SPACE}"
    assert f"kappa 0.100 (-0.05{no_break}to{no_break}0.25)" in plot.alt
    assert f"Brier score -0.020 (-0.05{no_break}to{no_break}0.01)" in plot.alt  # A - B
    assert "A is non-inferior by the margin of 0.05." in plot.caption
    plot = forest_plot.forest_plot(rows, NAMES, None, "Differences")
    assert "dashed" not in plot.caption


def test_what_has_no_interval_or_no_value_can_be_drawn():
    nan = math.nan
    rows = [
        IntervalRow("with", 0.1, 0.0, 0.2),
        IntervalRow("open", 0.3, nan, nan),
        IntervalRow("nothing $x$", nan, nan, nan),
    ]
    three = interval_plots.draw_forest(rows, "label", None)
    two = interval_plots.draw_forest(rows[:2], "label", None)
    assert three.light.startswith(b"<?xml")
    assert len(three.light) > len(two.light)
    assert three.light != three.dark
