"""The run folder: what was trained on what, epoch by epoch, the five best, the last.

Owns run.json, log.csv, best.json, params/, last/ and TensorBoard's events, each
written so that whoever is killed at any instant can go on. Knows neither the loop nor
the data.

last/state.json is the mark of a finished epoch, and holds all that the other files say
of the epochs: log.csv, best.json and the events are written from it, and written again
when a killed run is resumed.
"""

from __future__ import annotations

import fcntl
import math
import os
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np

from xenon_mx import arrays, events, files
from xenon_mx.config import FITS
from xenon_mx.errors import XenonError

FORMAT = 1  # of run.json; raised when a reader of the old one would misread the new
RUN_JSON, BEST_JSON, LOG_CSV = "run.json", "best.json", "log.csv"
PARAMS, LAST, STATE_JSON = "params", "last", "state.json"
# What a run records of its net, beside the name: params alone do not tell the pooling.
ARCHITECTURE = {"pooling": "global", "logits": 1}


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
        _check(self.params, self.sha256)


class Last(NamedTuple):
    """Where a run stands at the end of an epoch: all that the next one depends on.

    Attributes:
        epoch: Its number.
        net: Key to array, of every parameter.
        trainer: Name to array, as the optimizer gives them.
        steps: How many steps the optimizer has taken.
        handlers: What the handlers remember, for JSON.
        done: Whether the recipe has come to its end.
    """

    epoch: int
    net: Mapping[str, np.ndarray]
    trainer: Mapping[str, np.ndarray]
    steps: int
    handlers: dict[str, Any]
    done: bool


