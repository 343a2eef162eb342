"""Drawing class activation maps over the radiographs they were computed from.

Owns the geometry from the net's square input back to the radiograph, and the colours;
must not know nets or files. `models.cam_average` defines what a map is.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from xenon_mx.data import images
from xenon_mx.runtime.opencv import cv2

# Vermilion and blue of Okabe and Ito's palette (2008), in blue, green, red: they differ
# in every common kind of colour vision, and no radiograph has them.
_ABNORMAL, _NORMAL = (0, 94, 213), (178, 114, 0)
# Chosen here, by eye: the strongest colour still shows the bone beneath it.
_MAX_OPACITY = 0.6
# Chosen here: with fewer, most cells lie at an edge of the radiograph.
_MIN_CELLS = 5
_ZERO = 128  # the row of the tables below that leaves a pixel unchanged


def coarseness_warning(shape: Sequence[int]) -> str:
    """Return a warning if maps of (h, w) cells are too coarse to localise; else ""."""
    if min(shape) >= _MIN_CELLS:
        return ""
    return (
        f"maps of {shape[0]}x{shape[1]} cells are too coarse to show where something "
        f"lies"
    )


def resize_to_radiograph(
    cam: np.ndarray,
    shape: Sequence[int],
    size: int,
    fit: str,
    field: Sequence[float],
) -> np.ndarray:
    """Resize a map to the radiograph, undoing `images.fit_square`.

    Args:
        cam: (h, w) float32.
        shape: Height H and width W of the radiograph, px.
        size: The side of the nets' square input, px.
        fit: How the radiograph was fitted into it; the padding of `pad` is cut off.
        field: The map's extent: its start and end in the square, on both axes, px, as
            `cam_block.cam_extent` returns them. Named as in maps.json. The map may not
            cover the whole square.

    Returns:
        (H, W) float32: linear between the centres of the cells, constant beyond the
        outermost.
    """
    regions = images.content_region(shape, size, fit)
    rows, columns = (
        _interpolation_matrix(cells, pixels, region, field)
        for cells, pixels, region in zip(cam.shape, shape, regions)
    )
    return rows @ cam @ columns.T


def _interpolation_matrix(
    cells: int, pixels: int, region: slice, extent: Sequence[float]
) -> np.ndarray:
    """Return the weight of each cell in each pixel of a row, (pixels, cells)."""
    scale = (region.stop - region.start) / pixels
    centres = region.start + (np.arange(pixels) + 0.5) * scale  # in the square
    start, end = extent
    position = ((centres - start) / (end - start) * cells - 0.5).clip(0, cells - 1)
    return (1 - np.abs(position[:, None] - np.arange(cells))).clip(0).astype(np.float32)


def draw_overlay(radiograph: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """Tint a radiograph where the map speaks for abnormal (vermilion) or normal (blue).

    The tint grows with the distance from 0; where the map is 0, the radiograph is
    unchanged. The strongest tint is the largest absolute value *of this map*: that
    makes one image readable, but two images cannot be compared.

    Args:
        radiograph: (H, W) uint8.
        cam: (H, W) float32, as `resize_to_radiograph` returns it; all values finite.

    Returns:
        (H, W, 3) uint8 in OpenCV's order: blue, green, red.
    """
    largest = float(np.abs(cam).max()) or 1.0
    rows = np.rint(cam * np.float32(127 / largest) + _ZERO).astype(np.uint8)
    gray = cv2.multiply(radiograph, _TRANSMITTED[rows], scale=1 / 255)
    return cv2.add(_TINTS[rows], cv2.merge([gray] * 3))


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Return the share of a pixel that remains, (256,) 255ths, and tints, (256, 3)."""
    value = (np.arange(256) - _ZERO) / 127
    opacity = _MAX_OPACITY * np.abs(value).clip(0, 1)
    colour = np.where(value[:, None] > 0, _ABNORMAL, _NORMAL)
    transmitted, tints = 255 * (1 - opacity), opacity[:, None] * colour
    return np.rint(transmitted).astype(np.uint8), np.rint(tints).astype(np.uint8)


_TRANSMITTED, _TINTS = _tables()
