"""The check that an image shows something.

Owns what counts as nothing to see, by gray values alone, so that it holds for every
format and every cause: a wrong window, an overflow, 12 bits in 16, a blank plate.
"""

from __future__ import annotations

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.runtime.opencv import cv2

# Chosen here. Of 866 real radiographs of wrist and chest, none is refused; enlarged by
# black borders to six times their sides, or with half the contrast, none either. With
# .06 of the contrast, as of 12 bits in 16, all are.
_MOST = 0.98  # of the pixels that are neither black nor white
_SPAN = 16  # of 255: what 12 bits fill of 16
_FEWEST = 0.01  # of all pixels, that are neither black nor white
_BORDER = 0.05  # of each side, left out: frames and collimators


def check(gray: np.ndarray) -> None:
    """Check that an image shows something.

    By shares of pixels rather than extremes, so that a dead pixel, a burnt-in marker
    or a border changes nothing.

    Args:
        gray: (H, W) uint8.

    Raises:
        XenonError: Nearly all pixels are black or white, or of nearly the same gray.
    """
    rows, columns = (int(side * _BORDER) for side in gray.shape)
    inner = gray[rows : gray.shape[0] - rows, columns : gray.shape[1] - columns]
    counts = cv2.calcHist([inner], [0], None, [256], [0, 256])[:, 0]
    # One gray between black and white is let through: no misreading gives it, and blank
    # images for trying things have it.
    is_uniform = counts.max() == inner.size and _SPAN < inner[0, 0] < 255 - _SPAN
    if not is_uniform:
        check_counts(
            counts,
            "if they have fewer bits than the file says, scale them to its full range "
            "first",
        )


def check_counts(counts: np.ndarray, remedy: str) -> None:
    """Check that grays show something.

    Black and white say nothing: shutters and burnt-in markers have them.

    Args:
        counts: (256,), the number of pixels of each gray.
        remedy: How the grays would tell more, for the error.

    Raises:
        XenonError: Nearly all pixels are black or white, or the others are of nearly
            the same gray.
    """
    between = np.array(counts, np.float64)
    between[[0, 255]] = 0
    if between.sum() < _FEWEST * counts.sum():
        raise XenonError(
            f"an image with nothing to see: its pixels are black or white, without "
            f"grays; {remedy}"
        )
    below = np.concatenate([[0], np.cumsum(between)])
    within = below[_SPAN + 1 :] - below[: -_SPAN - 1]  # from each gray on
    darkest = int(within.argmax())
    share = within[darkest] / below[-1]
    if share >= _MOST:
        raise XenonError(
            f"an image with nothing to see: {share:.0%} of its pixels between black "
            f"and white lie from {darkest} to {darkest + _SPAN} of 255; {remedy}"
        )
