"""The colour key of overlays: which colour means what, and on which scale.

Owns its layout and words; must not know how the colours are chosen (`cam_overlay`),
nets or files.
"""

from __future__ import annotations

import numpy as np

from xenon_mx.inference import cam_overlay
from xenon_mx.runtime.opencv import cv2

NORMAL, ZERO, ABNORMAL = "speaks for normal", "0", "speaks for abnormal"
SCALE = (
    "Full colour is the largest value of that image, of either sign.",
    "Colours of two images cannot be compared.",
)
UNCHANGED = "Where the map is 0, the radiograph is unchanged."
ALT = (
    "Colour key: from blue, which speaks for normal, over the unchanged radiograph at "
    "0 to vermilion, which speaks for abnormal."
)
_WIDTH, _HEIGHT, _MARGIN = 640, 210, 30  # px: OpenCV's letters are legible, none is cut
_WHITE, _GRAY = (255, 255, 255), (190, 190, 190)


def draw_strip(width: int, height: int) -> np.ndarray:
    """Draw the tints from full blue to full vermilion over black (top) to white.

    Args:
        width: In px.
        height: In px.

    Returns:
        (height, width, 3) uint8 in OpenCV's order: blue, green, red.
    """
    gray = np.linspace(0, 255, height).astype(np.uint8)[:, None].repeat(width, 1)
    cam = np.linspace(-1, 1, width, dtype=np.float32)[None].repeat(height, 0)
    return cam_overlay.draw_overlay(gray, cam)


def draw_key() -> np.ndarray:
    """Draw the strip with its meaning and its scale, in words.

    Returns:
        (210, 640, 3) uint8 in OpenCV's order: blue, green, red.
    """
    key = np.zeros((_HEIGHT, _WIDTH, 3), np.uint8)
    strip = draw_strip(_WIDTH - 2 * _MARGIN, 50)
    key[40:90, _MARGIN:-_MARGIN] = strip
    cv2.line(key, (_WIDTH // 2, 90), (_WIDTH // 2, 98), _WHITE, 1)
    _write(key, "Class activation map over its radiograph: colour key", 26, 0.0)
    for words, place in ((NORMAL, 0.0), (ZERO, 0.5), (ABNORMAL, 1.0)):
        _write(key, words, 116, place)
    lines = (*SCALE, f"{UNCHANGED} Not for medical use.")
    for number, line in enumerate(lines):
        _write(key, line, 146 + 22 * number, 0.0, 0.5, _GRAY)
    return key


def _write(
    key: np.ndarray,
    words: str,
    bottom: int,
    place: float,
    scale: float = 0.55,
    colour: tuple[int, int, int] = _WHITE,
) -> None:
    """Write words between the margins: at the left (0), in the centre, or right (1)."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, _), _ = cv2.getTextSize(words, font, scale, 1)
    left = _MARGIN + round(place * (_WIDTH - 2 * _MARGIN - width))
    cv2.putText(key, words, (left, bottom), font, scale, colour, 1, cv2.LINE_AA)
