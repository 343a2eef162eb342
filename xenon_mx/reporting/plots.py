"""Plots as SVG: training curves, ROC curve, calibration, intervals, histogram.

Owns matplotlib and the look of a plot; must not know files, runs or how the numbers
were computed.

A plot is an SVG that loads nothing and contains its letters as outlines, once in the
colours of a light page and once in those of a dark page. The same numbers give the same
bytes.
"""

from __future__ import annotations

import io
import logging
import math
import re
import warnings
from typing import Any, Callable, Mapping, NamedTuple, Sequence

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.runtime import extras

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ModuleNotFoundError as error:
    raise XenonError(
        f"matplotlib is not installed: {extras.install('report')}"
    ) from error

# matplotlib warns if it cannot write its font cache, which does not concern the user.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

# Inches. A phone of 375 CSS px shows 4.2 in (403 px) at 0.85: 10 pt as 11 px.
_WIDTH, _HEIGHT = 4.2, 3.3
_SQUARE_HEIGHT = 4.2  # of plots with square axes, and of the plots in the same row
_LONGEST_NAME = 20  # letters of a name beside an axis


class Theme(NamedTuple):
    """The colours of a page: letters and axes, grid lines, and three series."""

    ink: str
    grid: str
    first: str
    second: str
    third: str


# Chosen here: blue, orange and green of Okabe and Ito (2008), which colour-blind
# people can distinguish, darkened or lightened to a contrast of at least 4.5:1.
LIGHT = Theme(
    ink="#1f2933", grid="#d5dbe1", first="#005a9c", second="#a8500b", third="#00704f"
)
DARK = Theme(
    ink="#e3e8ed", grid="#3a4652", first="#6cb8f0", second="#f2a65a", third="#4fd0a5"
)

_STYLE: Any = {
    "font.size": 10,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "svg.fonttype": "path",
    "svg.hashsalt": "xenon",  # otherwise the ids in the SVG differ from run to run
    "text.color": LIGHT.ink,
    "axes.labelcolor": LIGHT.ink,
    "axes.edgecolor": LIGHT.ink,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT.grid,
    "xtick.color": LIGHT.ink,
    "ytick.color": LIGHT.ink,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 2,
}


class ThemedSvg(NamedTuple):
    """One plot as SVG for a light and for a dark page."""

    light: bytes
    dark: bytes


class Plot(NamedTuple):
    """A plot on a page; `alt` describes it in words, numbers included."""

    drawing: ThemedSvg
    alt: str
    caption: str


class Curve(NamedTuple):
    """One quantity over the epochs.

    Attributes:
        name: Name in the legend.
        values: (E,) one value per epoch; NaN leaves a gap.
        has_rings: Whether the epochs of the ensemble are ringed on the curve.
    """

    name: str
    values: Sequence[float]
    has_rings: bool


class IntervalRow(NamedTuple):
    """A row of `draw_intervals`: a value and its interval, NaN if undefined."""

    name: str
    value: float
    low: float
    high: float


def _render(draw: Callable[[Axes], None], height: float = _HEIGHT) -> ThemedSvg:
    """Draw on one pair of axes in the light colours, and recolour a copy."""
    out = io.BytesIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # Letters missing in the font are drawn as boxes; the page's tables have them.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(_WIDTH, height), constrained_layout=True)
        draw(figure.add_subplot())
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return ThemedSvg(out.getvalue(), _recoloured(out.getvalue()))


def _recoloured(light: bytes) -> bytes:
    """Return the same SVG in the colours of a dark page."""
    dark = {a.encode(): b.encode() for a, b in zip(LIGHT, DARK)}
    return re.sub(b"|".join(dark), lambda match: dark[match.group()], light)


def draw_training_curves(
    epochs: Sequence[int],
    curves: Sequence[Curve],
    kept: Sequence[int],
    label: str,
    logarithmic: bool = False,
) -> ThemedSvg:
    """Draw up to three quantities over the epochs.

    Args:
        epochs: (E,) numbers of the epochs.
        curves: The quantities.
        kept: Numbers of the epochs whose checkpoints form the ensemble.
        label: Label of the vertical axis.
        logarithmic: Whether the vertical axis is logarithmic.
    """
    kept_index = [i for i, epoch in enumerate(epochs) if epoch in set(kept)]

    def draw(axes: Axes) -> None:
        for curve, colour, style in zip(curves, LIGHT[2:], ("-", "--", ":")):
            values = np.asarray(curve.values, np.float64)
            axes.plot(epochs, values, style, color=colour, marker=".", label=curve.name)
            if curve.has_rings:
                _draw_rings(axes, [epochs[i] for i in kept_index], values[kept_index])
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if logarithmic:
            axes.set_yscale("log")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncol=3)

    return _render(draw)


