"""The check that images are decoded as fast as the devices take them.

Owns which `--threads` to use. Must not know nets.
"""

from __future__ import annotations

import time

from xenon_mx.data import packed_folder, record_iter
from xenon_mx.diagnosis.finding import Finding, Teller
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.runtime.threads import usable_cores

# Chosen here: how much faster decoding should be, because its rate varies from batch to
# batch, and takes turns with the step on the processor.
_RESERVE = 1.25
_LEAST_S = 1.0  # chosen here: of measuring each number of threads


def check(subject: Subject, teller: Teller, images_per_s: float) -> None:
    """Measure decoding with more and more threads until it is fast enough.

    Args:
        subject: Its packed folder is read.
        teller: Receives what is found.
        images_per_s: The rate at which the devices train.
    """
    split = packed_folder.open_packed(subject.large).split("train")
    most = min(usable_cores(), split.records // subject.batch_size or 1)
    threads, rate = 1, 0.0
    while True:
        teller.doing(f"decoding with --threads {threads}")
        # More threads can be slower, where the processor has not as many cores.
        rate = max(rate, measure(split, subject.batch_size, threads))
        if rate >= _RESERVE * images_per_s or threads == most:
            break
        threads = min(2 * threads, most)
    seen = (
        f"{rate:.0f} img/s with {threads} of {usable_cores()} cores, and training "
        f"takes {images_per_s:.3g}: use --threads {threads}"
    )
    wrong = ""
    if rate < _RESERVE * images_per_s:
        wrong = (
            "the devices will wait for images: use a computer with more cores, or pack "
            "at a smaller --size"
        )
    teller.found(Finding("decoding", seen, wrong))


def measure(split: packed_folder.Split, batch_size: int, threads: int) -> float:
    """Return how many images per second are decoded, rotated and flipped."""
    images, epoch, start = 0, 0, time.perf_counter()
    while time.perf_counter() - start < _LEAST_S:
        epoch += 1
        batches = record_iter.training_batches(split, batch_size, 0, epoch, threads)
        images += sum(len(batch.pixels) for batch in batches)
    return images / (time.perf_counter() - start)
