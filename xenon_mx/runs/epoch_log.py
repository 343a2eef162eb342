"""log.csv: a row per finished epoch.

Owns its columns and their format. Must not know the other files of a run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Sequence

from xenon_mx.errors import XenonError, os_error
from xenon_mx.runtime import json_numbers

LOG_CSV = "log.csv"


class EpochRecord(NamedTuple):
    """A row of log.csv.

    Of a net that was not trained here there is one row, of epoch 0, in which NaN stands
    for what only training has.

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
        finished: Unix time at which the epoch was finished, s; None in a row of xenon
            0.1.0, which did not record it.
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
    finished: float | None = None


_COLUMNS = EpochRecord._fields
_COLUMNS_OF_0_1_0 = _COLUMNS[:-1]


def parse(row: Sequence[Any]) -> EpochRecord:
    """Parse a row, from the cells of log.csv or from the values of `to_json`.

    Raises:
        IndexError, TypeError, ValueError: A value is missing or not valid.
    """
    epoch, *numbers = row[: len(_COLUMNS_OF_0_1_0)]
    finished = row[len(_COLUMNS_OF_0_1_0) :]
    if len(row) > len(_COLUMNS):
        raise ValueError("more values than columns")
    time = float(finished[0]) if any(finished) else None
    values = map(json_numbers.from_json, numbers)
    return EpochRecord._make([int(epoch), *values, time])


def to_json(epoch: EpochRecord) -> list[Any]:
    """Return a row as JSON values, for `parse`."""
    *numbers, finished = epoch
    return [*map(json_numbers.to_json, numbers), finished]


def encode(epochs: Sequence[EpochRecord]) -> bytes:
    """Return the bytes of log.csv.

    Numbers have nine significant digits, times milliseconds.
    """
    lines = [",".join(_COLUMNS)]
    for *numbers, finished in epochs:
        time = "" if finished is None else f"{finished:.13g}"
        lines.append(",".join([*(f"{number:.9g}" for number in numbers), time]))
    return "".join(f"{line}\n" for line in lines).encode()


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
    if tuple(header.split(",")) not in (_COLUMNS, _COLUMNS_OF_0_1_0):
        raise XenonError(f"{path}: damaged: not the header of xenon-train's log")
    try:
        return [parse(line.split(",")) for line in lines]
    except (TypeError, ValueError) as error:
        raise XenonError(f"{path}: damaged: {error}") from error
