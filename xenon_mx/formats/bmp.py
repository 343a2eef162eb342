"""Decoding of Windows bitmaps.

Owns the BMP format, without run-length coding and unusual layouts of colours.
"""

from __future__ import annotations

import struct

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.formats import pixels

SIGNATURE = b"BM"

_FILE_HEADER = 14  # bytes
_INFO_HEADERS = (40, 52, 56, 108, 124)  # their sizes, in bytes: versions 3 to 5
_CORE_HEADER = 12  # of OS/2
_RGB, _BITFIELDS = 0, 3  # compressions
_MASKS = (0x00FF0000, 0x0000FF00, 0x000000FF)  # of blue, green, red, unused


def decode(data: bytes) -> np.ndarray:
    """Decode a bitmap to (H, W) uint8 gray.

    Palettes and colours become luma; the fourth byte of 32 bits is ignored.

    Raises:
        XenonError: The file is damaged, or is compressed or laid out in another way.
    """
    try:
        return _decode(data)
    except struct.error as error:
        raise XenonError("the BMP file is cut short") from error


def _decode(data: bytes) -> np.ndarray:
    start, header = struct.unpack_from("<II", data, 10)
    if header not in (*_INFO_HEADERS, _CORE_HEADER):
        raise XenonError(f"a BMP with a header of {header} bytes: store it as PNG")
    form = "<HHHH" if header == _CORE_HEADER else "<iiHH"
    width, height, _, bits = struct.unpack_from(form, data, _FILE_HEADER + 4)
    pixels.check_size(width, abs(height))
    _check_layout(data, header, bits)
    stride = (width * bits + 31) // 32 * 4  # rows end at a multiple of four bytes
    if start < _FILE_HEADER + header:
        raise XenonError("a damaged BMP: its pixels begin within its header")
    if start + stride * abs(height) > len(data):
        raise XenonError("the BMP file is cut short")
    rows = np.frombuffer(data, np.uint8, stride * abs(height), start)
    rows = rows.reshape(abs(height), stride)
    if height > 0:  # stored from the bottom up
        rows = rows[::-1]
    if bits <= 8:
        return _look_up(data, start, header, pixels.unpack(rows, bits, width), bits)
    samples = rows[:, : width * bits // 8].reshape(abs(height), width, bits // 8)
    return pixels.luma(samples[:, :, 2::-1], 8)


def _check_layout(data: bytes, header: int, bits: int) -> None:
    compression, masks = _RGB, _MASKS
    if header != _CORE_HEADER:
        (compression,) = struct.unpack_from("<I", data, _FILE_HEADER + 16)
    if compression == _BITFIELDS:
        masks = struct.unpack_from("<3I", data, _FILE_HEADER + 40)
    is_usual = bits in (1, 4, 8, 24, 32) and compression == _RGB
    if not is_usual and not (
        bits == 32 and compression == _BITFIELDS and masks == _MASKS
    ):
        raise XenonError(
            f"a BMP of {bits} bits with compression {compression}: store it as PNG"
        )


def _look_up(
    data: bytes, end: int, header: int, indices: np.ndarray, bits: int
) -> np.ndarray:
    """Return the gray of indices into the palette, which ends at `end`."""
    start, width = _FILE_HEADER + header, 3 if header == _CORE_HEADER else 4
    used = 0
    if header != _CORE_HEADER:
        (used,) = struct.unpack_from("<I", data, _FILE_HEADER + 32)
    count = min(used or 1 << bits, 1 << bits)
    if start + width * count > end or indices.max() >= count:
        raise XenonError("a damaged BMP: pixels without a colour in its palette")
    palette = np.frombuffer(data, np.uint8, width * count, start)
    return pixels.luma_of_palette(palette.reshape(count, width)[:, 2::-1], 255)[indices]
