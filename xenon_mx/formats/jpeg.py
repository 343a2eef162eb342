"""Decoding of JPEG files, in which damage that the decoder notices is an error.

Owns JPEG's header up to the first scan (ITU-T T.81, annex B), and which of libjpeg's
warnings may be ignored:

- Within the scans, all of them are errors, since pixels may have changed: corrupt data,
  a premature end, a wrong marker, bytes between the scans, an odd progression.
- Before the first scan, bytes between markers, unknown fields of JFIF and Adobe, and
  damaged ICC profiles change no pixel. They do not reach libjpeg, since the header is
  written anew; `oddity` names them.

libjpeg-turbo decodes (simplejpeg); only 8 bits, Huffman coded, in gray, YCbCr or RGB.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
import simplejpeg

from xenon_mx.errors import XenonError
from xenon_mx.formats import ifd, pixels
from xenon_mx.runtime import memory

SIGNATURE = b"\xff\xd8"

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_TABLES = (0xC4, 0xDB, 0xDD)  # Huffman, quantisation, restart interval
_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended sequential, progressive
# Lossless, arithmetic ..., and the two markers of a hierarchy of frames.
_OTHER_FRAMES = {*range(0xC3, 0xD0), 0xDE, 0xDF} - {0xC4, 0xC8, 0xCC}
# After FF, bytes that start no segment: a stuffed 0, TEM and the restart markers.
_NO_SEGMENTS = (0x00, 0x01, *range(0xD0, 0xD8))
_JFIF, _EXIF, _ADOBE = 0xE0, 0xE1, 0xEE
# Programs write a dozen. Each may be a few bytes, and costs a pass over all pixels. As
# in libjpeg-turbo's fuzz tests (fuzz/decompress.cc).
_MOST_SCANS = 500
_COLOUR_TRANSFORMS = (0, 1)  # of Adobe's field for three components: RGB, YCbCr
_JFIF_FIELD = b"JFIF\0\1\1\0\0\1\0\1\0\0"
_ADOBE_FIELD = b"Adobe\0\x64\0\0\0\0"


@dataclass
class _Header:
    """A JPEG up to its first scan.

    Attributes:
        segments: Marker and content of those that the pixels depend on.
        size: Width and height, px.
        orientation: 1 to 8, as of `pixels.upright`; 0 before any Exif.
        skipped: Number of bytes between markers that mean nothing.
        odd_fields: Names of fields whose content is not known.
        scan: Where the first scan's marker starts.
    """

    segments: list[tuple[int, bytes]] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)
    orientation: int = 0
    skipped: int = 0
    odd_fields: list[str] = field(default_factory=list)
    scan: int = 0


def decode(data: bytes) -> np.ndarray:
    """Decode a JPEG to upright (H, W) uint8 gray: its luma.

    Raises:
        XenonError: The file is damaged, or is a JPEG of another kind.
        MemoryError: There is too little memory for the image.
    """
    header = _read_header(data)
    return pixels.upright(_decode(data, header), header.orientation)


def decode_stored(data: bytes) -> np.ndarray:
    """Decode a JPEG within another file, which tells the orientation, as `decode`."""
    return _decode(data, _read_header(data))


def _decode(data: bytes, header: _Header) -> np.ndarray:
    pixels.check_size(*header.size)
    if data.count(bytes([0xFF, _SCAN]), header.scan) > _MOST_SCANS:
        raise XenonError(f"a JPEG of more than {_MOST_SCANS} scans: store it as PNG")
    parts = [b"\xff", bytes([_START])]
    for marker, content in header.segments:
        parts += [struct.pack(">BBH", 0xFF, marker, len(content) + 2), content]
    try:
        gray = simplejpeg.decode_jpeg(
            b"".join([*parts, data[header.scan :]]), colorspace="GRAY", strict=True
        )
    except ValueError as error:
        if memory.is_out_of_memory(error):
            raise MemoryError(str(error)) from error
        reason = str(error)
        if reason.startswith("Premature end"):
            raise XenonError("the JPEG file is cut short") from error
        if "Could not determine subsampling" in reason:
            raise XenonError(
                "a JPEG with an unusual subsampling of its colours: store it as PNG"
            ) from error
        raise XenonError(f"a damaged JPEG: {reason}") from error
    return gray[:, :, 0]


def oddity(data: bytes) -> str:
    """Return in words what is odd about a JPEG's header but harmless, else empty."""
    try:
        header = _read_header(data)
    except XenonError:
        return ""
    if header.skipped:
        return "with bytes between markers"
    return f"with an odd {header.odd_fields[0]} field" if header.odd_fields else ""


