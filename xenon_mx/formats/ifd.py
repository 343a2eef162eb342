"""Reading the tags of TIFF's image file directories, which Exif uses as well.

Owns TIFF's header and its directories (TIFF 6.0, section 2); must not know what the
tags mean, except for the orientation. What a file says costs no more time and memory
than its size: the same bytes may be the values of any number of tags and pages.
"""

from __future__ import annotations

import struct
import sys
from typing import Collection, Dict, Iterator, Tuple

from xenon_mx.errors import XenonError

# The first bytes of TIFFs and of BigTIFFs, which have a + for the *.
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION = 274
NATIVE = "<" if sys.byteorder == "little" else ">"

# Codes of the types of whole numbers and of bytes, to struct's: BYTE, ASCII, SHORT,
# LONG, SBYTE, UNDEFINED, SSHORT and SLONG.
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i"}
_ENTRY = 12  # bytes
_MAX_PAGES = 1000  # chosen here, against directories that follow each other in a circle
_EXIF = b"Exif\0\0"  # precedes Exif data in JPEG, and with some writers in PNG

Tags = Dict[int, Tuple[int, ...]]


def byte_order(data: bytes) -> str:
    """Return struct's and NumPy's sign of a TIFF's byte order: `<` or `>`."""
    return "<" if data[:2] == b"II" else ">"


def read_pages(data: bytes, wanted: Collection[int]) -> list[Tags]:
    """Read tags of each page of a TIFF.

    Args:
        data: The file's bytes.
        wanted: The tags that are read; others may hold anything.

    Raises:
        XenonError: The file is a BigTIFF, or damaged.
    """
    if b"+" in data[2:4]:
        raise XenonError("a BigTIFF (more than 4 GB): store it as a TIFF or PNG")
    order = byte_order(data)
    pages: list[Tags] = []
    left = len(data)  # bytes that may still be tags and their values
    try:
        (offset,) = struct.unpack_from(f"{order}I", data, 4)
        while offset:
            entries = list(_entries(data, offset, order))
            chosen = [entry for entry in entries if entry[0] in wanted]
            left -= _ENTRY * len(entries) + sum(_size(*where) for _, *where in chosen)
            if left < 0:
                raise XenonError("a damaged TIFF: its tags are longer than the file")
            tags: Tags = {}
            for tag, *where in chosen:
                _add(tags, tag, _value(data, order, *where))
            pages.append(tags)
            if len(pages) > _MAX_PAGES:
                raise XenonError(f"a TIFF with more than {_MAX_PAGES} pages")
            end = offset + 2 + _ENTRY * len(entries)
            (offset,) = struct.unpack_from(f"{order}I", data, end)
    except struct.error as error:
        raise XenonError("the TIFF file is cut short, or damaged") from error
    return pages


def orientation(exif: bytes) -> int:
    """Return the orientation that Exif data tell, from 1 to 8; 1 if they tell none.

    Only its entry is read: maker notes and thumbnails are often cut short by programs
    that copy them, and viewers turn the image all the same.
    """
    exif = exif[len(_EXIF) :] if exif.startswith(_EXIF) else exif
    if not exif.startswith(SIGNATURES) or b"+" in exif[2:4]:
        return 1
    order = byte_order(exif)
    try:
        (offset,) = struct.unpack_from(f"{order}I", exif, 4)
        for tag, *where in _entries(exif, offset, order):
            if tag == ORIENTATION:
                return first(_value(exif, order, *where), 1)
    except (struct.error, XenonError):
        pass
    return 1


def first(value: tuple[int, ...] | None, absent: int) -> int:
    """Return the first number of a tag's value, `absent` if it has none."""
    return value[0] if value else absent


def _entries(data: bytes, offset: int, order: str) -> Iterator[tuple[int, ...]]:
    """Yield tag, type, length and position of the value of a directory's entries."""
    (count,) = struct.unpack_from(f"{order}H", data, offset)
    for position in range(offset + 2, offset + 2 + _ENTRY * count, _ENTRY):
        yield (*struct.unpack_from(f"{order}HHI", data, position), position + 8)


def _size(kind: int, length: int, position: int) -> int:
    """Return the bytes of a value, 0 if the entry itself holds it."""
    size = length * struct.calcsize(_TYPES.get(kind, "B"))
    return size if size > 4 else 0


def _value(
    data: bytes, order: str, kind: int, length: int, position: int
) -> tuple[int, ...]:
    """Read the numbers of an entry."""
    if kind not in _TYPES:
        raise XenonError(f"a damaged TIFF: a tag of type {kind} instead of numbers")
    if _size(kind, length, position):
        (position,) = struct.unpack_from(f"{order}I", data, position)
    return struct.unpack_from(f"{order}{length}{_TYPES[kind]}", data, position)


def _add(tags: Tags, tag: int, value: tuple[int, ...]) -> None:
    """Add a tag to a page; of two that differ, programs take the first or the last."""
    if min(value, default=0) < 0:
        raise XenonError(f"a damaged TIFF: its tag {tag} is negative")
    if tags.setdefault(tag, value) != value:
        raise XenonError(f"a damaged TIFF: it has two tags {tag} that differ")
