"""The check that images are decoded as fast as the devices take them.

Owns which `--threads` to use. Must not know nets.
"""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator

from xenon_mx.data import packed_folder, record_iter
from xenon_mx.diagnosis.finding import Finding, Teller
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.runtime import text
from xenon_mx.runtime.threads import usable_cores

# Chosen here: how much faster decoding should be, because its rate varies from batch to
# batch, and takes turns with the step on the processor.
_RESERVE = 1.25
_LEAST_S = 1.0  # chosen here: of measuring each number of threads
_BATCH_SIZE = (
    16  # chosen here: decoding is as fast with any, and small ones end on time
)


def check(subject: Subject, teller: Teller, images_per_s: float) -> None:
    """Measure decoding with more and more threads until it is fast enough.

    Args:
        subject: Its packed folder is read.
        teller: Receives what is found.
        images_per_s: The rate at which the devices train.
    """
    split = packed_folder.open_packed(subject.large).split("train")
    most = usable_cores()
    threads, rate = 1, 0.0
    while True:
        teller.doing(f"decoding with --threads {threads}")
        # More threads can be slower, where the processor has not as many cores.
        rate = max(rate, measure(split, threads))
        if rate >= _RESERVE * images_per_s or threads == most:
            break
        threads = min(2 * threads, most)
    seen = (
        f"{text.format_rate(rate)} img/s with {threads} of {most} cores, and training "
        f"takes {text.format_rate(images_per_s)}: use --threads {threads}"
    )
    wrong = ""
    if rate < _RESERVE * images_per_s:
        wrong = (
            "the devices will wait for images: use a computer with more cores, or pack "
            "at a smaller --size"
        )
    teller.found(Finding("decoding", seen, wrong))


def measure(split: packed_folder.Split, threads: int) -> float:
    """Return how many images per second are decoded, rotated and flipped.

    Each thread reads all records again and again, whatever the batch size of the
    training, because the parts of so few records would be over before all threads have
    begun. The clock starts when each has decoded its first batch.
    """
    with ThreadPoolExecutor(threads) as pool:
        readers = pool.map(lambda number: _begun(split, number), range(threads))
        return sum(pool.map(_rate, list(readers)))


def _rate(batches: Iterator[record_iter.Batch]) -> float:
    images, start = 0, time.perf_counter()
    while True:
        images += len(next(batches).pixels)
        passed = time.perf_counter() - start
        if passed >= _LEAST_S:
            return images / passed


def _begun(split: packed_folder.Split, seed: int) -> Iterator[record_iter.Batch]:
    batches = _endless(split, seed)
    next(batches)
    return batches


def _endless(split: packed_folder.Split, seed: int) -> Iterator[record_iter.Batch]:
    for epoch in itertools.count(1):
        yield from record_iter.training_batches(split, _BATCH_SIZE, seed, epoch)
