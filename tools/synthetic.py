"""Small data sets for tests, packed directly from arrays, with known pixels."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Sequence

import cv2
import numpy as np

from xenon_mx import __version__
from xenon_mx.data import images, mura, pack_meta, pack_writer, packed_folder


def blobs(count: int, size: int = 32, seed: int = 0) -> np.ndarray:
    """Draw smooth noise, (N, S, S) uint8, all images different."""
    rng = np.random.RandomState(seed)
    noise = rng.randint(0, 256, (count, size, size)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(n, (0, 0), 3) for n in noise]).astype(np.uint8)


def labelled(count: int, size: int = 32, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    """Draw images and labels; every other image has a bright square and label 1."""
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
    """Assign images to pairs of studies, one of each label, cycling through the types.

    Args:
        labels: Of the images; they alternate.
        split: The split's name, for the paths.
        types: The study types.
        views: Images per study.
    """
    rows = []
    for number, label in enumerate(labels):
        pair = number // (2 * views)
        study_type = pair % len(types)
        study = 2 * pair + label
        end = ("negative", "positive")[label]
        path = (
            f"MURA-v1.1/{split}/{types[study_type]}/patient{study:05d}/study1_{end}/"
            f"image{number + 1}.png"
        )
        rows.append(packed_folder.RecordLabels(label, study_type, study, path))
    return rows


def pack(
    folder: Path,
    splits: dict[str, tuple[np.ndarray, Sequence[int]]],
    types: Sequence[str] = ("XR_A", "XR_B"),
    views: int = 2,
) -> packed_folder.PackedFolder:
    """Write a packed folder of lossless images, in the order given.

    Args:
        folder: The packed folder.
        splits: Name to pixels and labels, which alternate as those of `labelled`.
        types: The study types.
        views: Images per study.
    """
    with pack_writer.PackTransaction(folder, overwrite=False) as out:
        summaries = {}
        parsed = {}
        for name, (pixels, labels) in splits.items():
            rows = rows_of(labels, name, types, views)
            parsed[name] = [mura.parse(row.path, Path(row.path)) for row in rows]
            counts = {
                study_type: pack_meta.TypeCounts(**asdict(counts), missing=0)
                for study_type, counts in mura.count(parsed[name]).items()
            }
            with pack_writer.SplitWriter(out.folder, name) as writer:
                for image, row in zip(pixels, rows):
                    writer.add(images.encode(image, "png", 0), row)
                summaries[name] = writer.summary(counts)
        train = parsed.get("train", [])
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
