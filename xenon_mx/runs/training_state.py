"""The training state after the last finished epoch: the files in last/.

Owns their names, and how arrays are read and written. Must not know the training loop.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Mapping, NamedTuple

import numpy as np

from xenon_mx.models import weight_files
from xenon_mx.runs.checkpoints import check_sha256

LAST, STATE_JSON = "last", "state.json"
_FILE_NAME = re.compile(r"net-\d{4,}\.params|trainer-\d{4,}\.states")


class TrainingState(NamedTuple):
    """All that the next epoch of a run depends on.

    Attributes:
        epoch: Number of the last finished epoch.
        net: Key to array, of every parameter.
        trainer: Name to array, of the optimizer's state.
        steps: Number of steps that the optimizer has taken.
        handlers: State of the learning rate schedule and of the ranking, as JSON.
        done: Whether training has ended before the last epoch.
    """

    epoch: int
    net: Mapping[str, np.ndarray]
    trainer: Mapping[str, np.ndarray]
    steps: int
    handlers: dict[str, Any]
    done: bool


def encode(state: TrainingState) -> tuple[bytes, bytes]:
    """Return the bytes of the net's params, as in a checkpoint, and the optimizer's."""
    return weight_files.encode(state.net), weight_files.encode(state.trainer)


def file_names(epoch: int) -> tuple[str, str]:
    """Return the names of the files of the net and of the optimizer in last/."""
    return f"net-{epoch:04d}.params", f"trainer-{epoch:04d}.states"


def is_file_name(name: str) -> bool:
    """Return whether a name is one of last/: state.json's or one of `file_names`."""
    return name == STATE_JSON or bool(_FILE_NAME.fullmatch(name))


def read(folder: Path, content: Mapping[str, Any]) -> TrainingState:
    """Read the state that state.json describes.

    Args:
        folder: The run folder.
        content: The content of state.json.

    Raises:
        XenonError: A file is missing or damaged.
    """
    arrays = []
    for name, sha256 in content["files"].items():
        check_sha256(folder / LAST / name, sha256)
        arrays.append(weight_files.read(folder / LAST / name))
    net, trainer = arrays
    return TrainingState(
        epoch=content["epoch"],
        net=net,
        trainer=trainer,
        steps=content["steps"],
        handlers=content["handlers"],
        done=content["done"],
    )
