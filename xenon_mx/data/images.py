"""Reading, decoding, scaling and encoding of images.

Owns how an image file becomes gray pixels of the nets' input size, in packing and
prediction, and how that is told to other programs; must not know labels or records. An
image is (H, W) uint8, 0 black.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections import Counter
from pathlib import Path
from typing import Callable, Sequence

import numpy as np

from xenon_mx.dicom import reader as dicom
from xenon_mx.errors import FileError, XenonError, os_error
from xenon_mx.formats import bmp, ifd, jpeg, pixels, png, tiff, visibility
from xenon_mx.runtime import memory
from xenon_mx.runtime.opencv import cv2
from xenon_mx.settings import AnyPath

_log = logging.getLogger(__name__)

# The formats that are read, by a file's first bytes.
_DECODERS: dict[bytes, Callable[[bytes], np.ndarray]] = {
    png.SIGNATURE: png.decode,
    jpeg.SIGNATURE: jpeg.decode,
    bmp.SIGNATURE: bmp.decode,
    **dict.fromkeys(ifd.SIGNATURES, tiff.decode),
}
# Others that people have, for the error.
_OTHER_FORMATS = {
    b"GIF8": "GIF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\x59\xa6\x6a\x95": "Sun raster",
    b"8BPS": "Photoshop",
    b"%PDF": "PDF",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"PK\x03\x04": "ZIP",
    b"\x1f\x8b": "gzip",
    b"NRRD": "NRRD",
    **{b"P%d" % kind: "Netpbm" for kind in range(1, 7)},
}

# What `decode` and `fit_square` do, for programs that do the same without xenon. Each
# key is explained in docs/deploy.md.
PIXELS = {
    "orientation": "applied",
    "gray": dict(zip(("red", "green", "blue"), pixels.LUMA)),
    "gray_of_jpeg": "Y",
    "to_8_bits": "value * 255 / (2 ** bits - 1)",
    "resize": [
        {"interpolation": "area", "side": "min(old, new)"},
        {
            "interpolation": "linear",
            "side": "new",
            "coordinates": "half_pixel",
            "beyond_edge": "repeat",
        },
    ],
    "rounding": "nearest, after each step",
    "pad": {
        "side": "max(1, round(old * size / longest))",
        "before": "(size - side) // 2",
        "value": 0,
    },
}

# Errors of the process, not of the file, which --skip-bad must not leave out for them.
_PROCESS_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def read(file: AnyPath, name: object = None) -> bytes:
    """Read an image file's bytes.

    Args:
        file: The file.
        name: The file's name in errors; None is its path.

    Raises:
        FileError: The file is missing, empty or not readable.
        OSError: The process is out of file descriptors or memory.
    """
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        if error.errno in _PROCESS_ERRORS:
            raise
        raise os_error(name or file, error) from error
    if not data:
        raise FileError(name or file, "the file is empty")
    return data


def decode(data: bytes, name: object = "image") -> np.ndarray:
    """Decode an image file into gray pixels, and check that they show something.

    PNG, JPEG, BMP, TIFF and DICOM are recognized by their content, never by the name.
    Colour becomes luma (0.299 R + 0.587 G + 0.114 B), alpha is dropped, palettes are
    resolved, orientations are applied, and 16 bits are scaled to 8 (65535 to 255).

    Args:
        data: The file's bytes.
        name: The file's name in errors.

    Returns:
        (H, W) uint8.

    Raises:
        FileError: The bytes are not such an image, are damaged, have no certain
            meaning, or show nothing.
        MemoryError: There is too little memory for the image.
    """
    try:
        gray = _decoder(data)(data)
    except XenonError as error:
        raise FileError(name, str(error)) from error
    except cv2.error as error:
        if memory.is_out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise FileError(name, f"cannot be decoded: {error.err}") from error
    check_visible(gray, name)
    return gray


def check_visible(gray: np.ndarray, name: object) -> None:
    """Check that an image shows something.

    Args:
        gray: (H, W) uint8.
        name: The image's name in the error.

    Raises:
        FileError: It shows nothing.
    """
    try:
        visibility.check(gray)
    except XenonError as error:
        raise FileError(name, str(error)) from error


def _decoder(data: bytes) -> Callable[[bytes], np.ndarray]:
    """Return the function that decodes a file, by its first bytes."""
    if dicom.is_dicom(data):
        return dicom.decode
    for signature, decoder in _DECODERS.items():
        if data.startswith(signature):
            return decoder
    known = [name for start, name in _OTHER_FORMATS.items() if data.startswith(start)]
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        known = ["WebP"]
    raise XenonError(
        f"a {known[0]} file: store it as PNG, JPEG, BMP, TIFF or DICOM"
        if known
        else "not an image: neither PNG, JPEG, BMP, TIFF nor DICOM"
    )


class Oddities:
    """Counts of images that are odd but whole. Threads may share it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, data: bytes) -> None:
        """Count an image file if it is odd."""
        if not data.startswith(jpeg.SIGNATURE):
            return
        oddity = jpeg.oddity(data)
        if oddity:
            with self._lock:
                self._counts[oddity] += 1

    def log(self) -> None:
        """Log how many images are odd, by what is odd about them."""
        if self._counts:
            listed = (
                f"{self._counts[oddity]:,} {oddity}" for oddity in sorted(self._counts)
            )
            _log.info("odd but whole JPEGs, which are read: %s", ", ".join(listed))


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
