"""Decoding of PNG files.

Owns PNG's chunks and colour types (ISO 15948). OpenCV's libpng decodes them after a
check, from a copy without the chunks that are not needed: it warns of some of them on
the terminal, and others change its gray values (with a gamma, it converts colours to
gray in linear light).
"""

from __future__ import annotations

import struct
import zlib
from typing import Iterator

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.formats import ifd, pixels
from xenon_mx.runtime.opencv import cv2

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_GRAY, _PALETTE, _GRAY_ALPHA = 0, 3, 4  # colour types; the others are of colours
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


def decode(data: bytes) -> np.ndarray:
    """Decode a PNG to upright (H, W) uint8 gray.

    Colours and palettes become luma, alpha is dropped, and the orientation of an eXIf
    chunk is applied.

    Raises:
        XenonError: The file is damaged, animated, or has chunks that are not PNG's.
    """
    chunks, orientation = _read_chunks(data)
    header = next((content for kind, content in chunks if kind == b"IHDR"), b"")
    if len(header) != 13 or not any(kind == b"IDAT" for kind, _ in chunks):
        raise XenonError("a damaged PNG: it has no header or no pixels")
    width, height, bits, colour_type = struct.unpack(">IIBB", header[:10])
    pixels.check_size(width, height)
    depth = 16 if bits == 16 else 8  # as which libpng returns fewer
    if colour_type == _PALETTE:
        gray = _decode_palette(chunks, bits)
    elif colour_type in (_GRAY, _GRAY_ALPHA):
        gray = pixels.to_uint8(_decode(chunks, cv2.IMREAD_GRAYSCALE), depth)
    else:
        gray = pixels.luma(_decode(chunks, cv2.IMREAD_COLOR)[:, :, ::-1], depth)
    if gray.shape != (height, width):
        raise XenonError("a damaged PNG")
    return pixels.upright(gray, orientation)


def _read_chunks(data: bytes) -> tuple[list[tuple[bytes, bytes]], int]:
    """Return the critical chunks, kind and content each, and the orientation."""
    chunks, orientation = [], 1
    for kind, content in _chunks(data):
        if kind in _CRITICAL:
            chunks.append((kind, content))
        elif kind == b"eXIf":
            orientation = ifd.orientation(content)
        elif kind == b"acTL":
            raise XenonError("an animated PNG: store its film as a single image")
        elif not kind[0] & 0x20:  # a capital: not to be ignored
            raise XenonError(f"a PNG of another kind: it has a chunk {kind!r}")
    return chunks, orientation


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
        is_right = zlib.crc32(data[offset + 4 : end]) == int.from_bytes(
            data[end : end + 4], "big"
        )
        if not is_right and kind in (*_CRITICAL, b"eXIf"):
            raise XenonError(f"a damaged PNG: the checksum of {kind!r} is wrong")
        yield kind, content
        offset = end + 4


def _decode_palette(chunks: list[tuple[bytes, bytes]], bits: int) -> np.ndarray:
    """Return the gray of a PNG with a palette: the indices are decoded as if gray."""
    plain = []
    for kind, content in chunks:
        if kind == b"IHDR":
            content = content[:9] + bytes([_GRAY]) + content[10:]
        if kind != b"PLTE":
            plain.append((kind, content))
    scaled = _decode(plain, cv2.IMREAD_GRAYSCALE)
    indices = scaled // (255 // ((1 << bits) - 1)) if bits < 8 else scaled
    content = next((content for kind, content in chunks if kind == b"PLTE"), b"")
    palette = np.frombuffer(content[: len(content) // 3 * 3], np.uint8).reshape(-1, 3)
    if indices.max() >= len(palette):
        raise XenonError("a damaged PNG: pixels without a colour in its palette")
    return pixels.luma_of_palette(palette, 255)[indices]


def _decode(chunks: list[tuple[bytes, bytes]], colour: int) -> np.ndarray:
    """Decode a PNG of these chunks with OpenCV, in 8 or 16 bits."""
    parts = [SIGNATURE]
    for kind, content in chunks:
        checksum = zlib.crc32(content, zlib.crc32(kind))
        parts += [struct.pack(">I", len(content)), kind, content]
        parts.append(struct.pack(">I", checksum))
    flags = colour | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(b"".join(parts), np.uint8), flags)
    if image is None:
        raise XenonError("a damaged PNG")
    return image
