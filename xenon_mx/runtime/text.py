"""Escaping of arbitrary names for one line of a log and for a shell.

Owns the escapes, and numbers as text, with their nouns or units; must not know commands
or files. In a Python string, a byte of a file name that is not UTF-8 is a surrogate,
U+DC80 to U+DCFF.
"""

from __future__ import annotations

import math
import os
import shlex
import unicodedata
from pathlib import Path

_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# Control characters, surrogates, line and paragraph separators.
_ESCAPED_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
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


def format_bytes(number: float) -> str:
    """Return a size in decimal units, such as `1.2 GB`."""
    for unit in ("B", "KB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
