"""The checkpoints that a run keeps: best.json and the files in params/.

Owns their names and the content of best.json. Must not know how epochs are ranked.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

from xenon_mx.runs.run_meta import damaged
from xenon_mx.runtime import files

BEST_JSON, PARAMS = "best.json", "params"


class Checkpoint(NamedTuple):
    """The weights after one epoch.

    Attributes:
        loss: Validation loss. Checkpoints sort by it, then by epoch.
        epoch: Number of the epoch, from 1.
        params: Path of the `.params` file.
        sha256: SHA-256 of the file as training wrote it.
    """

    loss: float
    epoch: int
    params: Path
    sha256: str

    def check(self) -> None:
        """Check that the file exists and is as training wrote it.

        Raises:
            XenonError: It is not.
        """
        files.check_sha256(self.params, self.sha256)


def file_name(model: str, epoch: int) -> str:
    """Return the name of a checkpoint in params/."""
    return f"{model}-{epoch:04d}.params"


def is_file_name(model: str, name: str) -> bool:
    """Return whether `file_name` returns this name for some epoch."""
    return bool(re.fullmatch(rf"{re.escape(model)}-\d{{4,}}\.params", name))


def to_json(members: Sequence[Checkpoint]) -> list[dict[str, Any]]:
    """Return the entries of best.json."""
    return [
        {
            "epoch": member.epoch,
            "loss": member.loss,
            "params": f"{PARAMS}/{member.params.name}",
            "sha256": member.sha256,
        }
        for member in members
    ]


def from_json(folder: Path, entries: Sequence[Mapping[str, Any]]) -> list[Checkpoint]:
    """Parse the entries of best.json.

    Args:
        folder: The run folder.
        entries: The entries, as JSON values.

    Raises:
        KeyError, TypeError, ValueError: A value is missing or not valid.
    """
    return [
        Checkpoint(
            loss=float(entry["loss"]),
            epoch=int(entry["epoch"]),
            params=folder / entry["params"],
            sha256=str(entry["sha256"]),
        )
        for entry in entries
    ]


def read(folder: Path) -> list[Checkpoint]:
    """Read best.json of a run folder, the lowest loss first; empty without the file.

    Raises:
        XenonError: The file is damaged.
    """
    path = folder / BEST_JSON
    if not path.is_file():
        return []
    try:
        return from_json(folder, files.read_json(path)["best"])
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path) from error
