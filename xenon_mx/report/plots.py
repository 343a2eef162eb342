"""Drawings of numbers: curves of training, ROC, calibration, intervals.

Owns matplotlib and what a drawing looks like. Knows no files, no runs and no
statistics: it draws what it is given.

A drawing is SVG that needs nothing from outside, once in the colours of a light page
and once in those of a dark one: letters are outlines. The same numbers
give the same bytes.
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

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ModuleNotFoundError as error:
    raise XenonError(
        "matplotlib is not installed: pip install 'xenon-mx[report]'"
    ) from error

# A cache that it cannot write to is not worth a line to the user.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

# Inches. A phone of 375 CSS px shows 4.2 in (403 px) at 0.85: 10 pt as 11 px.
_WIDTH, _HEIGHT = 4.2, 3.3
_SQUARE = 4.2  # the height of what stands beside square axes
_LONGEST = 20  # letters of a name beside an axis


class Theme(NamedTuple):
    """The colours of a page; the first is that of letters and axes."""

    ink: str
    grid: str
    first: str
    second: str
    third: str


# Chosen here: blue, orange and green of Okabe and Ito (2008), which colour-blind
# people tell apart, darkened or lightened to 4.5:1 at least against the page.
LIGHT = Theme("#1f2933", "#d5dbe1", "#005a9c", "#a8500b", "#00704f")
DARK = Theme("#e3e8ed", "#3a4652", "#6cb8f0", "#f2a65a", "#4fd0a5")


class ThemedSvg(NamedTuple):
    """One drawing as SVG for a light and for a dark page."""

    light: bytes
    dark: bytes


class Plot(NamedTuple):
    """A drawing on a page: `alt` says in words what it shows, numbers included."""

    drawing: ThemedSvg
    alt: str
    caption: str


class Table(NamedTuple):
    """A table on a page; the first cell of each row names it."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Curve(NamedTuple):
    """One quantity over the epochs.

    Attributes:
        name: For the legend.
        values: (E,) one an epoch; NaN leaves a gap.
        marked: Whether the epochs that were kept are ringed on it.
    """

    name: str
    values: Sequence[float]
    marked: bool


class IntervalRow(NamedTuple):
    """A row of `intervals`: a value with the ends of its interval, NaN if undefined."""

    name: str
    value: float
    low: float
    high: float


def format_number(value: float) -> str:
    """Three decimals; what is undefined says so."""
    return f"{value:.3f}" if math.isfinite(value) else "undefined"


def _draw(paint: Callable[[Axes], None], height: float = _HEIGHT) -> ThemedSvg:
    """Paint one pair of axes in the light colours, and recolour a copy."""
    style: Any = {
        "font.size": 10,
        "font.family": "DejaVu Sans",  # matplotlib brings it
        "svg.fonttype": "path",
        "svg.hashsalt": "xenon",  # else the names within differ from time to time
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
    out = io.BytesIO()
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # Letters that the font lacks become boxes; the page's tables have them.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(_WIDTH, height), constrained_layout=True)
        paint(figure.add_subplot())
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return ThemedSvg(out.getvalue(), _recoloured(out.getvalue()))


def _recoloured(light: bytes) -> bytes:
    """The same drawing in the colours of a dark page."""
    dark = {a.encode(): b.encode() for a, b in zip(LIGHT, DARK)}
    return re.sub(b"|".join(dark), lambda found: dark[found.group()], light)


def curves(
    epochs: Sequence[int],
    lines: Sequence[Curve],
    kept: Sequence[int],
    label: str,
    logarithmic: bool = False,
) -> ThemedSvg:
    """Draw one quantity or two over the epochs.

    Args:
        epochs: (E,) their numbers.
        lines: What to draw, three at most.
        kept: The numbers of the epochs whose weights were kept.
        label: Of the vertical axis.
        logarithmic: Draw powers of ten alike far apart.
    """
    kept_at = [i for i, epoch in enumerate(epochs) if epoch in set(kept)]

    def paint(axes: Axes) -> None:
        styles = ("-", "--", ":")
        for line, colour, style in zip(lines, LIGHT[2:], styles):
            values = np.asarray(line.values, np.float64)
            axes.plot(epochs, values, style, color=colour, marker=".", label=line.name)
            if line.marked:
                axes.plot(
                    [epochs[i] for i in kept_at],
                    values[kept_at],
                    "o",
                    markersize=10,
                    markerfacecolor="none",
                    markeredgecolor=LIGHT.ink,
                    markeredgewidth=1.5,
                    label="kept" if kept_at else None,
                )
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if logarithmic:
            axes.set_yscale("log")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncol=3)

    return _draw(paint)


