"""Tables of the page, and numbers as text.

Owns how numbers and estimates are printed; must not know what they were computed from.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

from xenon_mx.evaluation.estimates import Estimate
from xenon_mx.runtime.text import format_with_interval

NO_BREAK = "\N{NO-BREAK SPACE}"
_SMALLEST_P = 0.001  # that is printed as a number


class Table(NamedTuple):
    """A table; the first cell of each row is the row's name."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def format_estimate(estimate: Estimate) -> str:
    """Return a value and its interval for a sentence: `0.829 (0.74 to 0.91)`."""
    value, _, interval = format_cell(estimate).partition("\n")
    return f"{value} {interval.replace(' ', NO_BREAK)}".rstrip()


def format_cell(estimate: Estimate) -> str:
    """Return a value, and below it its interval, in which a narrow cell may break."""
    return format_with_interval(estimate.value, estimate.low, estimate.high, "\n")


def format_p(p: float) -> str:
    """Return a p-value with three decimals, `< 0.001`, or `undefined`."""
    if math.isnan(p):
        return "undefined"
    return f"{p:.3f}" if p >= _SMALLEST_P else f"< {_SMALLEST_P}"


def six_digits(value: float) -> str:
    """Return a number as in --figures, empty if it is undefined."""
    return f"{value:.6g}" if math.isfinite(value) else ""
