"""Words for one line of a log and for a shell, whatever is in a name.

Knows no commands and no files. In Python's text, a byte of a file's name that is not
UTF-8 is a surrogate, U+DC80 to U+DCFF.
"""

from __future__ import annotations

import os
import shlex
import unicodedata

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_ODD = ("Cc", "Cs", "Zl", "Zp")  # controls, surrogates, ends of lines and paragraphs
_FIRST, _LAST, _BYTE = 0xDC80, 0xDCFF, 0xDC00


def one_line(text: object) -> str:
    r"""Give text as one line of letters: a newline as \n, an odd byte as \xff."""
    return "".join(map(_letter, str(text)))


def shell_quote(path: object) -> str:
    """Quote a path for a shell, so that it can be pasted."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else str(path)
    if one_line(text) == text:
        return shlex.quote(text)
    # Bash, zsh, ksh, and POSIX since 2024. Three octal digits are the only number whose
    # end they all see alike.
    return "$'" + "".join(map(_quoted, text)) + "'"


def _quoted(letter: str) -> str:
    if letter in "'\\" or _letter(letter) != letter:
        return "".join(f"\\{byte:03o}" for byte in os.fsencode(letter))
    return letter


def _letter(letter: str) -> str:
    if letter.isprintable() or unicodedata.category(letter) not in _ODD:
        return letter
    number = ord(letter)
    if letter in _SHORT:
        return _SHORT[letter]
    if _FIRST <= number <= _LAST:
        number -= _BYTE
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
