"""Elements of a DICOM data set as plain Python values.

Owns how elements and lookup tables are read, with a XenonError of one line for an
invalid value; must not know files or pixels.
"""

from __future__ import annotations

import math
import re
from typing import Any, Iterator, NamedTuple

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.runtime.text import counted

_LONGEST = 200  # characters of a value in a message; chosen here
# Of CS, IS and DS (with nan and inf), of several such in a list, and of UI.
_QUOTABLE = re.compile(r"[A-Z0-9_ .+aefin\\'\[\],-]{1,40}|[0-9.]{1,64}")

BIG_ENDIAN = "1.2.840.10008.1.2.2"  # a transfer syntax, by PS3.6


class LookupTable(NamedTuple):
    """A lookup table of `entries`; entry 0 is for the value `first`.

    `bits` are those of its largest entry, at least 8, whatever its descriptor says.
    """

    first: int
    entries: np.ndarray
    bits: int

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Look values up; values out of range map to the first or the last entry.

        The 16 bits of `first` may be meant as signed or unsigned, whatever its VR: the
        VR follows the stored pixels, the meaning follows the rescaled values. Of the
        two readings, the one that covers more of the range of `values` is used.
        """
        unsigned = self.first & 0xFFFF
        candidates = (self.first, unsigned, unsigned - 65536)
        last = len(self.entries) - 1

        def overlap(first: int) -> float:
            return min(first + last, values.max()) - max(first, values.min())

        indices = np.rint(values - max(candidates, key=overlap))
        return self.entries[np.clip(indices, 0, last).astype(np.int64)]


class Header:
    """The elements of a data set.

    Args:
        dataset: A `pydicom.Dataset`.

    Attributes:
        syntax: UID of its transfer syntax, empty if absent.
        media_class: UID of the SOP class in the meta header, empty if absent.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        meta = getattr(dataset, "file_meta", None) or {}
        self.syntax = _text(meta, "TransferSyntaxUID")
        self.media_class = _text(meta, "MediaStorageSOPClassUID")

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._dataset

    def value(self, keyword: str) -> Any:
        """Return an element's value, None if it is absent or empty."""
        try:
            value = self._dataset.get(keyword)
            return None if value is None or value == "" else value
        except Exception as error:  # pydicom converts values on access
            raise XenonError(f"its {keyword} is damaged") from error

    def text(self, keyword: str) -> str:
        """Return the start of an element as one line of text, empty if absent."""
        return _printable(str(self.value(keyword) or ""))

    def numbers(self, keyword: str) -> Iterator[float]:
        """Yield the numbers of an element."""
        value = self.value(keyword)
        if value is None:
            return
        is_scalar = isinstance(value, (int, float, str, bytes))
        for item in [value] if is_scalar else value:
            yield _number(item, keyword)

    def number(self, keyword: str) -> float | None:
        """Return the first number of an element, None if absent."""
        return next(self.numbers(keyword), None)

    def integer(self, keyword: str, absent: int | None = None) -> int:
        """Return an integer, `absent` if there is none."""
        number = self.number(keyword)
        if number is None and absent is not None:
            return absent
        if number is None:
            raise XenonError(f"it has no {keyword}")
        if number != int(number):
            raise XenonError(f"its {keyword} is {number}; expected a whole number")
        return int(number)

    def word(self, keyword: str, signed: bool) -> int | None:
        """Return a 16-bit number, None if absent.

        The caller decides whether the number is signed, since the VR in the file may
        be wrong.
        """
        if self.number(keyword) is None:
            return None
        number = self.integer(keyword)
        if not -(1 << 15) <= number < 1 << 16:
            raise XenonError(f"its {keyword} is {number}; expected 16 bits")
        bits = number & 0xFFFF
        return bits - (1 << 16) if signed and bits >> 15 else bits

    def overlay_bits(self) -> int:
        """Return the bits of the pixels' words that hold overlays.

        Each group from 6000 to 601E may name one (retired in PS3.5 of 2004).
        """
        bits = 0
        for group in range(0x6000, 0x6020, 2):
            element = self._dataset.get((group, 0x0102))  # Overlay Bit Position
            if element is not None and isinstance(element.value, int):
                bits |= 1 << element.value if 0 < element.value < 16 else 0
        return bits

    def table(self, keyword: str) -> LookupTable | None:
        """Return the first lookup table of a sequence, None if absent."""
        items = self.value(keyword)
        if not items:
            return None
        try:
            item = items[0]
            descriptor = [int(number) for number in item.LUTDescriptor]
            table = _table(descriptor, item.LUTData, self.syntax == BIG_ENDIAN)
        except XenonError:
            raise
        except Exception as error:  # pydicom converts values on access
            raise XenonError(f"its {keyword} is damaged") from error
        if table.entries.min() == table.entries.max():
            raise XenonError(
                f"all entries of its {keyword} are {table.entries[0]:g}, which makes "
                f"all pixels equal"
            )
        return table


def _text(dataset: Any, keyword: str) -> str:
    try:
        return _printable(str(dataset.get(keyword, "")))
    except Exception as error:  # pydicom converts values on access
        raise XenonError(f"its {keyword} is damaged") from error


def _printable(value: str) -> str:
    """Return the start of a text, without line breaks and the like."""
    return "".join(char if char.isprintable() else "?" for char in value[:_LONGEST])


def _number(value: Any, keyword: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise XenonError(f"its {keyword} is {quoted(repr(value))}; expected a number")
    return number


def _table(descriptor: list[int], data: Any, big_endian: bool) -> LookupTable:
    """Parse a lookup table with entries of 8 or 16 bits (PS3.3, C.11.1.1.1).

    8-bit entries may be stored in 16 bits each, which is detected by the data's length.

    The bits of an entry are counted, since descriptors are known to be wrong. That is
    what Cornerstone does ("We don't trust the voiLUT.numBitsPerEntry, mainly thanks to
    Agfa!", getVOILut.js), and dcmtk if told to ignore the descriptor; otherwise dcmtk
    masks entries of more bits, which wraps white to black (DiLookupTable::checkTable).
    The least of 8 bits is dcmtk's.
    """
    count, first, bits = descriptor
    count = count & 0xFFFF or 1 << 16  # 0 means 65,536; as SS, 40,000 is negative
    if not 8 <= bits <= 16:
        raise XenonError(
            f"its lookup table has {bits} bits per entry; expected 8 to 16"
        )
    order = ">u2" if big_endian else "<u2"
    if not isinstance(data, bytes):
        numbers = np.atleast_1d(np.asarray(data, np.int64))
        data = (numbers & 0xFFFF).astype(order).tobytes()
    is_packed = bits == 8 and len(data) in (count, count + 1)
    width = 1 if is_packed else 2
    if len(data) < width * count:
        raise XenonError(
            f"its lookup table is cut short: {len(data)} of {width * count} bytes"
        )
    entries = np.frombuffer(data, "u1" if is_packed else order, count)
    used = max(8, int(entries.max()).bit_length())
    return LookupTable(first, entries.astype(np.float64), used)


def quoted(value: object) -> str:
    """Return a code, number or UID as an error may quote it.

    A damaged length makes a value of what follows it, such as the patient's name. So
    only characters of codes, numbers and UIDs are quoted, and no more than such have
    (PS3.5, 6.2).
    """
    text = str(value)
    return (
        text
        if _QUOTABLE.fullmatch(text)
        else f"odd ({counted(len(text), 'character')})"
    )


def line(error: Exception) -> str:
    """Return an exception's message as one line of limited length."""
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__
