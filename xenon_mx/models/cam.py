"""Class activation maps on the radiographs that they are of.

Owns the geometry of a map (members into one, the net's square back to the radiograph)
and how it looks. Knows no nets and no files.

A map is (h, w) float32, a cell a place of a net's last map: above 0 where that place
speaks for abnormal, below 0 where it speaks for normal. Units are those of the logit:
the mean over the cells plus the net's bias is the logit.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

from xenon_mx.data import images
from xenon_mx.runtime.opencv import cv2

# Vermilion and blue of Okabe and Ito's palette (2008), in blue, green, red: told apart
# by every common kind of colour vision, and found on no gray film.
_ABNORMAL, _NORMAL = (0, 94, 213), (178, 114, 0)
# Chosen here, by looking: the strongest colour still shows the bone beneath it.
_MOST_OPAQUE = 0.6
# Chosen here: with fewer, most cells lie on an edge of the film.
_FEWEST_CELLS = 5
_ZERO = 128  # the row of the tables below that leaves a pixel as it is


class CamBatch(NamedTuple):
    """What an ensemble says of n images, and where it looked.

    Attributes:
        pixels: (n, S, S) uint8, what the members were given.
        logits: (n, M) float32.
        maps: (n, h, w) float32, the mean of the members' class activation maps. Their
            mean plus the mean of the members' biases is the mean of the logits; the
            ensemble's probability is the mean of the probabilities, another number.
    """

    pixels: np.ndarray
    logits: np.ndarray
    maps: np.ndarray


def coarseness_warning(shape: Sequence[int]) -> str:
    """Say it if maps of so many cells cannot show where something lies; else empty."""
    if min(shape) >= _FEWEST_CELLS:
        return ""
    return (
        f"maps of {shape[0]}x{shape[1]} cells are too coarse to show where something "
        f"lies"
    )


def average_cams(members: Sequence[np.ndarray]) -> np.ndarray:
    """Average the maps of several nets.

    Args:
        members: (n, h, w) float32 of each net. Nets of different kinds may give maps
            of different sizes: all are brought to the largest, so that the mean of
            every map stays what it was.

    Returns:
        (n, h, w) float32.
    """
    height = max(each.shape[1] for each in members)
    width = max(each.shape[2] for each in members)
    total = np.zeros((len(members[0]), height, width))
    for each in members:
        rows, columns = (
            resampling_matrix(*pair) for pair in zip(each.shape[1:], total.shape[1:])
        )
        total += rows @ each @ columns.T
    return (total / len(members)).astype(np.float32)


def resampling_matrix(old: int, new: int) -> np.ndarray:
    """Tell how a line of cells is cut anew, so that its mean stays what it was.

    Args:
        old: How many cells it has.
        new: How many it is to have.

    Returns:
        (new, old): the share of each new cell that lies in each old one.
    """
    starts, ends = np.arange(new)[:, None] / new, np.arange(1, new + 1)[:, None] / new
    common = np.minimum(ends, np.arange(1, old + 1) / old)
    common = common - np.maximum(starts, np.arange(old) / old)
    return new * common.clip(0)


def resize_to_radiograph(
    cam: np.ndarray,
    shape: Sequence[int],
    size: int,
    fit: str,
    field: Sequence[float],
) -> np.ndarray:
    """Undo what `images.fit_square` did: lay a map over the radiograph.

    Args:
        cam: (h, w) float32.
        shape: Height H and width W of the radiograph, px.
        size: The side of the square that the nets saw, px.
        fit: How the radiograph was fitted into it; the padding of `pad` is cut off.
        field: From where to where the map lies over the square, on both axes, px, as
            `models.field` gives it. It need not be the whole of it.

    Returns:
        (H, W) float32: linear between the middles of the cells, constant beyond the
        outermost.
    """
    windows = images.content_region(shape, size, fit)
    down, across = (
        _weights(cells, pixels, window, field)
        for cells, pixels, window in zip(cam.shape, shape, windows)
    )
    return down @ cam @ across.T


def _weights(
    cells: int, pixels: int, window: slice, field: Sequence[float]
) -> np.ndarray:
    """(pixels, cells) float32: what each cell of a line gives to each of its pixels."""
    scale = (window.stop - window.start) / pixels
    middles = window.start + (np.arange(pixels) + 0.5) * scale  # in the square
    start, end = field
    at = ((middles - start) / (end - start) * cells - 0.5).clip(0, cells - 1)
    return (1 - np.abs(at[:, None] - np.arange(cells))).clip(0).astype(np.float32)


def draw_overlay(radiograph: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """Tint a radiograph where the map speaks for abnormal (vermilion) or normal (blue).

    The tint is the stronger the farther from 0; where the map is 0, the film is left
    as it is. The strongest tint is the largest absolute value *of this map*: a choice
    of display, which makes one image readable and two images incomparable.

    Args:
        radiograph: (H, W) uint8.
        cam: (H, W) float32, as `resize_to_radiograph` gives it; all values are finite.

    Returns:
        (H, W, 3) uint8 in OpenCV's order: blue, green, red.
    """
    most = float(np.abs(cam).max()) or 1.0
    rows = np.rint(cam * np.float32(127 / most) + _ZERO).astype(np.uint8)
    film = cv2.multiply(radiograph, _KEPT[rows], scale=1 / 255)
    return cv2.add(_TINTS[rows], cv2.merge([film] * 3))


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """What is kept of a pixel, (256,) in 255ths, and the tint upon it, (256, 3)."""
    value = (np.arange(256) - _ZERO) / 127
    opaque = _MOST_OPAQUE * np.abs(value).clip(0, 1)
    colour = np.where(value[:, None] > 0, _ABNORMAL, _NORMAL)
    kept, tints = 255 * (1 - opaque), opaque[:, None] * colour
    return np.rint(kept).astype(np.uint8), np.rint(tints).astype(np.uint8)


_KEPT, _TINTS = _tables()
