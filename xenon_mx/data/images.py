"""From the bytes of an image file to gray pixels of the size that nets take.

Owns decoding and scaling, for packing and for predicting alike. Knows no labels and
no records. Throughout, an image is (H, W) uint8, 0 black.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Sequence

import numpy as np

from xenon_mx.dicom import reader as dicom
from xenon_mx.errors import FileError, XenonError, os_error
from xenon_mx.runtime import memory
from xenon_mx.runtime.opencv import MOST_PIXELS, cv2

_JPEG, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
_TWELVE_BITS = 4095

# What a process lacks is no fault of the file's, which may not be left out for it.
_OUR_OWN = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def read(file: Path) -> bytes:
    """Read an image file's bytes.

    Raises:
        FileError: The file is missing, empty or may not be read.
        OSError: This process may open no more files, or has no memory left.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        if error.errno in _OUR_OWN:
            raise
        raise os_error(file, error) from error
    if not data:
        raise FileError(file, "the file is empty")
    return data


def decode(data: bytes, name: object = "image") -> np.ndarray:
    """Decode an image file into gray pixels.

    Colour becomes luma (0.299 R + 0.587 G + 0.114 B), alpha is dropped, a palette is
    looked up, EXIF rotation is applied, and 16 bits are scaled to 8 (65535 to 255).
    DICOM files, told by their content, go to `dicom`.

    Args:
        data: The file's bytes.
        name: How errors call it.

    Returns:
        (H, W) uint8.

    Raises:
        FileError: The bytes are no image, are cut short, or hold a 16-bit image of
            which only the lowest 12 bits are used: scaled by 65535 it would be black.
        MemoryError: There is too little memory for them.
    """
    if dicom.is_dicom(data):
        return dicom.decode(data, name, MOST_PIXELS)
    if data.startswith(_JPEG) and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
        # Some decoders fill up the missing part with gray and say nothing. An end
        # before the last scan is that of a thumbnail in the header.
        raise FileError(name, "the JPEG file is cut short")
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if "MAX_IMAGE_PIXELS" in str(error):
            raise FileError(
                name,
                f"claims more than {MOST_PIXELS:,} pixels; if it is right, set "
                f"the environment variable OPENCV_IO_MAX_IMAGE_PIXELS",
            ) from error
        if memory.is_out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise FileError(name, f"cannot be decoded: {error.err}") from error
    if image is None:
        raise FileError(name, "not an image, or a damaged one")
    return _in_8_bits(image, name)


def _in_8_bits(image: np.ndarray, name: object) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    if image.dtype != np.uint16:
        raise FileError(name, f"pixels of type {image.dtype}; expected 8 or 16 bits")
    if image.max() <= _TWELVE_BITS:
        raise FileError(
            name,
            f"a 16-bit image whose brightest pixel is {image.max()}: scale it "
            f"to the full range of 65535 first",
        )
    return np.round(image / 257.0).astype(np.uint8)  # 65535 / 257 = 255


def fit_square(image: np.ndarray, size: int, fit: str) -> np.ndarray:
    """Scale an image to a square.

    Args:
        image: (H, W) uint8.
        size: The square's side S, px.
        fit: `stretch` scales both sides (the paper); `pad` keeps the aspect ratio
            and centres the image on black.

    Returns:
        (S, S) uint8.
    """
    rows, columns = content_region(image.shape, size, fit)
    square = np.zeros((size, size), np.uint8)
    square[rows, columns] = _scale(
        image, columns.stop - columns.start, rows.stop - rows.start
    )
    return square


def content_region(shape: Sequence[int], size: int, fit: str) -> tuple[slice, slice]:
    """Tell which rows and columns of `fit_square`'s square the image fills.

    Args:
        shape: Height and width of the image, px.
        size: The square's side, px.
        fit: As for `fit_square`.
    """
    if fit == "stretch":
        return slice(0, size), slice(0, size)
    ratio = size / max(shape)
    height, width = (max(1, round(side * ratio)) for side in shape)
    top, left = (size - height) // 2, (size - width) // 2
    return slice(top, top + height), slice(left, left + width)


def _scale(image: np.ndarray, width: int, height: int) -> np.ndarray:
    # INTER_AREA averages only if neither side grows: shrink first, then grow.
    least = (min(width, image.shape[1]), min(height, image.shape[0]))
    if least != image.shape[::-1]:
        image = cv2.resize(image, least, interpolation=cv2.INTER_AREA)
    if least != (width, height):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def encode(image: np.ndarray, encoding: str, quality: int) -> bytes:
    """Encode uint8 pixels as `jpg` of a quality, or as `png`.

    (H, W) become a file of one channel, (H, W, 3) in blue, green, red one of three.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if encoding == "jpg" else []
    done, data = cv2.imencode(f".{encoding}", image, options)
    if not done:
        raise XenonError(f"OpenCV cannot write {encoding}")
    return bytes(data)
