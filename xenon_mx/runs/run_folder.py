"""The run folder: what was trained on what, epoch by epoch, the five best, the last.

Owns run.json, log.csv, best.json, params/, last/ and TensorBoard's events, each
written so that whoever is killed at any instant can go on. Knows neither the loop nor
the data.

last/state.json is the mark of a finished epoch, and holds all that the other files say
of the epochs: log.csv, best.json and the events are written from it, and written again
when a killed run is resumed.

While a run is trained, its folder is held: what another process makes at its path is
another folder, and nothing is written into that. The files of a run are regular files
in its own folders, and only those of names that xenon gives are ever removed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np

from xenon_mx.config import FITS
from xenon_mx.errors import XenonError
from xenon_mx.models import weight_files
from xenon_mx.runs import tensorboard
from xenon_mx.runtime import files

FORMAT = 1  # of run.json; raised when a reader of the old one would misread the new
RUN_JSON, BEST_JSON, LOG_CSV = "run.json", "best.json", "log.csv"
PARAMS, LAST, STATE_JSON = "params", "last", "state.json"
_LAST_NAME = re.compile(r"net-\d{4,}\.params|trainer-\d{4,}\.states")
_OLD_PARTIAL = ".partial"  # behind the name of what xenon 0.1.0 was writing
# What a run records of its net, beside the name: params alone do not tell the pooling.
ARCHITECTURE = {"pooling": "global", "logits": 1}


class EpochRecord(NamedTuple):
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


class Checkpoint(NamedTuple):
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


class TrainingState(NamedTuple):
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
        self.epochs: list[EpochRecord] = []
        self._sums: dict[int, str] = {}  # SHA-256 of the params of the epochs kept
        self._events = tensorboard.Writer(folder)
        self._held = ExitStack()

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
            run._hold()
            refuse_existing(folder)  # another process may have been quicker
            # First: with it, a run that was killed at any later instant can go on.
            run._root.write_json(RUN_JSON, run.meta)
            run._hold_folders()
            run._publish({"best": [], "files": {}})
        except OSError as error:
            run.close()
            raise XenonError(f"{folder}: {os.strerror(error.errno or 0)}") from error
        except XenonError:
            run.close()
            raise
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
        settings = meta["config"]
        if "workers" in settings:  # as xenon 0.1.0 called its decoding threads
            settings["threads"] = settings.pop("workers")
        return cls(folder, meta)

    @property
    def identity(self) -> str:
        """What tells this run from every other, also after more epochs or elsewhere."""
        if isinstance(self.meta.get("id"), str):
            return self.meta["id"]
        # Of xenon 0.1.0, which gave none: what cannot change while a run goes on.
        fixed = [self.meta.get(key) for key in ("data", "versions", "pretrained")]
        fixed += [self.meta["config"].get(key) for key in ("model", "seed", "lr")]
        return hashlib.sha256(json.dumps(fixed).encode()).hexdigest()

    def contents(self) -> list[Path]:
        """Return every file in the folder, at any depth."""
        return [path for path in self.folder.rglob("*") if path.is_file()]

    @property
    def is_begun(self) -> bool:
        """Whether an epoch was finished."""
        return (self.folder / LAST / STATE_JSON).is_file()

    def resume(self, config: dict[str, Any]) -> TrainingState | None:
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
            self._hold()
            self._hold_folders()
            state = None
            if self.is_begun:
                state = files.read_json(self.folder / LAST / STATE_JSON)
            last = self._read_last(state) if state else None
            self._root.write_json(RUN_JSON, self.meta)
            self._clear_leftovers()
            # Written again below, so that no epoch is there twice.
            tensorboard.remove(self.folder, {*EpochRecord._fields})
            self._publish(state or {"best": [], "files": {}})
            for epoch in self.epochs:
                self._show(epoch)
        except OSError as error:
            raise XenonError(self._unsaved(error)) from error
        return last

    def save(
        self,
        epoch: EpochRecord,
        last: TrainingState,
        ranked: Sequence[tuple[float, int]],
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
            self._check_place()
            state = self._write_state(epoch, last, ranked)
            self.epochs.append(epoch)
            self._publish(state)
            self._show(epoch)
        except OSError as error:
            raise XenonError(self._unsaved(error)) from error

    def members(self) -> list[Checkpoint]:
        """List the best epochs, the lowest validation loss first."""
        path = self.folder / BEST_JSON
        if not path.is_file():
            return []
        try:
            return [
                Checkpoint(
                    float(each["loss"]),
                    int(each["epoch"]),
                    self.folder / each["params"],
                    str(each["sha256"]),
                )
                for each in files.read_json(path)["best"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise XenonError(f"{path}: damaged: {error!r}") from error

    def log(self) -> list[EpochRecord]:
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
        if header != ",".join(EpochRecord._fields):
            raise XenonError(f"{path}: damaged: not the header of xenon-train's log")
        try:
            rows = [line.split(",") for line in lines]
            return [EpochRecord(int(row[0]), *map(float, row[1:])) for row in rows]
        except (TypeError, ValueError) as error:
            raise XenonError(f"{path}: damaged: {error}") from error

    def close(self) -> None:
        """Finish TensorBoard's events, and let others train the run."""
        self._events.close()
        self._held.close()

    def _hold(self) -> None:
        """Keep others from training this run as long as this process lives."""
        try:
            self._root = files.Folder(self.folder)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise XenonError(f"{self.folder}: {reason}") from error
        self._held.callback(self._root.close)
        if not self._root.lock():
            raise XenonError(f"{self.folder}: another process trains it")
        names = (RUN_JSON, BEST_JSON, LOG_CSV)
        _refuse_links(self._root, self._root.irregular(names))

    def _hold_folders(self) -> None:
        """Hold params/ and last/, made where they are not there."""
        for name in (PARAMS, LAST):
            path = self.folder / name
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                _refuse_links(self._root, [name])
        self._params, self._last = (self._root.make(name) for name in (PARAMS, LAST))
        for folder in (self._params, self._last):
            self._held.callback(folder.close)
            own = [name for name in folder.names() if self._is_own(folder, name)]
            _refuse_links(folder, folder.irregular(own))

    def _check_place(self) -> None:
        """Stop if the folder is no longer where this run was begun."""
        if not self._root.is_in_place():
            raise XenonError(self._moved())

    def _moved(self) -> str:
        return (
            f"{self.folder}: was moved or removed while it was trained; its finished "
            f"epochs are whole where it is now: go on there, with --resume"
        )

    def _clear_leftovers(self) -> None:
        """Remove what killed processes left."""
        for folder in (self._root, self._params, self._last):
            for name in folder.names():
                whole = name[: -len(_OLD_PARTIAL)]
                if name.endswith(_OLD_PARTIAL) and self._is_own(folder, whole):
                    folder.remove(name)

    def _write_state(
        self,
        epoch: EpochRecord,
        last: TrainingState,
        ranked: Sequence[tuple[float, int]],
    ) -> dict[str, Any]:
        """Write an epoch's files, and the mark that it is finished."""
        number = epoch.epoch
        net, trainer = weight_files.encode(last.net), weight_files.encode(last.trainer)
        if number in [kept for _, kept in ranked]:
            self._sums[number] = self._params.write(self._params_name(number), net)
        sums = {
            name: self._last.write(name, data)
            for name, data in (
                (f"net-{number:04d}.params", net),
                (f"trainer-{number:04d}.states", trainer),
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
                    "params": f"{PARAMS}/{self._params_name(kept)}",
                    "sha256": self._sums[kept],
                }
                for loss, kept in ranked
            ],
            "log": [list(row) for row in (*self.epochs, epoch)],
        }
        self._last.write_json(STATE_JSON, state)
        return state

    def _publish(self, state: dict[str, Any]) -> None:
        """Write what follows from a state, and remove what it no longer names."""
        self._root.write_json(BEST_JSON, {"best": state["best"]})
        lines = [",".join(EpochRecord._fields)]
        lines += [",".join(f"{value:.9g}" for value in row) for row in self.epochs]
        self._root.write(LOG_CSV, "".join(f"{x}\n" for x in lines).encode())
        kept = {Path(each["params"]).name for each in state["best"]}
        for folder, named in ((self._params, kept), (self._last, {*state["files"]})):
            for name in {*folder.names()} - named - {STATE_JSON}:
                if self._is_own(folder, name):
                    folder.remove(name)

    def _read_last(self, state: dict[str, Any]) -> TrainingState:
        """Read and check the files that a state names."""
        self.epochs = [EpochRecord(int(row[0]), *row[1:]) for row in state["log"]]
        found = []
        for name, recorded in state["files"].items():
            _check(self.folder / LAST / name, recorded)
            found.append(weight_files.read(self.folder / LAST / name))
        for member in state["best"]:
            _check(self.folder / member["params"], member["sha256"])
            self._sums[member["epoch"]] = member["sha256"]
        net, trainer = found
        return TrainingState(
            state["epoch"],
            net,
            trainer,
            state["steps"],
            state["handlers"],
            state["done"],
        )

    def _show(self, epoch: EpochRecord) -> None:
        """Give an epoch to TensorBoard."""
        finite = {
            name: value
            for name, value in zip(epoch._fields[1:], epoch[1:])
            if math.isfinite(value)
        }
        self._events.add(epoch.epoch, finite)

    def _is_own(self, folder: files.Folder, name: str) -> bool:
        """Return whether a name is one that this run gives to a file in a folder."""
        if folder is self._root:
            return name in (RUN_JSON, BEST_JSON, LOG_CSV)
        if folder is self._last:
            return name == STATE_JSON or bool(_LAST_NAME.fullmatch(name))
        model = re.escape(self.meta["config"]["model"])
        return bool(re.fullmatch(rf"{model}-\d{{4,}}\.params", name))

    def _params_name(self, epoch: int) -> str:
        return f"{self.meta['config']['model']}-{epoch:04d}.params"

    def _unsaved(self, error: OSError) -> str:
        if not self._root.is_in_place():  # since a moment ago
            return self._moved()
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
    leftover = RUN_JSON + ".partial"  # of xenon 0.1.0
    if folder.is_dir() and any(
        not (each.name == leftover or files.is_partial(each.name))
        for each in folder.iterdir()
    ):
        raise XenonError(f"{folder}: is not empty; a run needs a folder of its own")


def _refuse_links(folder: files.Folder, names: Sequence[str]) -> None:
    """Stop if there are names that stand for no regular file or folder."""
    if names:
        raise XenonError(
            f"{folder.path / names[0]}: is a link, or no regular file: a run writes "
            f"only into its own folder; put the file or the folder itself there"
        )


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
