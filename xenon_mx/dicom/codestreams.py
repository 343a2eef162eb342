"""Checks of compressed DICOM pixel data before they are decoded.

Owns the headers of codestreams and their comparison with the data set; must not know
files or decoders. Decoders pad missing data without an error, allocate the size that
the stream declares, and decode a stream of another bit depth to wrong values.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from xenon_mx.errors import XenonError

# Compression of each transfer syntax (PS3.5, 10.4 to 10.6 and 10.17).
RLE, BASELINE, LOSSLESS, JPEG_LS, JPEG_2000 = (
    "RLE",
    "JPEG",
    "JPEG Lossless",
    "JPEG-LS",
    "JPEG 2000",
)
CODECS = {
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
_START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_FRAME_CODECS = {0xC0: BASELINE, 0xC1: BASELINE, 0xC3: LOSSLESS, 0xF7: JPEG_LS}
_PROGRESSIVE = 0xC2
_ITEM = b"\xfe\xff\x00\xe0"
# The start of a frame: JPEG, JPEG 2000 with or without boxes, or the header of an RLE
# frame, which has 1 to 15 segments, the first after its 64 bytes (PS3.5, G.5).
_START = re.compile(
    rb"\xff\xd8\xff|\xff\x4f\xff\x51|\0\0\0\x0cjP  |[\x01-\x0f]\0\0\0\x40\0\0\0",
    re.DOTALL,
)
# A stream may be padded to an even length before the next. After the start of the scan,
# no thumbnail can follow.
_END_AND_START = re.compile(
    rb"\xff\xd9\0?(\xff\xd8\xff|\xff\x4f\xff\x51|\0\0\0\x0cjP  )", re.DOTALL
)


class Declared(NamedTuple):
    """What a data set says about its pixels."""

    rows: int
    columns: int
    bits_stored: int
    bits_allocated: int
    signed: bool


class Codestream(NamedTuple):
    """A checked codestream: `data`, `bits` per pixel, compressed by `codec`."""

    data: bytes
    codec: str
    bits: int


class _Frame(NamedTuple):
    """The frame header of a codestream; `signed` is None if the codec has no signs."""

    codec: str
    rows: int
    columns: int
    bits: int
    components: int
    signed: bool | None = None


def check(data: bytes, syntax: str, declared: Declared) -> Codestream:
    """Check that compressed pixels are complete and match the data set.

    Args:
        data: The encapsulated pixel data of a single frame.
        syntax: UID of one of the transfer syntaxes in `CODECS`.
        declared: What the data set says about them.

    Returns:
        The codestream. It has at least BitsStored bits, except in JPEG 2000.

    Raises:
        XenonError: The pixels are truncated or differ from the data set. RLE has no
            frame header to compare: the lengths of its segments are.
    """
    fragments = _fragments(data)
    stream = b"".join(fragments)
    if _is_another_frame(fragments, stream):
        raise XenonError(
            "its header declares one frame, but its compressed pixels have more"
        )
    try:
        frame = _parse_frame(stream)
        if frame is None and CODECS[syntax] == RLE:
            _check_rle(stream, declared)
    except (struct.error, IndexError) as error:
        raise XenonError("its compressed pixels are cut short") from error
    codec = frame.codec if frame else RLE
    if codec != CODECS[syntax]:
        raise XenonError(
            f"its header declares {CODECS[syntax]} ({syntax}), but its compressed "
            f"pixels are {codec if frame else 'not'}"
        )
    if frame is None:
        return Codestream(stream, RLE, declared.bits_allocated)  # whole words
    _check_frame(frame, declared)
    if stream.rfind(_END) < max(stream.rfind(_SCAN), stream.rfind(_TILE)):
        raise XenonError("its compressed pixels are cut short")
    return Codestream(stream, codec, frame.bits)


def _check_frame(frame: _Frame, declared: Declared) -> None:
    rows, columns, stored, allocated, signed = declared
    if (frame.rows, frame.columns) != (rows, columns):
        raise XenonError(
            f"its header declares {columns} x {rows} pixels, but its compressed "
            f"pixels are {frame.columns} x {frame.rows}"
        )
    if frame.components != 1:
        raise XenonError(
            f"its header declares gray pixels, but its compressed pixels have "
            f"{frame.components} colour components"
        )
    # JPEG 2000 codes values, so that fewer bits than BitsStored leave no doubt about
    # them; some archives write BitsStored 16 over streams of 12 bits. The other
    # decoders return their pixels scrambled then.
    least = 1 if frame.codec == JPEG_2000 else stored
    if not least <= frame.bits <= allocated:
        raise XenonError(
            f"its header declares {stored} bits of {allocated}, but its compressed "
            f"pixels have {frame.bits}"
        )
    if frame.signed is not None and frame.signed != signed:
        kinds = "unsigned", "signed"
        raise XenonError(
            f"its PixelRepresentation declares {kinds[signed]} pixels, but its "
            f"compressed pixels are {kinds[frame.signed]}: it is ambiguous what is "
            f"black"
        )


def _check_rle(stream: bytes, declared: Declared) -> None:
    """Check that every segment decodes to one byte per pixel (PS3.5, G.3 to G.5)."""
    count, *offsets = struct.unpack_from("<16I", stream)
    bounds = [*offsets[:count], len(stream)]
    if count != declared.bits_allocated // 8 or bounds[0] < 64:
        raise XenonError("its compressed pixels are damaged: its RLE header is wrong")
    for start, end in zip(bounds, bounds[1:]):
        _check_segment(stream[start:end], declared.rows * declared.columns)


def _check_segment(segment: bytes, expected: int) -> None:
    """Check that an RLE segment decodes to so many bytes.

    Zeros may follow; pydicom reads even two, which are a byte more (its issue 1438).
    """
    at = size = 0
    while size < expected:
        control = segment[at]  # an IndexError is reported as cut short
        if control < 128:  # so many bytes more than one
            at += control + 2
            size += control + 1
        elif control > 128:  # one byte repeated
            at += 2
            size += 257 - control
        else:
            at += 1
    if at > len(segment):
        raise XenonError("its compressed pixels are cut short")
    if size > expected or segment[at:].strip(b"\0"):
        raise XenonError(
            "its compressed pixels are damaged: an RLE segment is longer than the image"
        )


def _fragments(data: bytes) -> list[bytes]:
    """Return the fragments of encapsulated pixel data (PS3.5, A.4)."""
    offset, items = 0, []
    while data[offset : offset + 4] == _ITEM:
        end = offset + 8 + int.from_bytes(data[offset + 4 : offset + 8], "little")
        items.append(data[offset + 8 : end])
        offset = end
    return items[1:]  # the first item is the Basic Offset Table


def _is_another_frame(fragments: list[bytes], stream: bytes) -> bool:
    """Return whether a further frame begins in a fragment, or after the first one."""
    if any(_START.match(fragment) for fragment in fragments[1:]):
        return True
    return bool(_END_AND_START.search(stream, max(stream.find(_SCAN), 0)))


def _parse_frame(stream: bytes) -> _Frame | None:
    """Parse the frame header of a JPEG, JPEG-LS or JPEG 2000 stream; None of others."""
    if stream.startswith(_JPEG):
        offset = len(_JPEG)
        while stream[offset] == 0xFF and stream[offset + 1] not in _START_OF_FRAME:
            if stream[offset + 1] == 0xFF:  # a fill byte
                offset += 1
            else:
                offset += 2 + struct.unpack_from(">H", stream, offset + 2)[0]
        if stream[offset] != 0xFF:
            raise XenonError("its compressed pixels are damaged")
        header = struct.unpack_from(">BHHB", stream, offset + 4)
        bits, rows, columns, components = header
        marker = stream[offset + 1]
        codec = _FRAME_CODECS.get(marker, "another JPEG")
        if marker == _PROGRESSIVE and bits == 8:
            codec = BASELINE  # in no transfer syntax, but certain to be read
        return _Frame(
            codec=codec, rows=rows, columns=columns, bits=bits, components=components
        )
    offset = stream.find(_JPEG_2000, 0, 4096)  # not at 0 if it is inside JP2 boxes
    if offset < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", stream, offset + 8)
    components, depth = struct.unpack_from(">HB", stream, offset + 40)
    return _Frame(
        codec=JPEG_2000,
        rows=bottom - top,
        columns=right - left,
        bits=(depth & 0x7F) + 1,  # Ssiz (ISO/IEC 15444-1, A.5.1)
        components=components,
        signed=bool(depth >> 7),
    )
