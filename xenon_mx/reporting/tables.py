"""Tables of the page, and numbers as text.

Owns how numbers and estimates are printed; must not know what they were computed from.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

from xenon_mx.evaluation.estimates import Estimate

NO_BREAK = "\N{NO-BREAK SPACE}"


class Table(NamedTuple):
    """A table; the first cell of each row is the row's name."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def format_number(value: float) -> str:
    """Return a number with three decimals, or `undefined`."""
    return f"{value:.3f}" if math.isfinite(value) else "undefined"


def format_estimate(estimate: Estimate, separator: str = " ") -> str:
    """Return a value and its interval, such as `0.829 (0.744, 0.912)`."""
    if not math.isfinite(estimate.value):
        return "undefined"
    interval = f"(no{NO_BREAK}interval)"
    if math.isfinite(estimate.low):
        interval = f"({estimate.low:.3f},{NO_BREAK}{estimate.high:.3f})"
    return f"{format_number(estimate.value)}{separator}{interval}"
