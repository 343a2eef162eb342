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
