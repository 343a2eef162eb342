"""Fixtures of all tests: one random seed, and a tiny data set laid out like MURA."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Callable, Iterable, Iterator, Sequence

import numpy as np
import pytest
from PIL import Image
from support import mura_tree as layout

# Before a test imports cv2: this module sets OpenCV's limits.
import xenon_mx.runtime.opencv  # noqa: F401

SEED = int(os.environ.get("XENON_TEST_SEED", "20180522"))

TYPES = ("XR_WRIST", "XR_ELBOW", "XR_HAND")  # not in alphabetical order, as in MURA
MODES = ("L", "RGB", "RGBA", "I;16", "P", "LA")

MuraTree = Callable[..., Path]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Seed the random generators before each test, whatever ran before it."""
    random.seed(SEED)
    np.random.seed(SEED % 2**32)


@pytest.fixture
def mura_tree(tmp_path: Path) -> MuraTree:
    """Return a function that writes a data set and returns its root.

    Each study type has `patients` training patients and half as many (at least two)
    validation patients, each with one or two studies of one to four views. Patients are
    alternately abnormal and normal; images differ in mode and size.
    """

    def write(
        types: Sequence[str] = TYPES, patients: int = 4, csvs: bool = True
    ) -> Path:
        root = tmp_path / layout.NAME
        for split, count, first in (
            ("train", patients, 1),
            ("valid", max(2, patients // 2), 11185),
        ):
            studies = list(_studies(split, types, range(first, first + count)))
            layout.write_images(root, studies, _draw)
            if csvs:
                layout.write_csvs(root, split, studies)
        return root

    return write


def _studies(
    split: str, types: Sequence[str], patients: Iterable[int]
) -> Iterator[layout.Study]:
    for study_type in types:
        for patient in patients:
            for number in range(1, 2 + patient % 3 // 2):
                yield layout.Study(
                    split,
                    study_type,
                    patient,
                    label=patient % 2,
                    views=1 + (patient + number + len(study_type)) % 4,
                    number=number,
                )


def _draw(file: Path, number: int) -> None:
    """Write an image of random pixels; its number determines mode and size."""
    mode = MODES[number % len(MODES)]
    height, width = 40 + 7 * (number % 5), 30 + 11 * (number % 4)
    if mode == "I;16":
        gray = np.random.randint(0, 2**16, (height, width)).astype(np.uint16)
        image = Image.fromarray(gray)
    else:
        colour = np.random.randint(0, 256, (height, width, 3)).astype(np.uint8)
        image = Image.fromarray(colour).convert(mode)
    image.save(file)
