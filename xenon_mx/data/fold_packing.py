"""The packed folder of one fold: records of another packed folder, copied.

Owns which splits are pooled, and the copying: images are neither decoded nor encoded
again. Must not know how patients fall into folds, runs or nets.

What is written is a packed folder like any other: `train`, `holdout` (which tunes) and
`valid` (what the fold leaves out).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from xenon_mx import __version__
from xenon_mx.data import manifest, mura, pack_meta, pack_writer, packed_folder
from xenon_mx.data.folds import Fold, Pooled
from xenon_mx.data.pack_meta import KINDS, MANIFEST
from xenon_mx.data.packed_folder import (
    PACK_JSON,
    SPLITS,
    PackedFolder,
    RecordLabels,
    Split,
)
from xenon_mx.data.recordio import Record
from xenon_mx.errors import XenonError
from xenon_mx.runtime import progress

# The splits of training patients; that of a holdout is one of each fold's own.
_POOLED = ("train", "holdout")


@dataclass(frozen=True)
class Pool:
    """The training images of a packed folder, in the order of training records.

    Attributes:
        packed: The packed folder.
        splits: The splits that hold them, verified.
        images: The images.
    """

    packed: PackedFolder
    splits: Mapping[str, Split]
    images: list[Pooled]

    @classmethod
    def open(cls, packed: PackedFolder) -> Pool:
        """Verify and list the training images of a packed folder.

        Raises:
            XenonError: It holds none, or is damaged.
        """
        if "train" not in packed.splits:
            raise XenonError(f"{packed.folder}: holds no train split to train on")
        names = [name for name in _POOLED if name in packed.splits]
        splits = {name: packed.split(name) for name in names}
        images = [
            Pooled(image, name, number)
            for name, split in splits.items()
            for number, image in enumerate(split.listed())
        ]
        if len(names) > 1:  # as they were packed without a holdout
            seed = packed.meta.seed or 0
            images = mura.shuffled(images, lambda each: each.image.path, seed)
        return cls(packed, splits, images)

    @property
    def bytes(self) -> int:
        """Return the bytes that a copy of all images takes."""
        of_splits = (split.files.values() for split in self.splits.values())
        return sum(file.bytes for files in of_splits for file in files)


def write(
    pool: Pool, fold: Fold, out: Path, bar: progress.Bar = progress.silent
) -> PackedFolder:
    """Write the packed folder of a fold.

    The same pool and fold give the same bytes, and so the same fingerprint.

    Args:
        pool: The images.
        fold: What they are for.
        out: The packed folder; what is left there of one is replaced.
        bar: Shows the records done.

    Raises:
        XenonError: A record is damaged, or the disk is full.
    """
    parts = {"train": fold.train, "valid": fold.left_out, "holdout": fold.tuning}
    with contextlib.ExitStack() as stack:
        read = {
            name: stack.enter_context(split.opened())
            for name, split in pool.splits.items()
        }
        transaction = stack.enter_context(pack_writer.PackTransaction(out, True))
        shown = bar(total=len(pool.images), unit="img", desc=f"fold {fold.number}")
        progress_bar = stack.enter_context(shown)
        types = pool.packed.study_types
        summaries = {}
        for name, listed in parts.items():
            with pack_writer.SplitWriter(transaction.folder, name) as writer:
                _copy(writer, listed, types, read, progress_bar)
                summaries[name] = writer.summary(_counts(listed))
        return transaction.commit(_describe(pool, fold, summaries))


def open_if_whole(folder: Path) -> PackedFolder | None:
    """Open a fold's packed folder; None if it is not there, or is not whole."""
    try:
        packed = packed_folder.open_packed(folder)
        for name in packed.splits:
            packed.split(name)
    except XenonError:
        return None
    return packed


def remove(folder: Path) -> None:
    """Remove a packed folder, pack.json first; other files in it are left."""
    names = [f"{split}.{kind}" for split in SPLITS for kind in (*KINDS, MANIFEST)]
    for name in (PACK_JSON, *names):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (folder / name).unlink()
    with contextlib.suppress(OSError):  # not empty, or not there
        os.rmdir(folder)


def _copy(
    writer: pack_writer.SplitWriter,
    listed: Sequence[Pooled],
    types: Sequence[str],
    read: Mapping[str, Callable[[int], Record]],
    progress_bar: Any,
) -> None:
    """Append the records of images, their studies numbered anew."""
    studies = {
        study: number
        for number, study in enumerate(dict.fromkeys(e.image.study for e in listed))
    }
    for image, split, number in listed:
        labels = RecordLabels(
            abnormal=int(image.label or 0),
            study_type=types.index(image.study_type),
            study=studies[image.study],
            path=image.path,
        )
        writer.add(read[split](number).image, labels)
        progress_bar.update()
    images = [each.image for each in listed]
    if not all(map(mura.is_told_by_path, images)):
        writer.add_manifest(manifest.to_csv(images))


def _counts(listed: Sequence[Pooled]) -> dict[str, pack_meta.TypeCounts]:
    counts = mura.count([each.image for each in listed])
    return {
        name: pack_meta.TypeCounts(**asdict(of_type), missing=0)
        for name, of_type in counts.items()
    }


def _describe(
    pool: Pool, fold: Fold, summaries: Mapping[str, pack_meta.SplitMeta]
) -> pack_meta.PackMeta:
    """Return the pack.json of a fold, which names its source by the fingerprint."""
    train = [each.image for each in fold.train]
    meta = pool.packed.meta
    rules = meta.images_from
    return replace(
        meta,
        xenon=__version__,
        holdout=None,
        calibration=0.0,
        source_sha256=pool.packed.fingerprint,
        weights={name: counts.weights for name, counts in mura.count(train).items()},
        pooled_weights=mura.count_all(train).weights,
        splits=summaries,
        skipped=(),
        images_from=rules and dict.fromkeys(summaries, rules["train"]),
    )
