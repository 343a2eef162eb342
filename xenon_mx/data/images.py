"""Reading, decoding, scaling and encoding of images.

Owns how an image file becomes gray pixels of the nets' input size, in packing and
prediction; must not know labels or records. An image is (H, W) uint8, 0 black.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Sequence

import numpy as np

from xenon_mx.data import visibility
from xenon_mx.dicom import reader as dicom
from xenon_mx.errors import FileError, XenonError, os_error
from xenon_mx.runtime import memory
from xenon_mx.runtime.opencv import MOST_PIXELS, cv2

_JPEG, _JPEG_SCAN, _JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
_TWELVE_BITS = 4095

# Errors of the process, not of the file, which --skip-bad must not leave out for them.
_PROCESS_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def read(file: Path) -> bytes:
    """Read an image file's bytes.

    Raises:
        FileError: The file is missing, empty or not readable.
        OSError: The process is out of file descriptors or memory.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        if error.errno in _PROCESS_ERRORS:
            raise
        raise os_error(file, error) from error
    if not data:
        raise FileError(file, "the file is empty")
    return data


def decode(data: bytes, name: object = "image") -> np.ndarray:
    """Decode an image file into gray pixels, and check that they show something.

    Colour becomes luma (0.299 R + 0.587 G + 0.114 B), alpha is dropped, palettes are
    resolved, EXIF rotation is applied, and 16 bits are scaled to 8 (65535 to 255).
    DICOM files are recognized by their content and decoded by `dicom`.

    Args:
        data: The file's bytes.
        name: The file's name in errors.

    Returns:
        (H, W) uint8.

    Raises:
        FileError: The bytes are not an image, are truncated, or are a 16-bit image
            that uses only the lowest 12 bits: scaled by 65535 it would be black.
        MemoryError: There is too little memory for the image.
    """
    gray = _decode(data, name)
    try:
        visibility.check(gray)
    except XenonError as error:
        raise FileError(name, str(error)) from error
    return gray


def _decode(data: bytes, name: object) -> np.ndarray:
    if dicom.is_dicom(data):
        return dicom.decode(data, name, MOST_PIXELS)
    if data.startswith(_JPEG) and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
        # Some decoders fill the missing part with gray, without an error. An end marker
        # before the last scan belongs to a thumbnail in the header.
        raise FileError(name, "the JPEG file is cut short")
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _decoding_error(error, name) from error
    if image is None:
        raise FileError(name, "not an image, or a damaged one")
    return _to_uint8(image, name)


def _decoding_error(error: cv2.error, name: object) -> Exception:
    """Return the exception to raise for an error of OpenCV."""
    if "MAX_IMAGE_PIXELS" in str(error):
        return FileError(
            name,
            f"declares more than {MOST_PIXELS:,} pixels; if that is right, set the "
            f"environment variable OPENCV_IO_MAX_IMAGE_PIXELS",
        )
    if memory.is_out_of_memory(error):
        return MemoryError(str(error))
    return FileError(name, f"cannot be decoded: {error.err}")


def _to_uint8(image: np.ndarray, name: object) -> np.ndarray:
    """Scale 16 bits to 8; 8 bits are returned unchanged."""
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
        fit: `stretch` scales each side to S (the paper); `pad` keeps the aspect ratio
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
    """Return the rows and columns of `fit_square`'s square that the image fills.

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
    # INTER_AREA averages only if neither side grows: shrink first, then enlarge.
    shrunk = (min(width, image.shape[1]), min(height, image.shape[0]))
    if shrunk != image.shape[::-1]:
        image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
    if shrunk != (width, height):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def encode(image: np.ndarray, encoding: str, quality: int) -> bytes:
    """Encode pixels as an image file.

    Args:
        image: (H, W) uint8, or (H, W, 3) uint8 in blue, green, red.
        encoding: `jpg` or `png`.
        quality: Of the JPEG; ignored for `png`.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if encoding == "jpg" else []
    success, data = cv2.imencode(f".{encoding}", image, options)
    if not success:
        raise XenonError(f"OpenCV cannot write {encoding}")
    return bytes(data)
