"""File names are escaped for one line, and quoted for a shell without loss."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from xenon_mx.runtime import text

NAMES = {
    b"plain/name.csv": "plain/name.csv",
    b'it\'s "so" $HOME': 'it\'s "so" $HOME',
    "Röntgen 図.csv".encode(): "Röntgen 図.csv",
    b"two\nlines\r\t": "two\\nlines\\r\\t",
    b"\xff7": "\\xff7",
    b"\x1b[31mred\x7f": "\\x1b[31mred\\x7f",
    "\u2028\x85".encode() + b"'\\": "\\u2028\\x85'\\",
    "ä\n1".encode() + b"\xc3": "ä\\n1\\xc3",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_line(name):
    line = text.one_line(os.fsdecode(name))
    assert line == NAMES[name]
    assert len(line.splitlines()) == 1
    line.encode()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_can_be_pasted_into_a_shell(name):
    quoted = text.shell_quote(Path(os.fsdecode(name)))
    assert text.one_line(quoted) == quoted
    done = subprocess.run(["bash", "-c", f"printf %s {quoted}"], capture_output=True)
    assert (done.stdout, done.stderr) == (name, b"")


def test_the_working_directory_is_named_in_full(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert text.folder_name(Path()) == str(tmp_path / "a" / "b")
    assert text.folder_name(Path("..")) == str(tmp_path / "a")
    assert text.folder_name(Path("../b")) == "../b"
    assert text.folder_name(Path("./b")) == "b"


def test_a_plain_name_is_not_quoted():
    assert text.shell_quote(Path("a/b-c_1.csv")) == "a/b-c_1.csv"


@pytest.mark.parametrize(
    ("count", "words", "wanted"),
    [
        (0, ("study", "studies"), "0 studies"),
        (1, ("image",), "1 image"),
        (1, ("image is", "images are"), "1 image is"),
        (36808, ("image",), "36,808 images"),
    ],
)
def test_a_number_agrees_with_its_noun(count, words, wanted):
    assert text.counted(count, *words) == wanted


def test_no_message_has_a_number_before_a_fixed_plural():
    """Of "1 images" and the like."""
    package = Path(text.__file__).parent.parent
    counted = re.compile(
        r"(?<!one of )(\{(len\([^}]*\)|\w*count)(:,)?\}|%d) "
        r"(?!was\b|is\b|has\b)[a-z]+s\b"
    )
    found = [
        f"{file.relative_to(package)}: {line.strip()}"
        for file in package.rglob("*.py")
        for line in file.read_text().splitlines()
        if counted.search(line)
    ]
    assert found == []


def test_similar_names_are_told_by_their_letters_and_digits():
    known = ["patient", "study", "study_type"]
    assert text.similar("Pateint", known, 0.8) == ["patient"]
    assert text.similar("STUDY-TYPES", known, 0.8) == ["study_type"]
    assert text.similar("scanner", known, 0.8) == []
    assert text.similar("", known, 0.8) == text.similar("a", [], 0.8) == []


def test_names_that_begin_with_a_name():
    assert text.begun("Study", ["study", "study_type", "patient"]) == [
        "study",
        "study_type",
    ]
    assert text.begun("-", ["study"]) == []


def test_a_long_text_is_cut():
    assert text.shortened("abcdef", 6) == "abcdef"
    assert text.shortened("abcdefg", 6) == "abc..."


def test_a_few_faults_are_listed_and_many_are_counted_by_their_reason():
    faults = [(f"row {n}", ("not 'no'", "not 'yes'")[n % 3 == 0]) for n in range(2, 22)]
    assert text.summarised(faults, "row") == [f"{a}: {b}" for a, b in faults]
    faults += [("row 2000", "not 'maybe'")] + [("row 9", "not 'no'")] * 1000
    assert text.summarised(faults, "row") == [
        "1,013 rows, such as row 2: not 'no'",
        "7 rows, such as row 3: not 'yes'",
        "row 2000: not 'maybe'",
    ]


def test_faults_of_many_reasons_are_cut():
    faults = [(f"row {n}", f"not {n}") for n in range(3000)]
    lines = text.summarised(faults, "row")
    assert lines[:20] == [f"row {n}: not {n}" for n in range(20)]
    assert lines[20:] == ["and 2,980 others"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0123, "0.0123"), (2.287, "2.29"), (99.9, "99.9"), (538.4, "538")]
    + [(20000.0, "20,000"), (1234567.0, "1,234,567")],
)
def test_a_rate_has_three_digits_or_all(value, expected):
    assert text.format_rate(value) == expected
