"""MXNet's ImageRecordIter, tamed: batches for training and for evaluation.

Owns the loader and its traps. Knows no nets and no loss. What comes out are copies in
NumPy: MXNet writes its next batches into the arrays of the last ones.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import Any, Iterator, NamedTuple

import numpy as np

from xenon_mx.data.packed_folder import Split
from xenon_mx.data.recordio import LABELS
from xenon_mx.errors import XenonError
from xenon_mx.runtime import threads as parallel
from xenon_mx.runtime.mxnet import mx

MAX_ROTATION_DEGREES = 30  # the paper, section 3: rotations of up to 30 degrees


class Batch(NamedTuple):
    """Images and their labels.

    Attributes:
        pixels: (N, S, S) uint8, gray.
        labels: (N, 3) float32: abnormal, study type, study.
    """

    pixels: np.ndarray
    labels: np.ndarray


class Part(NamedTuple):
    """Which part of a split one of several workers trains on."""

    rank: int
    workers: int


WHOLE = Part(0, 1)


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """A seed for one epoch of one worker of one run: a hash, so that none share one.

    Returns:
        31 bits, what MXNet's seeds hold.
    """
    text = f"{seed},{epoch},{rank}" if rank else f"{seed},{epoch}"
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def steps(split: Split, batch_size: int, workers: int = 1, threads: int = 1) -> int:
    """Count the training batches of an epoch: whole ones, or the one there is.

    With several workers, as many as the smallest part has, for each of them: one that
    went on alone would wait for the others for ever.

    Args:
        split: What is to be read.
        batch_size: Images a batch.
        workers: How many read the split together.
        threads: How many threads each of them decodes with.

    Raises:
        XenonError: There are too few images for so many workers.
    """
    threads, batches = _cut(split, batch_size, workers, threads)
    return threads * batches


def _cut(split: Split, batch_size: int, workers: int, threads: int) -> tuple[int, int]:
    """Give each worker's parts, one a thread, and the whole batches of every part.

    Fewer parts than threads, where they would be smaller than a batch.
    """
    for parts in range(threads, 0, -1):
        batches = _smallest(split.records, workers * parts) // batch_size
        if batches > 0:
            return parts, batches
    if workers == 1:
        return 1, 1
    raise XenonError(
        f"{split.path('rec')}: {split.records} images are too few for {workers} "
        f"workers with batches of {batch_size}"
    )


def _smallest(records: int, parts: int) -> int:
    """Count the records of the last part, by MXNet's way to cut; it has the rest."""
    return records - (parts - 1) * -(-records // parts)


def training_batches(
    split: Split,
    batch_size: int,
    seed: int,
    epoch: int,
    threads: int = 1,
    part: Part = WHOLE,
) -> Iterator[Batch]:
    """Give an epoch in random order, flipped and rotated at random.

    A fresh iterator each epoch, shuffled by (seed, epoch), makes any epoch
    reproducible by itself. The stream of angles and flips is the same each epoch
    (MXNet has no seed for it that varies), but the images meet it in another order.

    Args:
        split: A verified split.
        batch_size: Images a batch. The ragged last batch of each part is left out,
            another set of images each epoch, unless the split is smaller than a batch.
        seed: The run's seed.
        epoch: Counted from 1.
        threads: How many threads decode. Each has a part of the records of its own,
            with the same stream of angles and flips, and gives every n-th batch, so
            that an epoch repeats bit by bit whatever their number; other numbers give
            other epochs.
        part: What this worker trains on: consecutive records.
    """
    threads, each = _cut(split, batch_size, part.workers, threads)
    readers = []
    for number in range(part.rank * threads, (part.rank + 1) * threads):
        iterator = _iterator(
            split,
            batch_size=min(batch_size, split.records),
            preprocess_threads=1,  # with more, which image meets which angle is a race
            shuffle=True,
            seed=epoch_seed(seed, epoch, number),
            num_parts=part.workers * threads,
            part_index=number,
            rand_mirror=True,
            max_rotate_angle=MAX_ROTATION_DEGREES,  # whole degrees; MXNet takes an int
            fill_value=0,  # black; MXNet's default is white corners
        )
        # Read ahead by a thread of our own: on a CPU context MXNet's hand-over of a
        # batch waits for the step that is still being computed.
        readers.append(parallel.prefetch(_copies(iterator, each)))
    return itertools.chain.from_iterable(zip(*readers))


def _copies(iterator: Any, number: int) -> Iterator[Batch]:
    for _ in range(number):
        yield _copy(next(iterator))


def evaluation_batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """Give every image of a split once, in record order, as it was packed.

    The last batch is cut to what is left: MXNet fills it up with other images, and
    neither its `pad` nor `round_batch=False` can be trusted to say so.
    """
    batch_size = min(batch_size, split.records)
    iterator = _iterator(
        split, batch_size=batch_size, preprocess_threads=1, shuffle=False
    )

    def batches() -> Iterator[Batch]:
        for left in range(split.records, 0, -batch_size):
            batch = _copy(next(iterator))
            yield Batch(batch.pixels[:left], batch.labels[:left])

    return parallel.prefetch(batches())


def _iterator(split: Split, **options: Any) -> Any:
    split.verify_unchanged()  # a file that is gone is a segmentation fault
    iterator = mx.io.ImageRecordIter(
        path_imgrec=str(split.path("rec")),
        path_imgidx=str(split.path("idx")),
        data_shape=(1, split.size, split.size),
        label_width=LABELS,
        dtype="uint8",  # normalised by the net's own door, see models.normalise
        prefetch_buffer=1,  # a fresh iterator leaks what it has prefetched
        round_batch=True,
        verbose=False,
        **options,
    )
    split.verify_unchanged()  # MXNet has opened what was verified, and keeps it open
    return iterator


def _copy(batch: Any) -> Batch:
    return Batch(batch.data[0].asnumpy()[:, 0], batch.label[0].asnumpy())
