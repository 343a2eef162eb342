"""Compressed pixels as DICOM files hold them, before they are decoded.

Owns what a stream says of itself, and whether that is what the data set says of it.
Decoders fill up what is missing and say nothing, take the memory of the size that the
stream claims, and give other numbers than were meant if its bits are others. Knows no
data set and no pixels.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from xenon_mx.errors import XenonError

# How the pixels of a transfer syntax are compressed (PS3.5, 10.4 to 10.6 and 10.17).
RLE, BASELINE, LOSSLESS, JPEG_LS, JPEG_2000 = (
    "RLE",
    "JPEG",
    "JPEG Lossless",
    "JPEG-LS",
    "JPEG 2000",
)
KINDS = {
    "1.2.840.10008.1.2.4.50": BASELINE,
    "1.2.840.10008.1.2.4.51": BASELINE,
    "1.2.840.10008.1.2.4.57": LOSSLESS,
    "1.2.840.10008.1.2.4.70": LOSSLESS,
    "1.2.840.10008.1.2.4.80": JPEG_LS,
    "1.2.840.10008.1.2.4.81": JPEG_LS,
    "1.2.840.10008.1.2.4.90": JPEG_2000,
    "1.2.840.10008.1.2.4.91": JPEG_2000,
    "1.2.840.10008.1.2.4.201": JPEG_2000,
    "1.2.840.10008.1.2.4.202": JPEG_2000,
    "1.2.840.10008.1.2.4.203": JPEG_2000,
    "1.2.840.10008.1.2.5": RLE,
}

_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_END, _SCAN, _TILE = b"\xff\xd9", b"\xff\xda", b"\xff\x93"
# Start of frame: C0 to CF without the tables C4, C8 and CC; F7 is JPEG-LS.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_OF_FRAMES = {0xC0: BASELINE, 0xC1: BASELINE, 0xC3: LOSSLESS, 0xF7: JPEG_LS}
_ITEM = b"\xfe\xff\x00\xe0"


class _Frame(NamedTuple):
    """What a stream says of its image."""

    kind: str
    rows: int
    columns: int
    bits: int
    components: int


def check(
    data: bytes, syntax: str, shape: tuple[int, int], bits: tuple[int, int]
) -> int:
    """Stop at pixels that are cut short, or are others than the data set says.

    Args:
        data: The encapsulated pixel data of a single image.
        syntax: UID of one of the transfer syntaxes of `KINDS`.
        shape: Rows and columns, as the data set has them.
        bits: BitsStored and BitsAllocated.

    Returns:
        How many bits a pixel has in the stream, BitsStored at least.

    Raises:
        XenonError: They are. Of RLE little is told: its decoder counts what it gets.
    """
    stream = _joined(data)
    try:
        frame = _frame(stream)
    except (struct.error, IndexError) as error:
        raise XenonError("its compressed pixels are cut short") from error
    found = frame.kind if frame else RLE
    if found != KINDS[syntax]:
        raise XenonError(
            f"its header says {KINDS[syntax]} ({syntax}), but its compressed pixels "
            f"are {found if frame else 'not'}"
        )
    if frame is None:
        return bits[0]
    _check_frame(frame, shape, bits)
    if stream.rfind(_END) < max(stream.rfind(_SCAN), stream.rfind(_TILE)):
        raise XenonError("its compressed pixels are cut short")
    return frame.bits


def _check_frame(frame: _Frame, shape: tuple[int, int], bits: tuple[int, int]) -> None:
    if (frame.rows, frame.columns) != shape:
        raise XenonError(
            f"its header says {shape[1]} x {shape[0]} pixels, but its compressed "
            f"pixels are {frame.columns} x {frame.rows}"
        )
    if frame.components != 1:
        raise XenonError(
            f"its header says gray, but its compressed pixels have {frame.components} "
            f"colours"
        )
    stored, allocated = bits
    if not stored <= frame.bits <= allocated:
        raise XenonError(
            f"its header says {stored} bits of {allocated}, but its compressed pixels "
            f"have {frame.bits}"
        )


def _joined(data: bytes) -> bytes:
    """Join the fragments of encapsulated pixel data (PS3.5, A.4) of a single frame."""
    at, items = 0, []
    while data[at : at + 4] == _ITEM:
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        items.append(data[at + 8 : end])
        at = end
    return b"".join(items[1:])  # the first is the table of offsets


def _frame(stream: bytes) -> _Frame | None:
    """Read what a JPEG, JPEG-LS or JPEG 2000 stream says of itself."""
    if stream.startswith(_JPEG):
        at = len(_JPEG)
        while stream[at] == 0xFF and stream[at + 1] not in _FRAMES:
            if stream[at + 1] == 0xFF:  # fill
                at += 1
            else:
                at += 2 + struct.unpack_from(">H", stream, at + 2)[0]
        if stream[at] != 0xFF:
            raise XenonError("its compressed pixels are damaged")
        kind = _OF_FRAMES.get(stream[at + 1], "another JPEG")
        bits, rows, columns, components = struct.unpack_from(">BHHB", stream, at + 4)
        return _Frame(kind, rows, columns, bits, components)
    at = stream.find(_JPEG_2000, 0, 4096)  # further in where boxes are around it
    if at < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", stream, at + 8)
    (components, first) = struct.unpack_from(">HB", stream, at + 40)
    bits = (first & 0x7F) + 1  # the highest bit is that of the sign
    return _Frame(JPEG_2000, bottom - top, right - left, bits, components)
