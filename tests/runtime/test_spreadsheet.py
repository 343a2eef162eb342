"""No cell of text is a formula to a spreadsheet, and every text comes back."""

from __future__ import annotations

import csv
import io
import itertools

import pytest

from xenon_mx.runtime import spreadsheet

# OWASP's list of first characters (CSV Injection), and its full-width ones.
STARTS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"


@pytest.mark.parametrize("start", STARTS)
def test_a_text_like_a_formula_gets_an_apostrophe(start):
    text = f"{start}1+1.png"
    assert spreadsheet.guard(text) == f"'{text}"
    assert spreadsheet.unguard(f"'{text}") == text


@pytest.mark.parametrize(
    "cell",
    ["-1.5", "+2", "-0", "-.5", "1e-9", "-1.25e-07", "", "a=1", "'", "'tis"],
)
def test_numbers_and_other_texts_stay_as_they_are(cell):
    assert spreadsheet.guard(cell) == cell
    assert spreadsheet.unguard(cell) == cell


@pytest.mark.parametrize("cell", ["-1.5.", "+-2", "-1-1", "=1", "-", "+1e", "-1,5"])
def test_what_is_no_number_is_guarded(cell):
    assert spreadsheet.guard(cell) == f"'{cell}"


def test_every_text_comes_back():
    """All texts of up to five characters that matter to the rule."""
    for length in range(6):
        for chars in itertools.product("'=-1.a\t", repeat=length):
            text = "".join(chars)
            assert spreadsheet.unguard(spreadsheet.guard(text)) == text


def test_a_csv_is_guarded_in_text_and_header_but_not_in_numbers():
    rows = [("=name", "value"), ("@a", -0.5), ('=HYPERLINK("x")', "-0.5"), ("b,c", 1)]
    written = spreadsheet.to_csv(rows)
    assert written.splitlines()[:2] == ["'=name,value", "'@a,-0.5"]
    read = list(csv.reader(io.StringIO(written)))
    assert [[spreadsheet.unguard(cell) for cell in row] for row in read] == [
        [str(cell) for cell in row] for row in rows
    ]
