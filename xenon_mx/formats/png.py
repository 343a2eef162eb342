"""Decoding of PNG files.

Owns PNG's chunks, colour types and scanlines (ISO 15948). Everything that libpng would
check, warn of on the terminal or let change the gray values is checked or left out
before: OpenCV is given the scanlines, whole and without compression.
"""

from __future__ import annotations

import struct
import zlib
from typing import Iterator, NamedTuple

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.formats import compression, ifd, pixels
from xenon_mx.runtime.opencv import cv2

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Colour types, and the samples of a pixel.
_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_SAMPLES = {_GRAY: 1, _RGB: 3, _PALETTE: 1, _GRAY_ALPHA: 2, _RGB_ALPHA: 4}
_DEPTHS = {
    _GRAY: (1, 2, 4, 8, 16),
    _RGB: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    _GRAY_ALPHA: (8, 16),
    _RGB_ALPHA: (8, 16),
}
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_LONGEST_SIDE = 1_000_000  # px, that libpng reads
_MOST_FILTERS = 4  # the highest number of a scanline's filter
# Adam7's passes: first row and column, and the steps of both.
_WHOLE = ((0, 0, 1, 1),)
_PASSES = (
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4)),
    *((0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
)


class _Header(NamedTuple):
    """The content of a PNG's first chunk."""

    width: int
    height: int
    bits: int
    colour_type: int
    compression: int
    filtering: int
    interlace: int

    def scanlines(self) -> list[tuple[int, int]]:
        """Return the number and the bytes of the scanlines of each pass."""
        passes = _PASSES if self.interlace else _WHOLE
        bits = self.bits * _SAMPLES[self.colour_type]
        lines = []
        for top, left, down, right in passes:
            rows, columns = -(-(self.height - top) // down), self.width - left
            columns = -(-columns // right)
            if rows > 0 and columns > 0:
                lines.append((rows, 1 + (columns * bits + 7) // 8))
        return lines


def decode(data: bytes) -> np.ndarray:
    """Decode a PNG to upright (H, W) uint8 gray.

    Colours and palettes become luma, alpha is dropped, and the orientation of an eXIf
    chunk is applied.

    Raises:
        XenonError: The file is damaged, animated, or has chunks that are not PNG's.
    """
    chunks, orientation = _read_chunks(data)
    header = _read_header(chunks.get(b"IHDR", b""))
    lines = _scanlines(chunks.get(b"IDAT", b""), header)
    depth = 16 if header.bits == 16 else 8  # as which fewer are returned
    if header.colour_type == _PALETTE:
        # The indices are decoded as if they were gray, which scales them.
        gray = _decode(header._replace(colour_type=_GRAY), lines, cv2.IMREAD_GRAYSCALE)
        gray = _look_up(gray // (255 // ((1 << header.bits) - 1)), chunks)
    elif header.colour_type in (_GRAY, _GRAY_ALPHA):
        gray = _decode(header, lines, cv2.IMREAD_GRAYSCALE)
        gray = pixels.to_uint8(gray, depth)
    else:
        colours = _decode(header, lines, cv2.IMREAD_COLOR)
        gray = pixels.luma(colours[:, :, ::-1], depth)
    return pixels.upright(gray, orientation)


def _read_chunks(data: bytes) -> tuple[dict[bytes, bytes], int]:
    """Return the content of each kind of critical chunk, and the orientation."""
    chunks: dict[bytes, list[bytes]] = {}
    orientation = 1
    for kind, content in _chunks(data):
        if kind in _CRITICAL:
            chunks.setdefault(kind, []).append(content)
        elif kind == b"eXIf":
            orientation = ifd.orientation(content)
        elif kind == b"acTL":
            raise XenonError("an animated PNG: store it as a single image")
        elif not kind[0] & 0x20:  # a capital: not to be ignored
            raise XenonError(f"a PNG of another kind: it has a chunk {_name(kind)}")
    return {kind: b"".join(parts) for kind, parts in chunks.items()}, orientation


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of every chunk up to the end of the image."""
    offset, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        if offset + 12 > len(data):
            raise XenonError("the PNG file is cut short")
        length, kind = struct.unpack_from(">I4s", data, offset)
        end = offset + 8 + length
        if end + 4 > len(data):
            raise XenonError("the PNG file is cut short")
        content = data[offset + 8 : end]
        checksum = int.from_bytes(data[end : end + 4], "big")
        if zlib.crc32(data[offset + 4 : end]) != checksum:
            raise XenonError(f"a damaged PNG: the checksum of {_name(kind)} is wrong")
        yield kind, content
        offset = end + 4


def _read_header(content: bytes) -> _Header:
    """Return the header; check that it is one of PNG's."""
    if len(content) != 13:
        raise XenonError("a damaged PNG: it has no header")
    header = _Header(*struct.unpack(">IIBBBBB", content))
    pixels.check_size(header.width, header.height)
    if max(header.width, header.height) > _LONGEST_SIDE:
        raise XenonError(f"a PNG of {header.width} x {header.height} pixels")
    is_known = (
        header.colour_type in _SAMPLES
        and header.bits in _DEPTHS[header.colour_type]
        and (header.compression, header.filtering) == (0, 0)
        and header.interlace in (0, 1)
    )
    if not is_known:
        raise XenonError(
            f"a damaged PNG: colour type {header.colour_type} with {header.bits} bits"
        )
    return header


def _scanlines(content: bytes, header: _Header) -> bytes:
    """Decompress the scanlines; check that they are whole, with known filters."""
    passes = header.scanlines()
    size = sum(rows * width for rows, width in passes)
    lines = compression.inflate(content, size)
    if len(lines) != size:
        raise XenonError("a damaged PNG: pixels are missing")
    values, start = np.frombuffer(lines, np.uint8), 0
    for rows, width in passes:
        filters = values[start : start + rows * width : width]
        if filters.max() > _MOST_FILTERS:
            raise XenonError("a damaged PNG: an unknown filter")
        start += rows * width
    return lines


def _look_up(indices: np.ndarray, chunks: dict[bytes, bytes]) -> np.ndarray:
    """Return the gray of indices into the palette."""
    content = chunks.get(b"PLTE", b"")
    palette = np.frombuffer(content[: len(content) // 3 * 3], np.uint8).reshape(-1, 3)
    if indices.max() >= len(palette):
        raise XenonError("a damaged PNG: pixels without a colour in its palette")
    return pixels.luma_of_palette(palette, 255)[indices]


def _decode(header: _Header, lines: bytes, colour: int) -> np.ndarray:
    """Decode scanlines with OpenCV, in 8 or 16 bits."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", *header)),
        (b"IDAT", zlib.compress(lines, 0)),  # stored, which costs next to nothing
        (b"IEND", b""),
    )
    parts = [SIGNATURE]
    for kind, content in chunks:
        checksum = zlib.crc32(content, zlib.crc32(kind))
        parts += [struct.pack(">I4s", len(content), kind), content]
        parts.append(struct.pack(">I", checksum))
    flags = colour | cv2.IMREAD_ANYDEPTH
    image = cv2.imdecode(np.frombuffer(b"".join(parts), np.uint8), flags)
    if image is None:
        raise XenonError("a damaged PNG")
    return image


def _name(kind: bytes) -> str:
    return ascii(kind.decode("latin-1"))
