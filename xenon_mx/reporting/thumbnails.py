"""Thumbnails: small JPEGs of a radiograph and of an overlay.

Owns their size, and what becomes of an unreadable file; must not know studies.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xenon_mx.data import images
from xenon_mx.errors import XenonError
from xenon_mx.inference import cam_folder, cam_overlay
from xenon_mx.runtime.opencv import cv2

_log = logging.getLogger(__name__)

# Chosen here: sharp at twice the 150 CSS px of a thumbnail on the page, and about 15 kB
# each, so that a page of 16 studies stays below 2 MB.
_SIDE, _QUALITY = 320, 80


class Thumbnail(NamedTuple):
    """A JPEG of a view or of its overlay.

    Attributes:
        bytes: The JPEG.
        caption: Which of the two it is, and of which view.
        alt: The same with the name of the study.
    """

    bytes: bytes
    caption: str
    alt: str


def of_radiograph(file: Path, caption: str, alt: str) -> list[Thumbnail]:
    """Return the thumbnail of a view; none, with a warning, if it is unreadable."""
    try:
        pixels = images.decode(images.read(file), file)
        return [Thumbnail(_encode(pixels), caption, alt)]
    except XenonError as error:
        _log.warning("left out of the gallery: %s", error)
        return []


def of_overlay(file: Path, caption: str, alt: str) -> list[Thumbnail]:
    """Return the thumbnail of an overlay; none, with a warning, if it is unreadable."""
    try:
        pixels = cv2.imdecode(np.frombuffer(images.read(file), np.uint8), 1)
    except (XenonError, cv2.error):
        pixels = None
    if pixels is None:
        _log.warning("left out of the gallery: %s: not an image", file)
        return []
    return [Thumbnail(_encode(pixels), caption, alt)]


def coarseness(overlay: Path) -> str:
    """Return a sentence if the CAM of an overlay is coarse, else an empty string."""
    file = overlay.with_name(
        overlay.name[: -len(cam_folder.OVERLAY)] + cam_folder.ARRAY
    )
    if not os.path.lexists(file):  # the page needs only the overlay
        return ""
    cells = _cells(file)
    if cells is None:
        _log.warning("%s: not the array of an activation map", file)
        return ""
    warning = cam_overlay.coarseness_warning(cells)
    return warning and f"{warning[0].upper()}{warning[1:]}."


def _cells(file: Path) -> tuple[int, int] | None:
    """Return the (height, width) of a CAM's array; None if the file is not an array.

    Reads only the header, which may claim more cells than there is memory.
    """
    if not file.is_file():  # a pipe, for example
        return None
    try:
        with open(file, "rb") as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                return None
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            height, width = shape
            size = stream.tell() + height * width * dtype.itemsize
            is_complete = min(shape) > 0 and size == os.fstat(stream.fileno()).st_size
    except (OSError, ValueError, RecursionError, MemoryError):
        return None
    return (height, width) if is_complete else None


def _encode(image: np.ndarray) -> bytes:
    """Return (H, W) or (H, W, 3) uint8 pixels as the bytes of a small JPEG."""
    height, width = image.shape[:2]
    ratio = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return images.encode(scaled, "jpg", _QUALITY)
