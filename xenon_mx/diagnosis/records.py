"""The check that records are read alike twice, past the operating system's cache.

Owns both readings: of the files, and of MXNet's iterator. Must not know nets.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Iterable

from xenon_mx.data import packed_folder, record_iter
from xenon_mx.diagnosis.finding import Finding, Teller
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.runtime import text

_WRONG = (
    "they differ between two readings: the disk, its cable or the memory of this "
    "computer is not reliable; test them before any training"
)


def check(subject: Subject, teller: Teller) -> None:
    """Read records and batches twice, and tell whether the bytes are the same."""
    teller.doing("reading the records twice")
    rec = subject.large / "train.rec"
    sums = []
    for _ in range(2):
        forget(rec)
        sums.append(hashlib.sha256(rec.read_bytes()).hexdigest())
    split = packed_folder.open_packed(subject.large).split("train")
    recorded = split.files[rec.name].sha256
    seen = f"{text.format_bytes(rec.stat().st_size)} read twice, as packed"
    is_same = sums == [recorded, recorded]
    teller.found(Finding("records", seen, "" if is_same else _WRONG))

    teller.doing("decoding an epoch twice")
    epochs = [
        _digest(record_iter.training_batches(split, subject.batch_size, 0, epoch=1))
        for _ in range(2)
    ]
    steps = record_iter.steps_per_epoch(split, subject.batch_size)
    images = steps * min(subject.batch_size, split.records)
    seen = f"{text.counted(images, 'image')} rotated and flipped, decoded twice alike"
    wrong = "" if epochs[0] == epochs[1] else _WRONG
    teller.found(Finding("batches", seen, wrong))


def forget(file: Path) -> None:
    """Drop a file from the operating system's cache, so that the disk is read."""
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _digest(batches: Iterable[record_iter.Batch]) -> str:
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(batch.pixels.tobytes())
        digest.update(batch.labels.tobytes())
    return digest.hexdigest()
