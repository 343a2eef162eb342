"""JPEG and JPEG 2000 streams as DICOM files hold them.

Owns what can be told of a stream without decoding it. Decoders fill up what is missing
and say nothing, and take the memory of the size that the stream claims, not of the one
that the header does. Knows no data set and no pixels.
"""

from __future__ import annotations

import struct

from xenon_mx.errors import XenonError

_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_END, _SCAN, _TILE = b"\xff\xd9", b"\xff\xda", b"\xff\x93"
# Start of frame: C0 to CF without the tables C4, C8 and CC; F7 is JPEG-LS.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_ITEM = b"\xfe\xff\x00\xe0"


def joined(data: bytes) -> bytes:
    """Join the fragments of encapsulated pixel data (PS3.5, A.4) of a single frame."""
    at, items = 0, []
    while data[at : at + 4] == _ITEM:
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        items.append(data[at + 8 : end])
        at = end
    return b"".join(items[1:])  # the first is the table of offsets


def check(stream: bytes, rows: int, columns: int) -> None:
    """Stop at a stream that is cut short or of another size.

    Args:
        stream: Of one image, compressed.
        rows: Of the image, as the data set has it.
        columns: The same.

    Raises:
        XenonError: It is JPEG, JPEG-LS or JPEG 2000, and ends early or says another
            size. Of RLE nothing is told: its decoder counts what it gets.
    """
    try:
        claimed = _claimed(stream)
    except (struct.error, IndexError) as error:
        raise XenonError("its compressed pixels are cut short") from error
    if claimed is None:  # RLE, whose decoder counts what it gets
        return
    if claimed != (rows, columns):
        raise XenonError(
            f"its header says {columns} x {rows} pixels, but its compressed pixels "
            f"are {claimed[1]} x {claimed[0]}"
        )
    if stream.rfind(_END) < max(stream.rfind(_SCAN), stream.rfind(_TILE)):
        raise XenonError("its compressed pixels are cut short")


def _claimed(stream: bytes) -> tuple[int, int] | None:
    """Read (rows, columns) off a JPEG, JPEG-LS or JPEG 2000 stream."""
    if stream.startswith(_JPEG):
        at = len(_JPEG)
        while stream[at + 1] not in _FRAMES:
            if stream[at + 1] == 0xFF:  # fill
                at += 1
            else:
                at += 2 + struct.unpack_from(">H", stream, at + 2)[0]
        rows, columns = struct.unpack_from(">HH", stream, at + 5)
        return rows, columns
    at = stream.find(_JPEG_2000, 0, 4096)  # further in where boxes are around it
    if at < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", stream, at + 8)
    return bottom - top, right - left
