"""The run folder: what was trained on what, epoch by epoch, and the five best.

Owns run.json, log.csv, best.json, params/ and TensorBoard's events, each written so
that a reader never sees half of one. Knows neither the loop nor the data.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable, NamedTuple

from tensorboardX import SummaryWriter

from xenon_mx.config import FITS
from xenon_mx.errors import XenonError
from xenon_mx.handlers import Best
from xenon_mx.records import sha256

FORMAT = 1  # of run.json; raised when a reader of the old one would misread the new
RUN_JSON, BEST_JSON, LOG_CSV = "run.json", "best.json", "log.csv"


class Epoch(NamedTuple):
    """A row of log.csv.

    Attributes:
        epoch: Counted from 1.
        train_loss: Mean over the epoch's training images, as they were trained on.
        val_loss: Mean over all validation images, after the epoch.
        kappa: Cohen's kappa over the validation studies, at 0.5.
        auroc: Over the validation studies.
        lr: The learning rate that the epoch was trained with.
        images_per_s: Training images a second, without validation.
        wait_share: The share of the training time spent waiting for images.
        seconds: The whole epoch's, validation included.
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


class Member(NamedTuple):
    """A checkpoint that can be a member of an ensemble; better ones sort first."""

    loss: float
    epoch: int
    params: Path
    sha256: str

    def check(self) -> None:
        """Stop unless the file is there, with the bytes that its run recorded."""
        if not self.params.is_file():
            raise XenonError(f"{self.params}: the file is missing")
        if sha256(self.params) != self.sha256:
            raise XenonError(
                f"{self.params}: damaged: its bytes are not those that training wrote"
            )


class Run:
    """A run folder.

    Args:
        folder: Where it is.
        meta: What run.json holds.
    """

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        self.folder = folder
        self.meta = meta
        self._events: SummaryWriter | None = None

    @classmethod
    def create(cls, folder: Path, meta: dict[str, Any]) -> Run:
        """Make a run folder; what it will hold belongs to one run only.

        Raises:
            XenonError: It holds a run already, or cannot be made.
        """
        refuse_existing(folder)
        run = cls(folder, {"format": FORMAT, **meta})
        try:
            (folder / "params").mkdir(parents=True, exist_ok=True)
            (folder / LOG_CSV).write_text(",".join(Epoch._fields) + "\n")
        except OSError as error:
            raise XenonError(f"{folder}: {os.strerror(error.errno or 0)}") from error
        run._write_json(BEST_JSON, [])
        run._write_json(RUN_JSON, run.meta)
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open a run folder for reading.

        Raises:
            XenonError: It is none, or of another format.
        """
        path = folder / RUN_JSON
        if not path.is_file():
            raise XenonError(
                f"{folder}: not a run: it has no {RUN_JSON}; make one with xenon-train"
            )
        meta = _read_json(path)
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            raise XenonError(f"{path}: not of format {FORMAT}, which this xenon reads")
        if not _is_whole(meta):
            raise XenonError(f"{path}: is damaged: it is not as xenon-train wrote it")
        return cls(folder, meta)

    def save(
        self, epoch: Epoch, best: Best, write_params: Callable[[str], None]
    ) -> None:
        """Record a finished epoch.

        The new params file is whole before best.json names it, and the dropped ones
        go after best.json has forgotten them.

        Args:
            epoch: The row for log.csv.
            best: The best epochs, this one among them if it is kept.
            write_params: Writes the net's params to the file named.
        """
        try:
            self._save(epoch, best, write_params)
        except OSError as error:
            raise XenonError(
                f"{self.folder}: epoch {epoch.epoch} cannot be saved: "
                f"{os.strerror(error.errno or 0)}; the epochs before it are whole"
            ) from error

    def _save(
        self, epoch: Epoch, best: Best, write_params: Callable[[str], None]
    ) -> None:
        params = self._params(epoch.epoch)
        if epoch.epoch in [kept.epoch for kept in best.ranked]:
            partial = params.with_suffix(".partial")
            try:
                write_params(str(partial))
                _sync(partial)
                os.replace(partial, params)
            finally:
                partial.unlink(missing_ok=True)
        known = {member.epoch: member.sha256 for member in self.members()}
        entries = []
        for loss, number in best.ranked:
            file = self._params(number)
            entries.append(
                {
                    "epoch": number,
                    "loss": loss,
                    "params": file.relative_to(self.folder).as_posix(),
                    "sha256": known.get(number) or sha256(file),
                }
            )
        self._write_json(BEST_JSON, entries)
        self._remove_others(best)
        self._log(epoch)

    def members(self) -> list[Member]:
        """List the best epochs, the lowest validation loss first."""
        path = self.folder / BEST_JSON
        try:
            return [
                Member(
                    each["loss"],
                    each["epoch"],
                    self.folder / each["params"],
                    each["sha256"],
                )
                for each in _read_json(path)
            ]
        except (KeyError, TypeError) as error:
            raise XenonError(f"{path}: is damaged: {error!r}") from error

    def close(self) -> None:
        """Finish TensorBoard's events."""
        if self._events is not None:
            self._events.close()

    def _params(self, epoch: int) -> Path:
        model = self.meta["config"]["model"]
        return self.folder / "params" / f"{model}-{epoch:04d}.params"

    def _remove_others(self, best: Best) -> None:
        kept = {self._params(each.epoch) for each in best.ranked}
        for file in (self.folder / "params").glob("*.params"):
            if file not in kept:
                file.unlink()

    def _log(self, epoch: Epoch) -> None:
        row = ",".join(f"{value:.9g}" for value in epoch)
        with open(self.folder / LOG_CSV, "a", encoding="utf-8") as log:
            log.write(row + "\n")
        if self._events is None:
            self._events = SummaryWriter(str(self.folder))
        for name, value in zip(epoch._fields[1:], epoch[1:]):
            self._events.add_scalar(name, value, epoch.epoch)
        self._events.flush()

    def _write_json(self, name: str, content: Any) -> None:
        partial = self.folder / f"{name}.partial"
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        _sync(partial)
        os.replace(partial, self.folder / name)


def _is_whole(meta: dict[str, Any]) -> bool:
    """Tell whether run.json says all that a prediction needs to know."""
    try:
        kinds = [
            isinstance(meta["config"]["model"], str),
            isinstance(meta["data"], str),
            type(meta["preprocessing"]["size"]) is int,
            meta["preprocessing"]["size"] > 0,
            meta["preprocessing"]["fit"] in FITS,
            all(isinstance(name, str) for name in meta["study_types"]),
            len(meta["weights"]) == len(meta["study_types"]),
            all(len(pair) == 2 for pair in meta["weights"]),
            isinstance(meta["architecture"], dict),
        ]
    except (KeyError, TypeError):
        return False
    return all(kinds)


def refuse_existing(folder: Path) -> None:
    """Stop if a folder holds a run already, or anything else."""
    if (folder / RUN_JSON).exists():
        raise XenonError(f"{folder}: holds a run already; choose another folder")
    if folder.exists() and not folder.is_dir():
        raise XenonError(f"{folder}: is a file; name a folder for the run")
    if folder.is_dir() and any(folder.iterdir()):
        raise XenonError(f"{folder}: is not empty; a run needs a folder of its own")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise XenonError(f"{path}: cannot be read: {error}") from error


def _sync(file: Path) -> None:
    """Wait until a file is on disk, before its name says that it is whole."""
    with open(file, "rb") as stream:
        os.fsync(stream.fileno())
