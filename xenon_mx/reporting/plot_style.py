"""The look of a plot, and axes as an SVG.

Owns matplotlib, colours, letters and sizes; must not know what is drawn (`plots`).

A plot is an SVG that loads nothing and contains its letters as outlines, once in the
colours of a light page and once in those of a dark page. The same numbers give the same
bytes.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from typing import Any, Callable, NamedTuple

from xenon_mx.errors import XenonError
from xenon_mx.runtime import extras

try:
    import matplotlib
    from matplotlib.axes import Axes as Axes  # what `as` repeats is for `plots`
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter as LogFormatter
    from matplotlib.ticker import MaxNLocator as MaxNLocator
except ModuleNotFoundError as error:
    raise XenonError(
        f"matplotlib is not installed: {extras.install('report')}"
    ) from error

# matplotlib warns if it cannot write its font cache, which does not concern the user.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

# Inches. A phone of 375 CSS px shows 4.2 in (403 px) at 0.85: 10 pt as 11 px. Two
# plots side by side on A4 are shown at 0.87: 9.5 pt, the smallest letters, as 8.3 pt.
_WIDTH, _HEIGHT = 4.2, 3.3
SQUARE_HEIGHT = 4.2  # of plots with square axes, and of the plots in the same row


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
    "legend.fontsize": 9.5,
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


def render(draw: Callable[[Axes], None], height: float = _HEIGHT) -> ThemedSvg:
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


def make_square(axes: Axes, margin: float) -> None:
    """Show 0 to 1 and a margin on both axes, in the same scale."""
    axes.set_xlim(-margin, 1 + margin)
    axes.set_ylim(-margin, 1 + margin)
    axes.set_aspect("equal")