class Run:
    """A run folder.

    Args:
        folder: Where it is.
        meta: What run.json holds.
    """

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        self.folder = folder
        self.meta = meta
        self.epochs: list[Epoch] = []
        self._events = events.Writer(folder)
        self._lock: int | None = None

    @classmethod
    def create(cls, folder: Path, meta: dict[str, Any]) -> Run:
        """Make a run folder; what it will hold belongs to one run only.

        Raises:
            XenonError: It holds a run already, or cannot be made.
        """
        refuse_existing(folder)
        run = cls(folder, {"format": FORMAT, **meta})
        try:
            folder.mkdir(parents=True, exist_ok=True)
            run._lock_folder()
            # First: with it, a run that was killed at any later instant can go on.
            files.write_json(folder / RUN_JSON, run.meta)
            run._make_folders()
            run._publish({"best": [], "files": {}})
        except OSError as error:
            raise XenonError(f"{folder}: {os.strerror(error.errno or 0)}") from error
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open a run folder for reading.

        Raises:
            XenonError: It is none, or of another format, or damaged.
        """
        path = folder / RUN_JSON
        if not path.is_file():
            raise XenonError(
                f"{folder}: not a run: it has no {RUN_JSON}; make one with xenon-train"
            )
        meta = files.read_json(path)
        if meta.get("format") != FORMAT:
            raise XenonError(f"{path}: not of format {FORMAT}, which this xenon reads")
        if not _is_whole(meta):
            raise XenonError(f"{path}: damaged: it is not as xenon-train wrote it")
        return cls(folder, meta)

    @property
    def is_begun(self) -> bool:
        """Whether an epoch was finished."""
        return (self.folder / LAST / STATE_JSON).is_file()

    def resume(self, config: dict[str, Any]) -> Last | None:
        """Take up a run where its last finished epoch left it.

        Leftovers of whoever was killed are removed, and what could not be written any
        more is written.

        Args:
            config: The settings that run.json is to name from now on.

        Returns:
            Where it stands; None if no epoch was finished.

        Raises:
            XenonError: Another process trains it, or its files are damaged.
        """
        self.meta = {**self.meta, "config": config}
        try:
            self._lock_folder()
            state = None
            if self.is_begun:
                state = files.read_json(self.folder / LAST / STATE_JSON)
            last = self._read_last(state) if state else None
            files.write_json(self.folder / RUN_JSON, self.meta)
            for partial in self.folder.rglob(f"*{files.PARTIAL}"):
                partial.unlink()
            # Written again below, so that no epoch is there twice.
            events.remove(self.folder, {*Epoch._fields})
            self._make_folders()
            self._publish(state or {"best": [], "files": {}})
            for epoch in self.epochs:
                self._show(epoch)
        except OSError as error:
            raise XenonError(self._unsaved(error)) from error
        return last

    def save(
        self, epoch: Epoch, last: Last, ranked: Sequence[tuple[float, int]]
    ) -> None:
        """Record a finished epoch.

        Whatever the instant at which the process may be killed: the epoch is finished
        when state.json names it, best.json names whole files only, and nothing that
        either of them names is removed before they have been replaced.

        Args:
            epoch: The row for log.csv.
            last: Where the run stands.
            ranked: Loss and number of the epochs to keep, the best first.

        Raises:
            XenonError: The disk is full, or the like; the epochs before stay whole.
        """
        try:
            state = self._write_state(epoch, last, ranked)
            self.epochs.append(epoch)
            self._publish(state)
            self._show(epoch)
        except OSError as error:
            raise XenonError(self._unsaved(error)) from error

    def members(self) -> list[Member]:
        """List the best epochs, the lowest validation loss first."""
        path = self.folder / BEST_JSON
        if not path.is_file():
            return []
        try:
            return [
                Member(
                    float(each["loss"]),
                    int(each["epoch"]),
                    self.folder / each["params"],
                    str(each["sha256"]),
                )
                for each in files.read_json(path)["best"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise XenonError(f"{path}: damaged: {error!r}") from error

    def log(self) -> list[Epoch]:
        """Read log.csv: a row for each finished epoch.

        Raises:
            XenonError: It is missing, or not as training wrote it.
        """
        path = self.folder / LOG_CSV
        try:
            header, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise XenonError(f"{path}: {reason}") from error
        except UnicodeDecodeError as error:
            raise XenonError(f"{path}: damaged: {error}") from error
        if header != ",".join(Epoch._fields):
            raise XenonError(f"{path}: damaged: not the header of xenon-train's log")
        try:
            rows = [line.split(",") for line in lines]
            return [Epoch(int(row[0]), *map(float, row[1:])) for row in rows]
        except (TypeError, ValueError) as error:
            raise XenonError(f"{path}: damaged: {error}") from error

    def close(self) -> None:
        """Finish TensorBoard's events, and let others train the run."""
        self._events.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _lock_folder(self) -> None:
        """Keep others from training this run as long as this process lives."""
        self._lock = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise XenonError(f"{self.folder}: another process trains it") from error

    def _make_folders(self) -> None:
        (self.folder / PARAMS).mkdir(exist_ok=True)
        (self.folder / LAST).mkdir(exist_ok=True)

    def _write_state(
        self, epoch: Epoch, last: Last, ranked: Sequence[tuple[float, int]]
    ) -> dict[str, Any]:
        """Write an epoch's files, and the mark that it is finished."""
        number = epoch.epoch
        known = {member.epoch: member.sha256 for member in self.members()}
        if number in [kept for _, kept in ranked]:
            known[number] = arrays.write(self._params(number), last.net)
        sums = {
            name: arrays.write(self.folder / LAST / name, content)
            for name, content in (
                (f"net-{number:04d}.params", last.net),
                (f"trainer-{number:04d}.states", last.trainer),
            )
        }
        state = {
            "epoch": number,
            "done": last.done,
            "steps": last.steps,
            "handlers": last.handlers,
            "files": sums,
            "best": [
                {
                    "epoch": kept,
                    "loss": loss,
                    "params": self._params(kept).relative_to(self.folder).as_posix(),
                    "sha256": known[kept],
                }
                for loss, kept in ranked
            ],
            "log": [list(row) for row in (*self.epochs, epoch)],
        }
        files.write_json(self.folder / LAST / STATE_JSON, state)
        return state

    def _publish(self, state: dict[str, Any]) -> None:
        """Write what follows from a state, and remove what it no longer names."""
        files.write_json(self.folder / BEST_JSON, {"best": state["best"]})
        lines = [",".join(Epoch._fields)]
        lines += [",".join(f"{value:.9g}" for value in row) for row in self.epochs]
        files.write(self.folder / LOG_CSV, "".join(f"{x}\n" for x in lines).encode())
        named = {self.folder / each["params"] for each in state["best"]}
        named |= {self.folder / LAST / name for name in [*state["files"], STATE_JSON]}
        for folder in (PARAMS, LAST):
            for file in (self.folder / folder).iterdir():
                if file not in named:
                    file.unlink()

    def _read_last(self, state: dict[str, Any]) -> Last:
        """Read and check the files that a state names."""
        self.epochs = [Epoch(int(row[0]), *row[1:]) for row in state["log"]]
        found = []
        for name, recorded in state["files"].items():
            _check(self.folder / LAST / name, recorded)
            found.append(arrays.read(self.folder / LAST / name))
        for member in state["best"]:
            _check(self.folder / member["params"], member["sha256"])
        net, trainer = found
        return Last(
            state["epoch"],
            net,
            trainer,
            state["steps"],
            state["handlers"],
            state["done"],
        )

    def _show(self, epoch: Epoch) -> None:
        """Give an epoch to TensorBoard."""
        finite = {
            name: value
            for name, value in zip(epoch._fields[1:], epoch[1:])
            if math.isfinite(value)
        }
        self._events.add(epoch.epoch, finite)

    def _params(self, epoch: int) -> Path:
        model = self.meta["config"]["model"]
        return self.folder / PARAMS / f"{model}-{epoch:04d}.params"

    def _unsaved(self, error: OSError) -> str:
        return (
            f"{self.folder}: cannot be written: {os.strerror(error.errno or 0)}; the "
            f"epochs finished before are whole: mend that, and go on with --resume"
        )


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
        raise XenonError(
            f"{folder}: holds a run already: choose another folder, or go on with it "
            f"by --resume"
        )
    if folder.exists() and not folder.is_dir():
        raise XenonError(f"{folder}: is a file; name a folder for the run")
    # What somebody left who was killed before there was a run.
    leftover = RUN_JSON + files.PARTIAL
    if folder.is_dir() and any(each.name != leftover for each in folder.iterdir()):
        raise XenonError(f"{folder}: is not empty; a run needs a folder of its own")


def _check(path: Path, recorded: str) -> None:
    """Stop unless a file has the bytes that its run recorded."""
    try:
        actual = files.sha256(path)
    except OSError as error:
        raise XenonError(f"{path}: {os.strerror(error.errno or 0).lower()}") from error
    if actual != recorded:
        raise XenonError(
            f"{path}: damaged: its bytes are not those that training wrote"
        )
