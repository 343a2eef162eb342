"""Batches for training and evaluation, by MXNet's ImageRecordIter.

Owns the iterator and the workarounds for its pitfalls; must not know nets or the loss.
Batches are copied to NumPy: MXNet writes later batches into the same arrays.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import Any, Iterator, NamedTuple

import numpy as np

from xenon_mx.data.packed_folder import Split
from xenon_mx.data.recordio import LABEL_WIDTH
from xenon_mx.errors import XenonError
from xenon_mx.runtime import text
from xenon_mx.runtime.mxnet import mx
from xenon_mx.runtime.threads import prefetch

MAX_ROTATION_DEGREES = 30  # the paper, section 3: rotations of up to 30 degrees


class Batch(NamedTuple):
    """A batch of images with their labels.

    Attributes:
        pixels: (N, S, S) uint8, gray.
        labels: (N, 3) float32: abnormal, study type, study.
    """

    pixels: np.ndarray
    labels: np.ndarray


class Part(NamedTuple):
    """The part of a split that one of several workers, or of their threads, reads."""

    rank: int
    workers: int


WHOLE = Part(0, 1)


def epoch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """Return the seed of one worker's epoch: a hash, so that no two epochs share one.

    Returns:
        An integer of 31 bits, the size of MXNet's seeds.
    """
    text = f"{seed},{epoch},{rank}" if rank else f"{seed},{epoch}"
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def steps_per_epoch(
    split: Split, batch_size: int, workers: int = 1, threads: int = 1
) -> int:
    """Count each worker's training batches per epoch.

    Only whole batches, unless the split is smaller than a batch. All workers have as
    many as the smallest part: a worker with more would wait forever for the others.

    Args:
        split: The split to read.
        batch_size: Images per batch.
        workers: Number of workers that read the split together.
        threads: Decoding threads per worker.

    Raises:
        XenonError: There are too few images for so many workers.
    """
    threads, batches = _partition(split, batch_size, workers, threads)
    return threads * batches


def _partition(
    split: Split, batch_size: int, workers: int, threads: int
) -> tuple[int, int]:
    """Return the parts per worker, one per thread, and the whole batches per part.

    There are fewer parts than threads if parts would be smaller than a batch.
    """
    for parts in range(threads, 0, -1):
        batches = _smallest_part(split.records, workers * parts) // batch_size
        if batches > 0:
            return parts, batches
    if workers == 1:
        return 1, 1
    raise XenonError(
        f"{split.path('rec')}: "
        f"{text.counted(split.records, 'image is', 'images are')} too few for "
        f"{text.counted(workers, 'worker')} with batches of {batch_size}"
    )


def _smallest_part(records: int, parts: int) -> int:
    """Count the records of the last part: MXNet gives it what the others leave."""
    return records - (parts - 1) * -(-records // parts)


def training_batches(
    split: Split,
    batch_size: int,
    seed: int,
    epoch: int,
    threads: int = 1,
    part: Part = WHOLE,
) -> Iterator[Batch]:
    """Return the batches of one epoch, shuffled, and flipped and rotated at random.

    A new iterator per epoch, shuffled by (seed, epoch), makes each epoch reproducible
    by itself. The sequence of angles and flips is the same in each epoch (MXNet has no
    seed for it that varies), but it is applied to the images in another order.

    Args:
        split: A verified split.
        batch_size: Images per batch. The incomplete last batch of each part, with other
            images in each epoch, is dropped, unless the split is smaller than a batch.
        seed: The run's seed.
        epoch: Counted from 1.
        threads: Number of decoding threads. Each reads a separate part of the records,
            with the same sequence of angles and flips, and yields every n-th batch. For
            a given number, an epoch is reproducible to the bit; other numbers yield
            other epochs.
        part: This worker's part: consecutive records.
    """
    threads, batches = _partition(split, batch_size, part.workers, threads)
    readers = []
    for number in range(part.rank * threads, (part.rank + 1) * threads):
        iterator = _training_iterator(
            split,
            batch_size,
            seed=epoch_seed(seed, epoch, number),
            part=Part(number, part.workers * threads),
        )
        # Prefetched by a Python thread: in a CPU context, fetching a batch from MXNet
        # waits for the step that is still being computed.
        readers.append(prefetch(_copies(iterator, batches)))
    return itertools.chain.from_iterable(zip(*readers))


def _training_iterator(split: Split, batch_size: int, seed: int, part: Part) -> Any:
    return _iterator(
        split,
        batch_size=min(batch_size, split.records),
        preprocess_threads=1,  # with more, a race decides each image's angle
        shuffle=True,
        seed=seed,
        num_parts=part.workers,
        part_index=part.rank,
        rand_mirror=True,
        max_rotate_angle=MAX_ROTATION_DEGREES,  # whole degrees: an int in MXNet
        fill_value=0,  # black; MXNet's default makes the corners white
    )


def _copies(iterator: Any, number: int) -> Iterator[Batch]:
    for _ in range(number):
        yield _copy(next(iterator))


def evaluation_batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """Return batches of every image of a split once, unchanged and in record order.

    The last batch is cut to the images that are left: MXNet fills it with other images,
    and neither its `pad` nor `round_batch=False` is reliable.
    """
    batch_size = min(batch_size, split.records)
    iterator = _iterator(
        split, batch_size=batch_size, preprocess_threads=1, shuffle=False
    )

    def batches() -> Iterator[Batch]:
        for left in range(split.records, 0, -batch_size):
            batch = _copy(next(iterator))
            yield Batch(batch.pixels[:left], batch.labels[:left])

    return prefetch(batches())


def _iterator(split: Split, **options: Any) -> Any:
    split.verify_unchanged()  # MXNet crashes on a missing file (segmentation fault)
    iterator = mx.io.ImageRecordIter(
        path_imgrec=str(split.path("rec")),
        path_imgidx=str(split.path("idx")),
        data_shape=(1, split.size, split.size),
        label_width=LABEL_WIDTH,
        dtype="uint8",  # normalised by models.network.normalise
        prefetch_buffer=1,  # a new iterator per epoch leaks its prefetched batches
        round_batch=True,
        verbose=False,
        **options,
    )
    split.verify_unchanged()  # MXNet has opened the verified files and keeps them open
    return iterator


def _copy(batch: Any) -> Batch:
    return Batch(batch.data[0].asnumpy()[:, 0], batch.label[0].asnumpy())
