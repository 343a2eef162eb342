"""The checkpoints that a run keeps: best.json and the files in params/.

Owns their names and the content of best.json. Must not know how epochs are ranked.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

from xenon_mx.errors import XenonError
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
        if not self.params.is_file():
            raise XenonError(f"{self.params}: the file is missing")
        check_sha256(self.params, self.sha256)


def check_sha256(path: Path, recorded: str) -> None:
    """Check that a file has the SHA-256 that its run recorded.

    Raises:
        XenonError: It has another, or cannot be read.
    """
    try:
        actual = files.sha256(path)
    except OSError as error:
        raise XenonError(f"{path}: {os.strerror(error.errno or 0).lower()}") from error
    if actual != recorded:
        raise XenonError(f"{path}: damaged: its bytes are not as training wrote them")


def file_name(model: str, epoch: int) -> str:
    """Return the name of a checkpoint in params/."""
    return f"{model}-{epoch:04d}.params"


def is_file_name(model: str, name: str) -> bool:
    """Return whether `file_name` returns this name for some epoch."""
    return bool(re.fullmatch(rf"{re.escape(model)}-\d{{4,}}\.params", name))


def to_json(
    model: str, ranked: Sequence[tuple[float, int]], sums: Mapping[int, str]
) -> list[dict[str, Any]]:
    """Return the entries of best.json.

    Args:
        model: The name of the net.
        ranked: Loss and number of each epoch, the best first.
        sums: Epoch to SHA-256 of its checkpoint.
    """
    return [
        {
            "epoch": epoch,
            "loss": loss,
            "params": f"{PARAMS}/{file_name(model, epoch)}",
            "sha256": sums[epoch],
        }
        for loss, epoch in ranked
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
        return [
            Checkpoint(
                float(entry["loss"]),
                int(entry["epoch"]),
                folder / entry["params"],
                str(entry["sha256"]),
            )
            for entry in files.read_json(path)["best"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise XenonError(f"{path}: damaged: {error!r}") from error
