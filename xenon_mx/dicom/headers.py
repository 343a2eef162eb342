"""The elements of a DICOM file's data set, as plain Python.

Owns how elements and lookup tables are read; what is odd becomes an XenonError of one
sentence. Knows no files and no pixels.
"""

from __future__ import annotations

import math
from typing import Any, Iterator, NamedTuple

import numpy as np

from xenon_mx.errors import XenonError

BIG_ENDIAN = "1.2.840.10008.1.2.2"  # a transfer syntax, by PS3.6


class LookupTable(NamedTuple):
    """A lookup table: `entries` of `bits` bits, the first for the value `first`."""

    first: int
    entries: np.ndarray
    bits: int

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Look values up; what is outside takes the first or the last entry.

        `first` is 16 bits that may be meant with a sign or without, whatever the file
        says (its VR is the stored pixels', its meaning the rescaled ones'): of the two
        readings, the one that has more of the values' range counts.
        """
        unsigned = self.first & 0xFFFF
        readings = (self.first, unsigned, unsigned - 65536)
        last = len(self.entries) - 1

        def within(first: int) -> float:
            return min(first + last, values.max()) - max(first, values.min())

        at = np.rint(values - max(readings, key=within))
        return self.entries[np.clip(at, 0, last).astype(np.int64)]


class Header:
    """The elements of a data set.

    Args:
        dataset: pydicom's.

    Attributes:
        syntax: UID of its transfer syntax, empty if it is not told.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        meta = getattr(dataset, "file_meta", None) or {}
        self.syntax = str(meta.get("TransferSyntaxUID", ""))

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._dataset

    def value(self, keyword: str) -> Any:
        """Give an element's value, None where it is absent or empty."""
        try:
            value = self._dataset.get(keyword)
            return None if value is None or value == "" else value
        except Exception as error:  # pydicom converts a value when it is asked for
            raise XenonError(f"its {keyword} is damaged: {line(error)}") from error

    def text(self, keyword: str) -> str:
        """Give an element as text of one line, empty where it is absent."""
        said = str(self.value(keyword) or "")
        return "".join(each if each.isprintable() else "?" for each in said)

    def numbers(self, keyword: str) -> Iterator[float]:
        """Give the numbers of an element one after the other."""
        value = self.value(keyword)
        if value is None:
            return
        single = isinstance(value, (int, float, str, bytes))
        for each in [value] if single else value:
            yield _number(each, keyword)

    def number(self, keyword: str) -> float | None:
        """Give the first number of an element, None where there is none."""
        return next(self.numbers(keyword), None)

    def integer(self, keyword: str, absent: int | None = None) -> int:
        """Give a whole number, `absent` where there is none."""
        number = self.number(keyword)
        if number is None and absent is not None:
            return absent
        if number is None:
            raise XenonError(f"it has no {keyword}")
        if number != int(number):
            raise XenonError(f"its {keyword} is {number}; expected a whole number")
        return int(number)

    def word(self, keyword: str, signed: bool) -> int | None:
        """Give a number of 16 bits, None where there is none.

        It is read with the sign that it is meant with, since that of the file's VR may
        be the wrong one.
        """
        if self.number(keyword) is None:
            return None
        number = self.integer(keyword)
        if not -(1 << 15) <= number < 1 << 16:
            raise XenonError(f"its {keyword} is {number}; expected 16 bits")
        bits = number & 0xFFFF
        return bits - (1 << 16) if signed and bits >> 15 else bits

    def table(self, keyword: str) -> LookupTable | None:
        """Give the first lookup table of a sequence, None where there is none."""
        items = self.value(keyword)
        if not items:
            return None
        try:
            first = items[0]
            descriptor = [int(number) for number in first.LUTDescriptor]
            return _table(descriptor, first.LUTData, self.syntax == BIG_ENDIAN)
        except XenonError:
            raise
        except Exception as error:  # pydicom converts a value when it is asked for
            raise XenonError(f"its {keyword} is damaged: {line(error)}") from error


def _number(value: Any, keyword: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise XenonError(f"its {keyword} is {value!r}, which is no number")
    return number


def _table(descriptor: list[int], data: Any, big_endian: bool) -> LookupTable:
    """Read a table of either width, as PS3.3, C.11.1.1.1 allows.

    Entries of 8 bits may also lie in 16 each; the length of the data tells.
    """
    count, first, bits = descriptor
    count = count & 0xFFFF or 1 << 16  # 0 stands for 65,536; 40,000 may look negative
    if not 8 <= bits <= 16:
        raise XenonError(f"its lookup table has {bits} bits an entry; expected 8 to 16")
    order = ">u2" if big_endian else "<u2"
    if not isinstance(data, bytes):
        numbers = np.atleast_1d(np.asarray(data, np.int64))
        data = (numbers & 0xFFFF).astype(order).tobytes()
    narrow = bits == 8 and len(data) in (count, count + 1)
    width = 1 if narrow else 2
    if len(data) < width * count:
        raise XenonError(
            f"its lookup table is cut short: {len(data)} of {width * count} bytes"
        )
    entries = np.frombuffer(data, "u1" if narrow else order, count)
    return LookupTable(first, entries.astype(np.float64), bits)


def line(error: Exception) -> str:
    """Make one line of another library's message."""
    return " ".join(str(error).split())[:200] or type(error).__name__
