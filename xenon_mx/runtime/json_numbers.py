"""Numbers that JSON lacks: NaN and infinity.

Owns their form in JSON: NaN is null, and an infinity is the text `inf` or `-inf`.
Python's `json` would write the words NaN and Infinity, which other programs refuse to
read. Must not know any file.
"""

from __future__ import annotations

import math
from typing import Any


def to_json(number: float) -> float | str | None:
    """Return a number as a JSON value."""
    if math.isfinite(number):
        return number
    return None if math.isnan(number) else str(float(number))


def from_json(value: Any) -> float:
    """Return the number that `to_json` was given, a float.

    Raises:
        TypeError, ValueError: It is not a number.
    """
    return math.nan if value is None else float(value)