def roc(
    curve: tuple[np.ndarray, np.ndarray],
    points: Sequence[tuple[str, float, float]],
) -> ThemedSvg:
    """Draw a receiver operating characteristic.

    Args:
        curve: (P,) false positive rates and (P,) true positive rates.
        points: Name, specificity and sensitivity of at most three operating points;
            a NaN is left out.
    """

    def paint(axes: Axes) -> None:
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
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        axes.legend(loc="lower right")

    return _draw(paint, _SQUARE)


def calibration(
    predicted: Sequence[float],
    observed: Sequence[float],
    counts: Sequence[int],
    plural: str,
) -> ThemedSvg:
    """Draw how often cases were abnormal against what was predicted.

    Args:
        predicted: (B,) the mean probability in each bin.
        observed: (B,) the share of abnormal cases in it.
        counts: (B,) its cases; the area of its point follows them.
        plural: What they are: studies or images.
    """

    def paint(axes: Axes) -> None:
        axes.plot(
            [0, 1], [0, 1], ":", color=LIGHT.ink, linewidth=1, label="well calibrated"
        )
        axes.plot(predicted, observed, color=LIGHT.first, linewidth=1.5)
        # Square points: 160 is as large as two neighbouring bins allow.
        sizes = 20 + 140 * np.asarray(counts, np.float64) / max([*counts, 1])
        axes.scatter(
            predicted, observed, sizes, color=LIGHT.first, label=f"{plural} in a bin"
        )
        axes.set_xlabel("predicted probability of abnormal")
        axes.set_ylabel("share that is abnormal")
        axes.set_xlim(-0.04, 1.04)
        axes.set_ylim(-0.04, 1.04)
        axes.set_aspect("equal")
        axes.legend(loc="upper left", markerscale=0.6)

    return _draw(paint, _SQUARE)


def intervals(
    rows: Sequence[IntervalRow],
    marks: Sequence[tuple[str, Sequence[float]]],
    label: str,
) -> ThemedSvg:
    """Draw values with their intervals, a row each, and others' values beside them.

    Args:
        rows: From top to bottom; an undefined value leaves its row empty.
        marks: At most two series of others' values: a name and a value a row, NaN
            where there is none.
        label: Of the horizontal axis.
    """
    places = np.arange(len(rows))[::-1]

    def paint(axes: Axes) -> None:
        for place, row in zip(places, rows):
            if math.isfinite(row.low) and math.isfinite(row.high):
                axes.plot([row.low, row.high], [place, place], color=LIGHT.first)
        sure = np.isfinite([row.low for row in rows])
        found = np.array([row.value for row in rows])
        groups = [(sure, "full", "this ensemble")]
        if not sure.all():
            groups.append((~sure, "none", "the same, no interval"))
        for chosen, fill, name in groups:
            axes.plot(
                np.where(chosen, found, math.nan),
                places,
                "o",
                color=LIGHT.first,
                fillstyle=fill,
                label=name,
            )
        for (name, values), colour, marker in zip(marks, LIGHT[3:], "D|"):
            axes.plot(
                values,
                places,
                marker,
                color=colour,
                markersize=11 if marker == "|" else 6,
                markeredgewidth=2,
                fillstyle="none",
                label=name,
            )
        axes.set_yticks(places)
        axes.set_yticklabels([_plain(row.name) for row in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(label)
        axes.grid(axis="y", visible=False)
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncol=1)

    return _draw(paint, 1.8 + 0.3 * len(rows))


def _plain(name: str) -> str:
    """A name from outside, short, and with no dollar read as a formula's."""
    short = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
    return short.replace("$", r"\$")


def histogram(
    groups: Mapping[str, np.ndarray], threshold: float, label: str
) -> ThemedSvg:
    """Draw how many cases were given which probability, stacked.

    Args:
        groups: At most two: a name, and probabilities from 0 to 1.
        threshold: Where abnormal begins.
        label: Of the vertical axis.
    """

    def paint(axes: Axes) -> None:
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

    return _draw(paint, _SQUARE)
