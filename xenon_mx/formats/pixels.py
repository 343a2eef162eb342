"""From decoded samples to upright gray pixels, for every format alike.

Owns the limit on the size of images, luma, the scaling to 8 bits and the eight
orientations; must not know formats.
"""

from __future__ import annotations

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.runtime.opencv import MOST_PIXELS, cv2

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601, 2.5.1


def check_size(width: int, height: int) -> None:
    """Check that an image has pixels, and not more than can be meant.

    Raises:
        XenonError: It has none, or more than `MOST_PIXELS`.
    """
    if width < 1 or height < 1:
        raise XenonError(f"an image of {width} x {height} pixels")
    if width * height > MOST_PIXELS:
        raise XenonError(
            f"declares more than {MOST_PIXELS:,} pixels; if that is right, set the "
            f"environment variable OPENCV_IO_MAX_IMAGE_PIXELS"
        )


def luma(rgb: np.ndarray, bits: int) -> np.ndarray:
    """Return the gray of colours.

    Args:
        rgb: (H, W, 3) uint8, or uint16 for more than 8 bits.
        bits: Of each of red, green and blue.

    Returns:
        (H, W) uint8, 0.299 R + 0.587 G + 0.114 B scaled to 8 bits.
    """
    if bits < 8:
        rgb = to_uint8(rgb, bits)
    # Of more bits, luma comes first, so that the scaling rounds it once.
    gray = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    return to_uint8(gray, max(bits, 8))


def luma_of_palette(palette: np.ndarray, highest: int) -> np.ndarray:
    """Return the gray of a palette's colours.

    Args:
        palette: (n, 3), red, green and blue, from 0 to `highest`.
        highest: The value of full intensity, 255 or 65535.

    Returns:
        (n,) uint8.
    """
    return np.rint(palette @ np.array(LUMA) * (255 / highest)).astype(np.uint8)


def grays(bits: int) -> np.ndarray:
    """Return the gray of every value of a number of bits: (2 ** bits,) uint8."""
    highest = (1 << bits) - 1
    return np.rint(np.arange(highest + 1) * (255 / highest)).astype(np.uint8)


def to_uint8(samples: np.ndarray, bits: int) -> np.ndarray:
    """Scale samples of a number of bits to 8: the highest becomes 255."""
    if bits == 8:
        return samples
    return grays(bits)[samples]


def unpack(rows: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Unpack samples whose bits follow each other, the highest first.

    Args:
        rows: (H, n) uint8; each row starts with a byte of its own.
        bits: Of each sample, at most 16.
        count: Samples in a row.

    Returns:
        (H, count) uint8, or uint16 for more than 8 bits.
    """
    if bits == 8:
        return rows[:, :count]
    width = 8 if bits < 8 else 16
    bit = np.unpackbits(rows, axis=1)[:, : count * bits]
    padded = np.zeros((len(rows), count, width), np.uint8)
    padded[:, :, width - bits :] = bit.reshape(len(rows), count, bits)
    packed = np.packbits(padded.reshape(len(rows), -1), axis=1)
    return packed if width == 8 else packed.view(">u2").astype(np.uint16)


def upright(gray: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror an image as its orientation asks for.

    Args:
        gray: (H, W).
        orientation: 1 to 8 by Exif and TIFF 6.0, section 8: which side of the picture
            the first row and the first column are. Others count as 1.
    """
    if orientation in (2, 3, 7, 8):
        gray = gray[:, ::-1]
    if orientation in (3, 4, 6, 7):
        gray = gray[::-1]
    if orientation in (5, 6, 7, 8):
        gray = gray.T
    return np.ascontiguousarray(gray)
