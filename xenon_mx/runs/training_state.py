"""The training state after the last finished epoch: the files in last/.

Owns their names, the content of state.json, and how arrays are read and written. Must
not know the training loop.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np

from xenon_mx.models import weight_files
from xenon_mx.runs import checkpoints, epoch_log
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.epoch_log import EpochRecord
from xenon_mx.runs.run_meta import damaged
from xenon_mx.runtime import files

LAST, STATE_JSON = "last", "state.json"
# The values of state.json that are written as they are, in the order of the file.
_KINDS = {"epoch": int, "done": bool, "steps": int, "handlers": dict, "files": dict}
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


@dataclass(frozen=True)
class StateMeta:
    """The content of state.json; the defaults are those before the first epoch.

    Attributes:
        epoch: See `TrainingState`, as for `done`, `steps` and `handlers`.
        done: Whether training has ended before the last epoch.
        steps: Number of steps that the optimizer has taken.
        handlers: State of the learning rate schedule and of the ranking, as JSON.
        files: SHA-256 of the files in last/ by name, the net's first.
        best: The checkpoints kept, the lowest loss first.
        log: The rows of log.csv.
    """

    epoch: int = 0
    done: bool = False
    steps: int = 0
    handlers: dict[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    best: Sequence[Checkpoint] = ()
    log: Sequence[EpochRecord] = ()

    @classmethod
    def from_json(cls, content: Mapping[str, Any], folder: Path) -> StateMeta:
        """Parse the content of state.json.

        Args:
            content: A JSON object.
            folder: The run folder.

        Raises:
            AttributeError, LookupError, TypeError, ValueError: A value is missing or
                not valid.
        """
        for key, kind in _KINDS.items():
            if type(content[key]) is not kind:
                raise TypeError(f"{key} is not of type {kind.__name__}")
        if len(content["files"]) != len(file_names(0)):
            raise ValueError("the files are not those of net and optimizer")
        return cls(
            **{key: content[key] for key in _KINDS},
            best=checkpoints.from_json(folder, content["best"]),
            log=[epoch_log.parse(row) for row in content["log"]],
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content of state.json, its keys in the order of the file."""
        return {
            **{key: getattr(self, key) for key in _KINDS},
            "best": checkpoints.to_json(self.best),
            "log": [epoch_log.to_json(row) for row in self.log],
        }


def file_names(epoch: int) -> tuple[str, str]:
    """Return the names of the files of the net and of the optimizer in last/."""
    return f"net-{epoch:04d}.params", f"trainer-{epoch:04d}.states"


def is_file_name(name: str) -> bool:
    """Return whether a name is one of last/: state.json's or one of `file_names`."""
    return name == STATE_JSON or bool(_FILE_NAME.fullmatch(name))


def read_meta(folder: Path) -> StateMeta:
    """Read state.json of a run folder.

    Raises:
        XenonError: The file is missing or damaged.
    """
    path = folder / LAST / STATE_JSON
    try:
        return StateMeta.from_json(files.read_json(path), folder)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise damaged(path) from error


def read(folder: Path, meta: StateMeta) -> TrainingState:
    """Read the state that state.json describes.

    Args:
        folder: The run folder.
        meta: The content of state.json.

    Raises:
        XenonError: A file is missing or damaged.
    """
    net, trainer = (
        weight_files.read(folder / LAST / name, sha256)
        for name, sha256 in meta.files.items()
    )
    return TrainingState(
        epoch=meta.epoch,
        net=net,
        trainer=trainer,
        steps=meta.steps,
        handlers=meta.handlers,
        done=meta.done,
    )