def _draw_rings(axes: Axes, epochs: Sequence[int], values: np.ndarray) -> None:
    axes.plot(
        epochs,
        values,
        "o",
        markersize=10,
        markerfacecolor="none",
        markeredgecolor=LIGHT.ink,
        markeredgewidth=1.5,
        label="kept" if epochs else None,
    )


def draw_roc_curve(
    curve: tuple[np.ndarray, np.ndarray],
    points: Sequence[tuple[str, float, float]],
) -> ThemedSvg:
    """Draw a receiver operating characteristic.

    Args:
        curve: (P,) false positive rates and (P,) true positive rates.
        points: Name, specificity and sensitivity of up to three operating points; NaN
            is not drawn.
    """

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color=LIGHT.ink, linewidth=1, label="chance")
        axes.plot(*curve, color=LIGHT.first, label="this ensemble")
        markers = zip(points, (LIGHT.first, LIGHT.second, LIGHT.third), "oD^")
        for (name, specificity, sensitivity), colour, marker in markers:
            axes.plot(
                1 - specificity,
                sensitivity,
                marker,
                color=colour,
                markeredgecolor=LIGHT.ink,
                markersize=9,
                linestyle="none",
                label=name,
            )
        axes.set_xlabel("1 - specificity")
        axes.set_ylabel("sensitivity")
        _make_square(axes, margin=0.02)
        axes.legend(loc="lower right")

    return _render(draw, _SQUARE_HEIGHT)


def draw_calibration_curve(
    predicted: Sequence[float],
    observed: Sequence[float],
    counts: Sequence[int],
    plural: str,
) -> ThemedSvg:
    """Draw the share of abnormal samples over the predicted probability.

    Args:
        predicted: (B,) mean probability in each bin.
        observed: (B,) share of abnormal samples in each bin.
        counts: (B,) number of samples in each bin, shown by the area of its point.
        plural: `studies` or `images`.
    """

    def draw(axes: Axes) -> None:
        axes.plot(
            [0, 1], [0, 1], ":", color=LIGHT.ink, linewidth=1, label="well calibrated"
        )
        axes.plot(predicted, observed, color=LIGHT.first, linewidth=1.5)
        # Areas in square points: 160 is the largest that two neighbouring bins allow.
        sizes = 20 + 140 * np.asarray(counts, np.float64) / max([*counts, 1])
        axes.scatter(
            predicted, observed, sizes, color=LIGHT.first, label=f"{plural} in a bin"
        )
        axes.set_xlabel("predicted probability of abnormal")
        axes.set_ylabel("share that is abnormal")
        _make_square(axes, margin=0.04)
        axes.legend(loc="upper left", markerscale=0.6)

    return _render(draw, _SQUARE_HEIGHT)


def _make_square(axes: Axes, margin: float) -> None:
    """Show 0 to 1 and a margin on both axes, in the same scale."""
    axes.set_xlim(-margin, 1 + margin)
    axes.set_ylim(-margin, 1 + margin)
    axes.set_aspect("equal")


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
        axes.set_yticklabels([_axis_name(row.name) for row in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(label)
        axes.grid(axis="y", visible=False)
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncol=1)

    return _render(draw, 1.8 + 0.3 * len(rows))


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


def _axis_name(name: str) -> str:
    """Return a shortened name in which matplotlib reads no dollar as a formula."""
    longest = _LONGEST_NAME
    short = name if len(name) <= longest else name[: longest - 1] + "…"
    return short.replace("$", r"\$")


def draw_histogram(
    groups: Mapping[str, np.ndarray], threshold: float, label: str
) -> ThemedSvg:
    """Draw a stacked histogram of probabilities.

    Args:
        groups: Up to two: a name, and probabilities from 0 to 1.
        threshold: Drawn as a vertical line.
        label: Label of the vertical axis.
    """

    def draw(axes: Axes) -> None:
        axes.hist(
            list(groups.values()),
            bins=20,
            range=(0, 1),
            stacked=True,
            color=[LIGHT.first, LIGHT.second][: len(groups)],
            edgecolor=LIGHT.grid,
            label=list(groups),
        )
        axes.axvline(threshold, color=LIGHT.ink, linestyle="--", label="threshold")
        axes.set_xlabel("predicted probability of abnormal")
        axes.set_ylabel(label)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncol=2)

    return _render(draw, _SQUARE_HEIGHT)
