"""CSVs that people open in a spreadsheet, where a cell of text may be a formula.

Owns the apostrophe before such a cell, how it is written and undone; must not know what
a table holds.

A spreadsheet runs a cell that begins like a formula: `=1+1.png`, or one that calls
another program. An apostrophe before it makes it text (OWASP, CSV Injection). Reading
takes it away again, so that every text comes back as it was. Numbers stay as they are.
"""

from __future__ import annotations

import csv
import io
import re
from typing import Iterable, Sequence

_APOSTROPHE = "'"
# OWASP's first characters of a formula, the full-width ones included. Apostrophes may
# precede them: a text that has one already gets another, so that undoing is exact.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def to_csv(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as a CSV with guarded cells, each line ending in a line feed."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerows([_guarded(cell) for cell in row] for row in rows)
    return out.getvalue()


def guard(text: str) -> str:
    """Return a cell of text with an apostrophe before it if it were a formula."""
    return _APOSTROPHE + text if _is_formula(text) else text


def unguard(cell: str) -> str:
    """Return the text that `guard` made a cell of."""
    rest = cell[1:]
    return rest if cell[:1] == _APOSTROPHE and _is_formula(rest) else cell


def _guarded(cell: object) -> object:
    return guard(cell) if isinstance(cell, str) else cell


def _is_formula(text: str) -> bool:
    return bool(_FORMULA.match(text)) and not _NUMBER.fullmatch(text)
