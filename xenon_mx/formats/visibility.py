"""The check that an image shows something.

Owns what counts as nothing to see, by gray values alone, so that it holds for every
format and every cause: a wrong window, an overflow, 12 bits in 16, a blank plate.
"""

from __future__ import annotations

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.runtime.opencv import cv2

# Chosen here. Of 66 real radiographs of wrist and chest, at most .72 of the pixels lie
# within so many grays of each other, and .78 of those that pydicom ships.
MOST = 0.95
SPAN = 16  # of 255: what 12 bits fill of 16
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
    if counts[0] + counts[255] >= MOST * inner.size:
        raise XenonError(
            "an image with nothing to see: its pixels are black or white, without grays"
        )
    darkest, share = narrowest(counts)
    # One gray between black and white is let through: no misreading gives it, and blank
    # images for trying things have it.
    is_uniform = counts.max() == inner.size and SPAN < gray[0, 0] < 255 - SPAN
    if share >= MOST and not is_uniform:
        raise XenonError(
            f"an image with nothing to see: {share:.0%} of its pixels lie between "
            f"{darkest} and {darkest + SPAN} of 255; if they have fewer bits than the "
            f"file says, scale them to its full range first"
        )


def narrowest(counts: np.ndarray) -> tuple[int, float]:
    """Return the darkest of the neighbouring grays that most pixels have.

    Args:
        counts: (256,), the number of pixels of each gray.

    Returns:
        The gray, and the share of pixels from it to `SPAN` above.
    """
    below = np.concatenate([[0], np.cumsum(counts)])
    within = below[SPAN + 1 :] - below[: -SPAN - 1]  # from each gray on
    darkest = int(within.argmax())
    return darkest, within[darkest] / below[-1]
