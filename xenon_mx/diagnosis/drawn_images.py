"""Images that are drawn for the checks, so that no patient's are needed.

Owns what they look like and where they lie. Must not know what they are used for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from xenon_mx.runtime.opencv import cv2

# Chosen here: as many different ones as decoding and disk caches cannot tell from more.
_DIFFERENT = 24
_VIEWS = 4  # images per study


def pixels(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Draw images: clouds under grain, (N, S, S) uint8, half of them with a bright bar.

    The grain has no flat places, where rounding alone would decide which pixel of a
    pooling is the largest.
    """
    random = np.random.RandomState(seed)
    drawn = np.zeros((count, size, size), np.uint8)
    for number, image in enumerate(drawn):
        coarse = random.normal(size=(8, 8)).astype(np.float32)
        clouds: Any = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        gray = 110 + 35 * clouds + random.normal(scale=6, size=(size, size))
        if number % 2:
            gray[size // 4 : size // 2, size // 3 : size // 3 + size // 8] += 60
        image[:] = gray.clip(0, 255)
    return drawn


def labels(count: int) -> np.ndarray:
    """Return the labels of drawn images, (N,) float32: 1 for those with a bar."""
    return (np.arange(count) % 2).astype(np.float32)


def write(root: Path, size: int, train: int, valid: int) -> None:
    """Write a data set in MURA's layout, with one view of as many different images.

    Args:
        root: The folder to make.
        size: Side of the images, px.
        train: Number of training images, an even one.
        valid: Number of validation images, an even one.

    Raises:
        OSError: From the system, such as a full disk.
    """
    for split, count, first in (("train", train, 1), ("valid", valid, 90001)):
        drawn = pixels(min(count, _DIFFERENT), size, seed=first)
        files = [cv2.imencode(".png", image)[1].tobytes() for image in drawn]
        for number in range(count):
            label = number % 2
            patient = first + number // (2 * _VIEWS)
            end = ("negative", "positive")[label]
            study = root / split / "XR_HAND" / f"patient{patient:05d}"
            study = study / f"study{label + 1}_{end}"
            study.mkdir(parents=True, exist_ok=True)
            view = number // 2 % _VIEWS + 1
            (study / f"image{view}.png").write_bytes(files[number % len(files)])
