"""Plots of values with their intervals, one below the other.

Owns what is drawn on their axes; must not know matplotlib's settings (`plot_style`), or
how the numbers were computed.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

import numpy as np

from xenon_mx.reporting.plot_style import LIGHT, Axes, ThemedSvg, render

_LONGEST_NAME = 20  # letters of a name beside an axis


class IntervalRow(NamedTuple):
    """A row: a value and its interval, NaN if undefined."""

    name: str
    value: float
    low: float
    high: float


def draw_intervals(
    rows: Sequence[IntervalRow],
    marks: Sequence[tuple[str, Sequence[float]]],
    label: str,
) -> ThemedSvg:
    """Draw values with their intervals, one per row, and values to compare with.

    Args:
        rows: From top to bottom; the row of an undefined value is empty.
        marks: Up to two series to compare with: a name and one value per row, NaN
            where there is none.
        label: Label of the horizontal axis.
    """
    heights = np.arange(len(rows))[::-1]

    def draw(axes: Axes) -> None:
        _draw_own_values(axes, rows, heights)
        for (name, values), colour, marker in zip(marks, LIGHT[3:], "D|"):
            axes.plot(
                values,
                heights,
                marker,
                color=colour,
                markersize=11 if marker == "|" else 6,
                markeredgewidth=2,
                fillstyle="none",
                label=name,
            )
        axes.set_yticks(heights)
        axes.set_yticklabels([axis_name(row.name) for row in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(label)
        axes.grid(axis="y", visible=False)
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncol=1)

    return render(draw, 1.8 + 0.3 * len(rows))


def _draw_own_values(
    axes: Axes, rows: Sequence[IntervalRow], heights: np.ndarray
) -> None:
    """Draw the intervals, and the values: filled with an interval, open without."""
    for height, row in zip(heights, rows):
        if math.isfinite(row.low) and math.isfinite(row.high):
            axes.plot([row.low, row.high], [height, height], color=LIGHT.first)
    has_interval = np.isfinite([row.low for row in rows])
    values = np.array([row.value for row in rows])
    groups = [(has_interval, "full", "this ensemble")]
    if not has_interval.all():
        groups.append((~has_interval, "none", "this ensemble, no interval"))
    for chosen, fill, name in groups:
        axes.plot(
            np.where(chosen, values, math.nan),
            heights,
            "o",
            color=LIGHT.first,
            fillstyle=fill,
            label=name,
        )


def axis_name(name: str) -> str:
    """Return a shortened name in which matplotlib reads no dollar as a formula."""
    longest = _LONGEST_NAME
    short = name if len(name) <= longest else name[: longest - 1] + "…"
    return short.replace("$", r"\$")


def draw_forest(
    rows: Sequence[IntervalRow], label: str, margin: float | None
) -> ThemedSvg:
    """Draw differences with their intervals, one per row.

    Args:
        rows: From top to bottom; a value without an interval is an open circle, and the
            row of an undefined value is empty.
        label: Label of the horizontal axis.
        margin: Drawn as a line at minus the margin; None draws none.
    """
    heights = np.arange(len(rows))[::-1]

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=LIGHT.ink, linewidth=1)
        if margin is not None:
            axes.axvline(-margin, color=LIGHT.second, linestyle="--", linewidth=1.5)
        for height, row in zip(heights, rows):
            has_interval = math.isfinite(row.low)
            if has_interval:
                axes.plot([row.low, row.high], [height, height], color=LIGHT.first)
            axes.plot(
                row.value,
                height,
                "s",
                color=LIGHT.first,
                fillstyle="full" if has_interval else "none",
            )
        axes.set_yticks(heights)
        axes.set_yticklabels([axis_name(row.name) for row in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(label)
        axes.margins(x=0.08)
        axes.grid(axis="y", visible=False)

    return render(draw, 1.2 + 0.3 * len(rows))