def _read_header(data: bytes) -> _Header:
    """Read a JPEG's header; check that it is of a kind that is decoded."""
    header = _Header()
    offset = 2
    while True:
        start, end = _find_marker(data, offset)
        header.skipped += start - offset
        marker = data[end - 1]
        if marker == _SCAN:
            header.scan = end - 2
            break
        if marker in (_START, _END):
            raise XenonError("a damaged JPEG: it ends before its pixels")
        (length,) = struct.unpack_from(">H", data, end)
        offset = end + length
        if length < 2 or offset > len(data):
            raise XenonError("the JPEG file is cut short")
        _add_segment(header, marker, data[end + 2 : offset])
    if header.size == (0, 0):
        raise XenonError("a damaged JPEG: it has no frame before its pixels")
    return header


def _find_marker(data: bytes, offset: int) -> tuple[int, int]:
    """Return where the next marker's first byte is, and where its content starts.

    Fill bytes (FF) may precede a marker.
    """
    start = data.find(b"\xff", offset)
    while start >= 0:
        end = start + 1
        while data[end : end + 1] == b"\xff":
            end += 1
        if end + 3 > len(data):
            break
        if data[end] not in _NO_SEGMENTS:
            return start, end + 1
        start = data.find(b"\xff", end)
    raise XenonError("the JPEG file is cut short")


def _add_segment(header: _Header, marker: int, content: bytes) -> None:
    """Add what a segment says to the header; metadata say nothing."""
    if marker in _OTHER_FRAMES:
        raise XenonError(
            "a JPEG with lossless, hierarchical or arithmetic coding: store it as PNG "
            "or as a usual JPEG"
        )
    if marker in _FRAMES:
        header.size = _read_frame(content)
    if marker in (*_FRAMES, *_TABLES):
        header.segments.append((marker, content))
    elif marker == _EXIF and content.startswith(b"Exif\0\0"):
        # Viewers turn by the first of several Exif segments.
        header.orientation = header.orientation or ifd.orientation(content[6:])
    elif marker == _JFIF and content.startswith(b"JFIF\0"):
        _add_jfif(header, content)
    elif marker == _ADOBE and content.startswith(b"Adobe") and len(content) >= 12:
        _add_adobe(header, content[11])


def _add_jfif(header: _Header, content: bytes) -> None:
    """Add JFIF's field, which says that the colours are YCbCr."""
    is_whole = len(content) >= len(_JFIF_FIELD)  # libjpeg ignores it otherwise
    if content[5:6] != b"\1" or not is_whole:
        header.odd_fields.append("JFIF")
    if is_whole:
        header.segments.append((_JFIF, _JFIF_FIELD))


def _add_adobe(header: _Header, transform: int) -> None:
    """Add Adobe's field, which says whether the colours are RGB or YCbCr."""
    if transform not in _COLOUR_TRANSFORMS:
        header.odd_fields.append("Adobe")
        transform = 1  # libjpeg's assumption, too
    header.segments.append((_ADOBE, _ADOBE_FIELD + bytes([transform])))


def _read_frame(content: bytes) -> tuple[int, int]:
    """Return the width and height of a frame; check its bits and components."""
    try:
        bits, height, width, components = struct.unpack_from(">BHHB", content)
    except struct.error as error:
        raise XenonError("a damaged JPEG: its frame is cut short") from error
    if bits != 8:
        raise XenonError(f"a JPEG of {bits} bits: store it as PNG with 16 bits")
    if components not in (1, 3):
        raise XenonError(
            f"a JPEG of {components} colour components, such as for printing (CMYK): "
            f"store it in gray"
        )
    return width, height
