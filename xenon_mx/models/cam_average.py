"""Arithmetic on class activation maps: averaging and resampling. NumPy only.

Owns what a map is and how several nets' maps become one; must not know nets, drawing
or files.

A map is (h, w) float32, one cell per position of a net's last feature map: above 0
where that position speaks for abnormal, below 0 where it speaks for normal. Units are
those of the logit: the mean over the cells plus the net's bias is the logit.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np


class CamBatch(NamedTuple):
    """An ensemble's logits and class activation maps of n images.

    Attributes:
        pixels: (n, S, S) uint8, the members' input.
        logits: (n, M) float32.
        maps: (n, h, w) float32, the mean of the members' class activation maps. Their
            mean plus the mean of the members' biases is the mean of the logits. The
            ensemble's probability, the mean of the probabilities, is another number.
    """

    pixels: np.ndarray
    logits: np.ndarray
    maps: np.ndarray


def average_cams(members: Sequence[np.ndarray]) -> np.ndarray:
    """Average the maps of several nets.

    Args:
        members: (n, h, w) float32 of each net. Maps of different sizes are resampled
            to the largest height and width, which keeps the mean of every map.

    Returns:
        (n, h, w) float32.
    """
    height = max(maps.shape[1] for maps in members)
    width = max(maps.shape[2] for maps in members)
    total = np.zeros((len(members[0]), height, width))
    for maps in members:
        rows, columns = (
            resampling_matrix(*pair) for pair in zip(maps.shape[1:], total.shape[1:])
        )
        total += rows @ maps @ columns.T
    return (total / len(members)).astype(np.float32)


def resampling_matrix(old: int, new: int) -> np.ndarray:
    """Compute the matrix that resamples a row of cells by area, keeping its mean.

    Args:
        old: Number of cells of the row.
        new: Number of cells of the resampled row.

    Returns:
        (new, old) float64: the share of each new cell that lies in each old one.
    """
    starts, ends = np.arange(new)[:, None] / new, np.arange(1, new + 1)[:, None] / new
    overlap = np.minimum(ends, np.arange(1, old + 1) / old)
    overlap = overlap - np.maximum(starts, np.arange(old) / old)
    return new * overlap.clip(0)
