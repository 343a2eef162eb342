"""Reading the tags of TIFF's image file directories, which Exif uses as well.

Owns TIFF's header and its directories (TIFF 6.0, section 2); must not know what the
tags mean, except for the orientation.
"""

from __future__ import annotations

import struct
import sys
from typing import Dict, Sequence, Tuple, Union

from xenon_mx.errors import XenonError

# The first bytes of TIFFs and of BigTIFFs, which have a + for the *.
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION = 274
NATIVE = "<" if sys.byteorder == "little" else ">"

# Codes of the types of whole numbers and of bytes, to struct's: BYTE, ASCII, SHORT,
# LONG, SBYTE, UNDEFINED, SSHORT and SLONG. Values of other types are not read.
_TYPES = {1: "B", 2: "s", 3: "H", 4: "I", 6: "b", 7: "s", 8: "h", 9: "i"}
_MAX_PAGES = 1000  # chosen here, against directories that follow each other in a circle

Tags = Dict[int, Union[Tuple[int, ...], bytes]]


def byte_order(data: bytes) -> str:
    """Return struct's and NumPy's sign of a TIFF's byte order: `<` or `>`."""
    return "<" if data[:2] == b"II" else ">"


def read_pages(data: bytes) -> list[Tags]:
    """Read the tags of each page of a TIFF.

    Raises:
        XenonError: The file is a BigTIFF, or damaged.
    """
    if b"+" in data[2:4]:
        raise XenonError("a BigTIFF (more than 4 GB): store it as a TIFF or PNG")
    order = byte_order(data)
    pages: list[Tags] = []
    try:
        (offset,) = struct.unpack_from(f"{order}I", data, 4)
        while offset:
            tags, offset = _read_directory(data, offset, order)
            pages.append(tags)
            if len(pages) > _MAX_PAGES:
                raise XenonError(f"a TIFF with more than {_MAX_PAGES} pages")
    except struct.error as error:
        raise XenonError("the TIFF file is cut short, or damaged") from error
    return pages


def orientation(exif: bytes) -> int:
    """Return the orientation that Exif data tell, from 1 to 8; 1 if they tell none."""
    try:
        pages = read_pages(exif) if exif.startswith(SIGNATURES) else []
    except XenonError:  # nothing else of a damaged one would be used
        pages = []
    return first(pages[0].get(ORIENTATION), 1) if pages else 1


def first(value: Sequence[int] | bytes | None, absent: int) -> int:
    """Return the first number of a tag's value, `absent` if it has none."""
    return value[0] if value else absent


def _read_directory(data: bytes, offset: int, order: str) -> tuple[Tags, int]:
    """Read one directory; return its tags, and the offset of the next one or 0."""
    (count,) = struct.unpack_from(f"{order}H", data, offset)
    tags: Tags = {}
    for position in range(offset + 2, offset + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from(f"{order}HHI", data, position)
        code = _TYPES.get(kind)
        if code is None:
            continue
        form = f"{order}{length}{code}"
        size = struct.calcsize(form)
        if size > len(data):
            raise XenonError(f"a damaged TIFF: tag {tag} is longer than the file")
        start = position + 8
        if size > 4:
            (start,) = struct.unpack_from(f"{order}I", data, start)
        value = struct.unpack_from(form, data, start)
        tags[tag] = value[0] if code == "s" else value
    (following,) = struct.unpack_from(f"{order}I", data, offset + 2 + 12 * count)
    return tags, following
