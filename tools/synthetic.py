"""Small data sets for tests: packed straight from arrays, with known pixels."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Sequence

import cv2
import numpy as np

from xenon_mx import __version__
from xenon_mx.data import images, mura, pack_meta, pack_writer, packed_folder


def blobs(count: int, size: int = 32, seed: int = 0) -> np.ndarray:
    """Draw (N, S, S) uint8 smooth noise, no two images alike."""
    rng = np.random.RandomState(seed)
    noise = rng.randint(0, 256, (count, size, size)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(n, (0, 0), 3) for n in noise]).astype(np.uint8)


def labelled(count: int, size: int = 32, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    """Draw images of which every other one has a bright square: label 1."""
    pixels = blobs(count, size, seed)
    rng = np.random.RandomState(seed + 1)
    labels = [i % 2 for i in range(count)]
    for image, label in zip(pixels, labels):
        if label:
            y, x = rng.randint(size // 4, size // 2, 2)
            image[y : y + size // 4, x : x + size // 4] = 255
    return pixels, labels


def rows_of(
    labels: Sequence[int], split: str, types: Sequence[str], views: int
) -> list[packed_folder.RecordLabels]:
    """Make two studies, one of each label, of a number of views; then the next type."""
    rows = []
    for number, label in enumerate(labels):
        group = number // (2 * views)
        kind = group % len(types)
        study = 2 * group + label
        end = ("negative", "positive")[label]
        path = (
            f"MURA-v1.1/{split}/{types[kind]}/patient{study:05d}/study1_{end}/"
            f"image{number + 1}.png"
        )
        rows.append(packed_folder.RecordLabels(label, kind, study, path))
    return rows


def pack(
    folder: Path,
    splits: dict[str, tuple[np.ndarray, Sequence[int]]],
    types: Sequence[str] = ("XR_A", "XR_B"),
    views: int = 2,
) -> packed_folder.PackedFolder:
    """Write a packed folder of lossless images, in the order given.

    Labels alternate, as `labelled` gives them.
    """
    with pack_writer.PackTransaction(folder, overwrite=False) as out:
        summaries = {}
        listed = {}
        for name, (pixels, labels) in splits.items():
            rows = rows_of(labels, name, types, views)
            listed[name] = [mura.parse(row.path, Path(row.path)) for row in rows]
            counts = {
                study_type: pack_meta.TypeCounts(**asdict(counts), missing=0)
                for study_type, counts in mura.count(listed[name]).items()
            }
            with pack_writer.SplitWriter(out.folder, name) as writer:
                for image, row in zip(pixels, rows):
                    writer.add(images.encode(image, "png", 0), row)
                summaries[name] = writer.summary(counts)
        train = listed.get("train", [])
        meta = pack_meta.PackMeta(
            xenon=__version__,
            size=int(next(iter(splits.values()))[0].shape[1]),
            fit="stretch",
            encoding="png",
            quality=None,
            seed=0,
            holdout=0.0,
            source_sha256=None,
            study_types=tuple(types),
            weights={t: counts.weights for t, counts in mura.count(train).items()},
            pooled_weights=mura.count_all(train).weights if train else None,
            splits=summaries,
            skipped=(),
        )
        return out.commit(meta)
