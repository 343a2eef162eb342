"""The check of the disk: speed and space for a run.

Owns the measurement and its limits. Must not know how a run is written.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from xenon_mx.config import TrainConfig
from xenon_mx.diagnosis import records
from xenon_mx.diagnosis.finding import Finding, Teller
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.errors import os_error
from xenon_mx.models import net_size, network
from xenon_mx.runs import disk
from xenon_mx.runtime import disk_space, text
from xenon_mx.training import optimizers

# Chosen here: more than the small caches of disks, and no more than some seconds.
_CHUNK, _CHUNKS, _MOST_S = 8 << 20, 16, 5.0
# Chosen here: after each epoch, training waits while checkpoint and state are saved.
_MOST_SAVE_S = 10.0
# Chosen here: how much faster than training records should be read.
_RESERVE = 2.0


def check(subject: Subject, teller: Teller, bytes_per_s: float | None) -> None:
    """Write and read a file, and compare with what a run needs.

    Args:
        subject: Its net decides how much is saved.
        teller: Receives what is found.
        bytes_per_s: How fast training reads records; None if it is not known.

    Raises:
        XenonError: The file cannot be written.
    """
    net, _ = network.build_uninitialized(subject.model)
    total, trainable = net_size.count_bytes(net)
    moments = optimizers.MOMENTS_PER_PARAM * trainable
    epoch = 2 * total + moments  # the checkpoint, and the state with weights of its own
    file = Path(subject.folder) / "speed"
    try:
        teller.doing("writing to the disk")
        written = write_speed(file)
        teller.doing("reading from the disk")
        read = read_speed(file)
        file.unlink()
    except OSError as error:
        raise os_error(error.filename or file, error) from error
    teller.found(saving(epoch, written))
    teller.found(reading(read, bytes_per_s))
    needed = disk.needed(total, moments, TrainConfig.epochs)
    teller.found(space(needed, disk_space.free(Path(subject.folder))))


def saving(epoch: int, speed: float) -> Finding:
    """Return whether the bytes of an epoch are saved in time, at bytes per second."""
    seen = (
        f"{text.format_bytes(speed)}/s written: the {text.format_bytes(epoch)} of an "
        f"epoch take {epoch / speed:.1f} s (limit {_MOST_SAVE_S:.0f})"
    )
    wrong = "" if epoch / speed <= _MOST_SAVE_S else "put RUN on a faster disk"
    return Finding("disk, saving", seen, wrong)


def reading(speed: float, wanted: float | None) -> Finding:
    """Return whether records are read in time, all in bytes per second."""
    seen = f"{text.format_bytes(speed)}/s read"
    if wanted is None:
        return Finding("disk, reading", f"{seen} (not compared: no training)")
    seen += f", and training takes {text.format_bytes(wanted)}/s"
    wrong = ""
    if speed < _RESERVE * wanted:
        wrong = "the devices will wait for images: put PACKED on a faster disk"
    return Finding("disk, reading", seen, wrong)


def space(needed: int, free: int) -> Finding:
    """Return whether the disk has room for a run, in bytes."""
    seen = (
        f"a run needs up to {text.format_bytes(needed)}, and "
        f"{text.format_bytes(free)} are free"
    )
    wrong = "" if needed <= free else "free some, or name a RUN on another disk"
    return Finding("disk, space", seen, wrong)


def write_speed(file: Path) -> float:
    """Write a file to the disk itself; return bytes per second."""
    chunk = os.urandom(_CHUNK)  # nothing that a disk could compress
    start, size = time.perf_counter(), 0
    with open(file, "xb", buffering=0) as stream:
        for _ in range(_CHUNKS):
            size += stream.write(chunk)
            os.fsync(stream.fileno())
            if time.perf_counter() - start > _MOST_S:
                break
    return size / (time.perf_counter() - start)


def read_speed(file: Path) -> float:
    """Read a file past the operating system's cache; return bytes per second."""
    records.forget(file)
    start = time.perf_counter()
    with open(file, "rb", buffering=0) as stream:
        size = sum(len(part) for part in iter(lambda: stream.read(_CHUNK), b""))
    return size / (time.perf_counter() - start)
