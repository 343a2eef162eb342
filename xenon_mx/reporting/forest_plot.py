"""Forest plots of differences, with their alt texts.

Owns which way each difference is drawn, and the words beside it; must not know how a
plot is drawn (`interval_plots`), or how differences are computed.
"""

from __future__ import annotations

from typing import Sequence

from xenon_mx.evaluation.comparison import LOWER_IS_BETTER, Difference
from xenon_mx.reporting.comparison_tables import Names, as_estimate
from xenon_mx.reporting.interval_plots import IntervalRow, draw_forest
from xenon_mx.reporting.plot_style import Plot
from xenon_mx.reporting.tables import format_estimate


def forest_plot(
    rows: Sequence[tuple[str, Difference]],
    names: Names,
    margin: float | None,
    title: str,
) -> Plot:
    """Return a forest plot of differences: right of 0, the first is better.

    A metric of which lower values are better is drawn as the second minus the first.

    Args:
        rows: Names and differences, from top to bottom.
        names: What the two predictions are called.
        margin: The margin of non-inferiority, drawn left of 0; None draws none.
        title: What the differences are of, such as `Differences in kappa`.
    """
    drawn = [_row(name, each, names) for name, each in rows]
    values = "; ".join(
        f"{name} {format_estimate(as_estimate(each))}" for name, each in rows
    )
    caption = (
        f"{title}, {names.formula}, with 95% intervals. An interval that crosses 0 "
        f"leaves open which is better."
    )
    if margin is not None:
        caption += (
            f" Where an interval lies right of the dashed line, {names.first} is "
            f"non-inferior by the margin of {margin:g}."
        )
    return Plot(
        draw_forest(drawn, f"right of 0: {names.first} is better", margin),
        f"{title}, {names.formula} with 95% intervals: {values}.",
        caption,
    )


def _row(name: str, difference: Difference, names: Names) -> IntervalRow:
    """Return the row of a difference, in the direction in which more is better."""
    value, low, high = difference.value, difference.low, difference.high
    if difference.name not in LOWER_IS_BETTER:
        return IntervalRow(name, value, low, high)
    reverse = f"{name}, {names.second} - {names.first}"
    return IntervalRow(reverse, -value, -high, -low)
