"""log.csv: a row per finished epoch.

Owns its columns and their format. Must not know the other files of a run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Sequence

from xenon_mx.errors import XenonError, os_error

LOG_CSV = "log.csv"


class EpochRecord(NamedTuple):
    """A row of log.csv.

    Attributes:
        epoch: Number of the epoch, from 1.
        train_loss: Mean over the training images, each with the weights of its step.
        val_loss: Mean over all validation images, after the epoch.
        kappa: Cohen's kappa over the validation studies, at a threshold of 0.5.
        auroc: AUROC over the validation studies.
        lr: Learning rate of the epoch.
        images_per_s: Training images per second, without validation.
        wait_share: Share of the training time spent waiting for images.
        seconds: Duration of the epoch, validation included.
    """

    epoch: int
    train_loss: float
    val_loss: float
    kappa: float
    auroc: float
    lr: float
    images_per_s: float
    wait_share: float
    seconds: float


def parse(row: Sequence[Any]) -> EpochRecord:
    """Parse the values of a row; IndexError, TypeError or ValueError if not valid."""
    return EpochRecord(int(row[0]), *map(float, row[1:]))


_HEADER = ",".join(EpochRecord._fields)


def encode(epochs: Sequence[EpochRecord]) -> bytes:
    """Return the bytes of log.csv: numbers with nine significant digits."""
    rows = [",".join(f"{value:.9g}" for value in epoch) for epoch in epochs]
    return "".join(f"{line}\n" for line in (_HEADER, *rows)).encode()


def read(path: Path) -> list[EpochRecord]:
    """Read log.csv.

    Raises:
        XenonError: The file is missing, or not as training wrote it.
    """
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    except OSError as error:
        raise os_error(path, error) from error
    except UnicodeDecodeError as error:
        raise XenonError(f"{path}: damaged: {error}") from error
    if header != _HEADER:
        raise XenonError(f"{path}: damaged: not the header of xenon-train's log")
    try:
        return [parse(line.split(",")) for line in lines]
    except (TypeError, ValueError) as error:
        raise XenonError(f"{path}: damaged: {error}") from error
