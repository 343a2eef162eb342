"""What tests share: one seed for all, and a tiny data set laid out like MURA."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Callable, Iterator, Sequence

import numpy as np
import pytest
from PIL import Image

import xenon_mx.runtime.opencv  # noqa: F401 - before a test imports cv2: it sets its limits

SEED = int(os.environ.get("XENON_TEST_SEED", "20180522"))

TYPES = ("XR_WRIST", "XR_ELBOW", "XR_HAND")  # in no order, as in MURA's CSVs
MODES = ("L", "RGB", "RGBA", "I;16", "P", "LA")

MuraTree = Callable[..., Path]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Give every test the same random numbers, whatever ran before it."""
    random.seed(SEED)
    np.random.seed(SEED % 2**32)


@pytest.fixture
def mura_tree(tmp_path: Path) -> MuraTree:
    """Give a function that writes a data set and returns its root.

    Each study type has `patients` training patients and half as many (at least two)
    for validation, of one or two studies of one to four views. Patients are abnormal
    and normal in turn; images differ in mode and size.
    """

    def make(
        name: str = "MURA-v1.1",
        types: Sequence[str] = TYPES,
        patients: int = 4,
        csvs: bool = True,
    ) -> Path:
        root = tmp_path / name
        for split, count, first in (
            ("train", patients, 1),
            ("valid", max(2, patients // 2), 11185),
        ):
            studies = list(_studies(split, types, range(first, first + count)))
            images = [f"{s}image{i + 1}.png" for s, n in studies for i in range(n)]
            for number, image in enumerate(images):
                _draw(root / image, number)
            if csvs:
                listed = "".join(f"MURA-v1.1/{image}\n" for image in images)
                labels = "".join(
                    f"MURA-v1.1/{s},{int('positive' in s)}\n" for s, _ in studies
                )
                (root / f"{split}_image_paths.csv").write_text(listed)
                (root / f"{split}_labeled_studies.csv").write_text(labels)
        return root

    return make


def _studies(
    split: str, types: Sequence[str], patients: Sequence[int]
) -> Iterator[tuple[str, int]]:
    """Yield each study's folder and its number of views."""
    for kind in types:
        for patient in patients:
            label = ("negative", "positive")[patient % 2]
            for study in range(1, 2 + patient % 3 // 2):
                views = 1 + (patient + study + len(kind)) % 4
                folder = f"{split}/{kind}/patient{patient:05d}/study{study}_{label}/"
                yield folder, views


def _draw(file: Path, number: int) -> None:
    """Write an image of random pixels; its number chooses mode and size."""
    mode = MODES[number % len(MODES)]
    height, width = 40 + 7 * (number % 5), 30 + 11 * (number % 4)
    if mode == "I;16":
        gray = np.random.randint(0, 2**16, (height, width)).astype(np.uint16)
        image = Image.fromarray(gray)
    else:
        colour = np.random.randint(0, 256, (height, width, 3)).astype(np.uint8)
        image = Image.fromarray(colour).convert(mode)
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)
