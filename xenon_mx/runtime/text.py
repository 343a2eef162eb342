"""Words of messages: names on one line, numbers with nouns, names that were meant.

Owns the escapes of arbitrary names for a line of a log and for a shell, numbers as text
with their nouns or units, and which known names a name is like; must not know commands
or files. In a Python string, a byte of a file name that is not UTF-8 is a surrogate,
U+DC80 to U+DCFF.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import shlex
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Iterable, Sequence

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Control characters, surrogates, line and paragraph separators.
_ESCAPED_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
_MOST_LINES = 20  # of a list in a message; chosen here: a screen has 24 or more
_FIRST_SURROGATE, _LAST_SURROGATE, _SURROGATE_OFFSET = 0xDC80, 0xDCFF, 0xDC00


def one_line(text: object) -> str:
    r"""Return text as one printable line: a newline as \n, an invalid byte as \xff."""
    return "".join(map(_escape, str(text)))


def folder_name(folder: Path) -> str:
    """Return a folder as messages name it: `.` and `..` in full."""
    is_relative_dot = set(folder.parts) <= {".."}  # `.` has no parts
    return os.path.abspath(folder) if is_relative_dot else str(folder)


def shell_quote(path: object) -> str:
    """Return a path quoted for a shell, so that it can be pasted."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else str(path)
    if one_line(text) == text:
        return shlex.quote(text)
    # Bash, zsh, ksh, and POSIX since 2024. Three octal digits are the only numeric
    # escape that ends at the same character in all of them.
    return "$'" + "".join(map(_escape_for_shell, text)) + "'"


def _escape_for_shell(char: str) -> str:
    if char in "'\\" or _escape(char) != char:
        return "".join(f"\\{byte:03o}" for byte in os.fsencode(char))
    return char


def _escape(char: str) -> str:
    if char.isprintable() or unicodedata.category(char) not in _ESCAPED_CATEGORIES:
        return char
    if char in _ESCAPES:
        return _ESCAPES[char]
    code = ord(char)
    if _FIRST_SURROGATE <= code <= _LAST_SURROGATE:
        code -= _SURROGATE_OFFSET
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun, or with noun and verb.

    Args:
        count: The number, which is written with commas: `36,808 images`.
        singular: The words for one: `study`, `image is`.
        plural: The words for any other number; by default `singular` and an s.
    """
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def format_number(value: float) -> str:
    """Return a number with three decimals, or `undefined`."""
    return f"{value:.3f}" if math.isfinite(value) else "undefined"


def format_rate(value: float) -> str:
    """Return a number with three digits, or all of a larger one: `2.29`, `20,000`."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def format_interval(low: float, high: float) -> str:
    """Return the ends of an interval: `(0.74 to 0.91)`."""
    return f"({low:.2f} to {high:.2f})"


def format_with_interval(
    value: float, low: float, high: float, separator: str = " "
) -> str:
    """Return a number and its interval: `0.829 (0.74 to 0.91)`.

    Args:
        value: The number; if it is not finite, the text is `undefined`.
        low: The lower end; if it is not finite, there is no interval.
        high: The upper end.
        separator: What stands between number and interval.
    """
    if not math.isfinite(value):
        return "undefined"
    interval = format_interval(low, high) if math.isfinite(low) else "(no interval)"
    return f"{format_number(value)}{separator}{interval}"


def summarised(
    faults: Sequence[tuple[str, str]], singular: str, plural: str = ""
) -> list[str]:
    """Return lines that tell what is wrong where, at most 21 of them.

    More than 20 faults are counted by their reason, the most frequent first, each with
    the first place of it.

    Args:
        faults: The place and the reason of each.
        singular: The words for one place: `row`.
        plural: The words for any other number of them.
    """
    if len(faults) <= _MOST_LINES:
        return [f"{place}: {reason}" for place, reason in faults]
    first: dict[str, str] = {}
    for place, reason in faults:
        first.setdefault(reason, place)
    counts = Counter(reason for _, reason in faults).most_common()
    lines = [
        f"{first[reason]}: {reason}"
        if count == 1
        else f"{counted(count, singular, plural)}, such as {first[reason]}: {reason}"
        for reason, count in counts[:_MOST_LINES]
    ]
    others = sum(count for _, count in counts[_MOST_LINES:])
    return [*lines, f"and {counted(others, 'other')}"] if others else lines


def shortened(text: str, longest: int) -> str:
    """Return a text, cut to a number of characters, of which three tell that it was."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def similar(name: str, known: Iterable[str], cutoff: float) -> list[str]:
    """Return the known names that a name is like, the most alike first.

    Only letters and digits are compared, without regard to case: `DenseNet-169` is like
    `densenet169`.

    Args:
        name: The name.
        known: The names that are known.
        cutoff: The smallest similarity, 0 to 1, as `difflib.SequenceMatcher.ratio`
            computes it.
    """
    plain_names = {_plain(each): each for each in known}
    near = difflib.get_close_matches(
        _plain(name), plain_names, n=len(plain_names) or 1, cutoff=cutoff
    )
    return [plain_names[plain] for plain in near]


def begun(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that begin with a name, compared as in `similar`."""
    start = _plain(name)
    return [each for each in known if start and _plain(each).startswith(start)]


def _plain(name: str) -> str:
    """Return the letters and digits of a name."""
    return re.sub("[^a-z0-9]", "", name.lower())


def format_bytes(number: float) -> str:
    """Return a size in decimal units, such as `1.2 GB`."""
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
