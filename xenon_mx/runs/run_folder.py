"""The run folder: what one training writes, epoch by epoch.

Owns the order in which the files of a run are written, so that a process killed at any
time can be resumed. Must not know the training loop or the data.

last/state.json marks an epoch as finished and contains all that the other files say
about epochs: log.csv, best.json and TensorBoard's events are written from it, and again
when a killed run is resumed.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence

from xenon_mx.errors import XenonError, os_error
from xenon_mx.models import weight_files
from xenon_mx.runs import (
    checkpoints,
    epoch_log,
    seen_studies,
    tensorboard,
    training_state,
)
from xenon_mx.runs.checkpoints import BEST_JSON, PARAMS, Checkpoint
from xenon_mx.runs.epoch_log import LOG_CSV, EpochRecord
from xenon_mx.runs.locked_folder import LockedFolder
from xenon_mx.runs.run_meta import RUN_JSON, RunMeta
from xenon_mx.runs.seen_studies import STUDIES_JSON, SeenStudies
from xenon_mx.runs.training_state import LAST, STATE_JSON, StateMeta, TrainingState
from xenon_mx.runtime import files, text
from xenon_mx.settings import AnyPath

FOLDS_JSON = "folds.json"  # in a folder of several runs: see `folds_folder`
# What the ensemble makes of the split that chose it, and, in the run of a fold, of the
# part that is left out: written when training ends.
VALIDATION_CSV, LEFT_OUT_CSV = TABLES = ("validation.csv", "left-out.csv")


class Run:
    """A run folder.

    Args:
        folder: Its path.
        meta: The content of run.json.

    Attributes:
        folder: Its path.
        meta: The content of run.json.
        epochs: The finished epochs, once the run is being trained.
    """

    def __init__(self, folder: Path, meta: RunMeta) -> None:
        self.folder = folder
        self.meta = meta
        self.epochs: list[EpochRecord] = []
        self._sums: dict[int, str] = {}  # epoch to SHA-256 of its checkpoint
        self._events = tensorboard.Writer(folder)
        self._locked: LockedFolder | None = None

    @classmethod
    def create(cls, folder: Path, meta: RunMeta) -> Run:
        """Create a run folder and lock it for training.

        Raises:
            XenonError: It contains files already, or cannot be created.
        """
        check_new(folder)
        run = cls(folder, meta)
        with run._closing_on_failure():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                locked = run._lock()
                check_new(folder)  # another process may have created it meanwhile
                # First, so that a run killed at any later time can be resumed.
                locked.root.write_json(RUN_JSON, meta.to_json())
                locked.open_subfolders()
                run._publish(locked, StateMeta())
            except OSError as error:
                raise os_error(folder, error) from error
        return run

    @classmethod
    def open(cls, folder: AnyPath) -> Run:
        """Open a run folder for reading.

        Raises:
            XenonError: It is not a run, or run.json is damaged or of another format.
        """
        folder = Path(folder)
        path = folder / RUN_JSON
        if not folder.exists():
            raise XenonError(f"{folder}: no such folder; make a run with xenon-train")
        if not path.is_file():
            raise XenonError(
                f"{text.folder_name(folder)}: not a run: it has no {RUN_JSON}; make "
                f"one with xenon-train"
            )
        return cls(folder, RunMeta.from_json(files.read_json(path), path))

    @property
    def identity(self) -> str:
        """See `RunMeta.identity`."""
        return self.meta.identity

    def contents(self) -> list[Path]:
        """Return all files in the folder, at any depth, except for its tables.

        An ensemble reads them, so that no command may write over them; the tables are
        xenon-predict's own outputs.
        """
        own = {self.folder / f"{name}{end}" for name in TABLES for end in ("", ".json")}
        paths = self.folder.rglob("*")
        return [path for path in paths if path.is_file() and path not in own]

    @property
    def is_begun(self) -> bool:
        """Whether an epoch was finished."""
        return (self.folder / LAST / STATE_JSON).is_file()

    def resume(self, settings: Mapping[str, Any]) -> TrainingState | None:
        """Lock a run for training after its last finished epoch.

        Leftovers of killed processes are removed, and files that they did not come to
        write are written.

        Args:
            settings: The settings for run.json from now on.

        Returns:
            The state to continue from; None if no epoch was finished, or the net was
            not trained here.

        Raises:
            XenonError: Another process trains the run, or a file is damaged.
        """
        self.meta = replace(self.meta, settings=settings)
        with self._closing_on_failure():
            locked = self._lock()
            try:
                locked.open_subfolders()
                state, last = StateMeta(), None
                if self.is_begun:
                    state = self._read_state()
                    if not self.meta.is_from_elsewhere:
                        last = training_state.read(self.folder, state)
                locked.root.write_json(RUN_JSON, self.meta.to_json())
                locked.remove_partial_files()
                # The events are written again below, so that no epoch appears twice.
                tensorboard.remove(self.folder, {*EpochRecord._fields})
                self._publish(locked, state)
                self._add_all_events()
            except OSError as error:
                raise locked.write_error(error) from error
        return last

    def save(
        self,
        epoch: EpochRecord,
        last: TrainingState,
        ranked: Sequence[tuple[float, int]],
    ) -> None:
        """Record a finished epoch.

        If the process is killed at any time during this call, either the previous or
        this epoch is the last finished one, and each file that state.json or best.json
        names is complete.

        Args:
            epoch: The row for log.csv.
            last: The state to continue from.
            ranked: Loss and number of the epochs to keep, the best first.

        Raises:
            XenonError: A file cannot be written; earlier epochs stay complete.
        """
        assert self._locked is not None, "neither created nor resumed"
        locked = self._locked
        try:
            locked.check_in_place()
            state = self._write_state(locked, epoch, last, ranked)
            self.epochs.append(epoch)
            self._publish(locked, state)
            self._add_events(epoch, epoch.finished)
        except OSError as error:
            raise locked.write_error(error) from error

    def record_studies(self, studies: Callable[[], SeenStudies]) -> None:
        """Record which studies the run sees, unless that is recorded.

        Args:
            studies: Builds the hashes; not called if there is nothing to record.

        Raises:
            XenonError: The file cannot be written.
        """
        assert self._locked is not None, "neither created nor resumed"
        if (self.folder / STUDIES_JSON).is_file():
            return
        try:
            self._locked.root.write_json(STUDIES_JSON, studies().to_json())
        except OSError as error:
            raise self._locked.write_error(error) from error

    def seen_studies(self) -> SeenStudies | None:
        """Read studies.json: see `seen_studies.read`."""
        return seen_studies.read(self.folder)

    def members(self) -> list[Checkpoint]:
        """Read best.json: see `checkpoints.read`."""
        return checkpoints.read(self.folder)

    def log(self) -> list[EpochRecord]:
        """Read log.csv: see `epoch_log.read`."""
        return epoch_log.read(self.folder / LOG_CSV)

    def close(self) -> None:
        """Close TensorBoard's events and unlock the folder."""
        self._events.close()
        if self._locked is not None:
            self._locked.close()

    @contextlib.contextmanager
    def _closing_on_failure(self) -> Iterator[None]:
        """Close the run after an exception, so that its folder is not left locked."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _lock(self) -> LockedFolder:
        self._locked = LockedFolder(self.folder, self.meta.model)
        return self._locked

    def _write_state(
        self,
        locked: LockedFolder,
        epoch: EpochRecord,
        last: TrainingState,
        ranked: Sequence[tuple[float, int]],
    ) -> StateMeta:
        """Write the files of an epoch, then state.json; return its content."""
        number, model = epoch.epoch, self.meta.model
        net_name, trainer_name = training_state.file_names(number)
        if number in [kept for _, kept in ranked]:
            name = checkpoints.file_name(model, number)
            parts = weight_files.encoded_parts(last.net)
            self._sums[number] = locked.params.write(name, parts)
        # One array at a time: all of them are three times the net.
        sums = {
            name: locked.last.write(name, weight_files.encoded_parts(arrays))
            for name, arrays in ((net_name, last.net), (trainer_name, last.trainer))
        }
        state = StateMeta(
            epoch=number,
            done=last.done,
            steps=last.steps,
            handlers=last.handlers,
            files=sums,
            best=[self._checkpoint(*pair) for pair in ranked],
            log=[*self.epochs, epoch],
        )
        locked.last.write_json(STATE_JSON, state.to_json())
        return state

    def _checkpoint(self, loss: float, epoch: int) -> Checkpoint:
        """Return the checkpoint of an epoch that was written by this run."""
        name = checkpoints.file_name(self.meta.model, epoch)
        return Checkpoint(loss, epoch, self.folder / PARAMS / name, self._sums[epoch])

    def _publish(self, locked: LockedFolder, state: StateMeta) -> None:
        """Write best.json and log.csv, and remove files that no longer belong."""
        locked.root.write_json(BEST_JSON, {"best": checkpoints.to_json(state.best)})
        locked.root.write(LOG_CSV, epoch_log.encode(self.epochs))
        params = {member.params.name for member in state.best}
        locked.remove_other_epochs(params, {*state.files})

    def _read_state(self) -> StateMeta:
        """Read state.json, and check the checkpoints that it names."""
        state = training_state.read_meta(self.folder)
        self.epochs = list(state.log)
        for member in state.best:
            member.check()
            self._sums[member.epoch] = member.sha256
        return state

    def _add_all_events(self) -> None:
        """Write the events of all finished epochs.

        An epoch of xenon 0.1.0, whose time was not recorded, gets the time of the first
        epoch whose time was, so that TensorBoard's times do not go back.
        """
        times = [epoch.finished for epoch in self.epochs if epoch.finished]
        for epoch in self.epochs:
            self._add_events(epoch, epoch.finished or min(times, default=None))

    def _add_events(self, epoch: EpochRecord, wall_time: float | None) -> None:
        """Write an epoch's finite values as TensorBoard events."""
        *numbers, _ = epoch
        scalars = {
            name: value
            for name, value in zip(epoch._fields[1:], numbers[1:])
            if math.isfinite(value)
        }
        self._events.add(epoch.epoch, scalars, wall_time)


def check_new(folder: Path) -> None:
    """Check that a run can be created at a path: nothing there, or an empty folder.

    Raises:
        XenonError: There is a run, a file, or a folder with other content.
    """
    name = text.folder_name(folder)
    if (folder / RUN_JSON).exists():
        raise XenonError(
            f"{name}: contains a run already: choose another folder, or resume the "
            f"run with --resume"
        )
    if (folder / FOLDS_JSON).exists():
        raise XenonError(
            f"{name}: contains folds already: choose another folder, or resume them "
            f"with --resume"
        )
    if folder.exists() and not folder.is_dir():
        raise XenonError(f"{folder}: is a file; name a folder for the run")
    # A process may have been killed before it had written run.json.
    leftover = RUN_JSON + ".partial"  # of xenon 0.1.0
    if folder.is_dir() and any(
        not (path.name == leftover or files.is_partial(path.name))
        for path in folder.iterdir()
    ):
        raise XenonError(f"{name}: is not empty; a run needs a folder of its own")
