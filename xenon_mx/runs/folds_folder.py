"""A folder of folds: the runs of a cross-validation, and folds.json, which names them.

Owns folds.json, the names in the folder, and the lock on it. Must not know how patients
fall into folds, how a run is trained, or what it predicts.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Iterator, Mapping

from xenon_mx.errors import XenonError, os_error
from xenon_mx.evaluation.provenance import TrainingData
from xenon_mx.runs.run_folder import FOLDS_JSON, Run
from xenon_mx.runs.run_meta import RUN_JSON, DataMeta, damaged
from xenon_mx.runtime import files, text
from xenon_mx.settings import AnyPath

OUT_OF_FOLD_CSV = "out-of-fold.csv"  # in the folder: of all folds together
_FORMAT = 1  # raised when an older xenon would misread the new content


@dataclass(frozen=True)
class FoldRun:
    """The run of one fold.

    Attributes:
        run: The name of its folder.
        identity: What identifies the run; None until the fold is complete.
    """

    run: str
    identity: str | None = None


@dataclass(frozen=True)
class FoldsMeta:
    """The content of folds.json.

    Attributes:
        shared: The data that were cut into folds, as a run on all of them would record
            them: the folds' runs have other data and weights, each its own.
        images: The number of these images.
        seed: Of the hash by which patients fall into folds.
        settings: The settings of `xenon-train`, `config` in the file.
        runs: Fold 1, 2, ....
    """

    shared: DataMeta
    images: int
    seed: int
    settings: Mapping[str, Any]
    runs: tuple[FoldRun, ...]

    @property
    def training_data(self) -> TrainingData:
        """Return what a table records of the data: each fold tunes on its holdout."""
        shared = self.shared
        return TrainingData(shared.data, shared.study_types, "train", "holdout")

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> FoldsMeta:
        """Parse a JSON object; KeyError, TypeError or ValueError if it is not valid."""
        if content["format"] != _FORMAT:
            raise ValueError("not of this format")
        runs = tuple(FoldRun(str(e["run"]), e["identity"]) for e in content["runs"])
        if len(runs) != content["folds"] or not all(
            Path(each.run).name == each.run for each in runs
        ):
            raise ValueError("the runs are not those of the folds")
        return cls(
            shared=DataMeta.from_json(content),
            images=int(content["images"]),
            seed=int(content["seed"]),
            settings=dict(content["config"]),
            runs=runs,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        shared = self.shared
        return {
            "format": _FORMAT,
            "folds": len(self.runs),
            "seed": self.seed,
            "data": shared.data,
            "images": self.images,
            "study_types": list(shared.study_types),
            "weights": [list(pair) for pair in shared.weights],
            "preprocessing": shared.preprocessing.to_json(),
            "config": dict(self.settings),
            "runs": [{"run": e.run, "identity": e.identity} for e in self.runs],
        }


def run_name(fold: int) -> str:
    """Return the name of the run of a fold, from 1."""
    return f"fold-{fold}"


def packed_name(fold: int) -> str:
    """Return the name of the packed folder of a fold, while it is needed."""
    return f"packed-{fold}"


def is_folds(folder: AnyPath) -> bool:
    """Return whether a folder is one of folds."""
    return (Path(folder) / FOLDS_JSON).is_file()


def read(folder: AnyPath) -> FoldsMeta:
    """Read folds.json.

    Raises:
        XenonError: The folder has none, or it is damaged.
    """
    path = Path(folder) / FOLDS_JSON
    if not path.is_file():
        name = text.folder_name(Path(folder))
        is_run = (Path(folder) / RUN_JSON).is_file()
        raise XenonError(
            f"{name}: is a single run: resume it without --folds"
            if is_run
            else f"{name}: holds no folds: it has no {FOLDS_JSON}; make them with "
            f"xenon-train PACKED RUN --folds 5"
        )
    content = files.read_json(path)
    try:
        return FoldsMeta.from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path) from error


def open_runs(folder: Path) -> tuple[FoldsMeta, list[Run]]:
    """Open the runs of complete folds, in the order of the folds.

    Raises:
        XenonError: A fold is not complete, or its run is not there, or is another one.
    """
    meta = read(folder)
    runs = []
    for number, each in enumerate(meta.runs, 1):
        if each.identity is None:
            packed = text.shell_quote(str(meta.settings["packed"]))
            raise XenonError(
                f"{text.folder_name(folder)}: fold {number} of {len(meta.runs)} is not "
                f"complete; continue with: xenon-train {packed} "
                f"{text.shell_quote(folder)} --resume"
            )
        run = Run.open(folder / each.run)
        if run.identity != each.identity:
            raise XenonError(
                f"{run.folder}: is another run than {folder / FOLDS_JSON} names: put "
                f"the run of fold {number} back"
            )
        runs.append(run)
    return meta, runs


class FoldsFolder:
    """A folder of folds that one process holds while it trains them.

    Attributes:
        path: The folder.
        meta: The content of folds.json.
    """

    def __init__(self, path: Path, meta: FoldsMeta, folder: files.Folder) -> None:
        self.path, self.meta = path, meta
        self._folder = folder

    def complete(self, fold: int, run: Run) -> None:
        """Record in folds.json that a fold is complete.

        Raises:
            XenonError: The file cannot be written.
        """
        runs = list(self.meta.runs)
        runs[fold - 1] = replace(runs[fold - 1], identity=run.identity)
        self.meta = replace(self.meta, runs=tuple(runs))
        self.write()

    def write(self) -> None:
        """Write folds.json.

        Raises:
            XenonError: The file cannot be written.
        """
        try:
            self._folder.write_json(FOLDS_JSON, self.meta.to_json())
        except OSError as error:
            raise os_error(self.path / FOLDS_JSON, error) from error

    def undo(self) -> None:
        """Remove folds.json and the folder, if nothing else is in it."""
        with contextlib.suppress(OSError):
            self._folder.remove(FOLDS_JSON)
            self.path.rmdir()


@contextlib.contextmanager
def hold(path: Path, meta: FoldsMeta, is_new: bool) -> Iterator[FoldsFolder]:
    """Lock a folder of folds, and write folds.json.

    Args:
        path: The folder; created if it is new.
        meta: The content of folds.json.
        is_new: Whether nothing may be there yet.

    Raises:
        XenonError: Another process has it, or it cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            if is_new:
                path.mkdir(parents=True, exist_ok=True)
            folder = files.Folder(path)
        except OSError as error:
            raise os_error(path, error) from error
        stack.callback(folder.close)
        if not folder.lock():
            raise XenonError(f"{path}: another process trains its folds")
        if is_new:
            check_new(path)  # another process may have used it meanwhile
        held = FoldsFolder(path, meta, folder)
        held.write()
        yield held


def check_new(path: Path) -> None:
    """Check that folds can be trained at a path: nothing there, or an empty folder.

    Raises:
        XenonError: There is something else.
    """
    name = text.folder_name(path)
    if path.exists() and not path.is_dir():
        raise XenonError(f"{path}: is a file; name a folder for the folds")
    if is_folds(path):
        raise XenonError(
            f"{name}: contains folds already: choose another folder, or resume them "
            f"with --resume"
        )
    if path.is_dir() and any(not files.is_partial(p.name) for p in path.iterdir()):
        raise XenonError(f"{name}: is not empty; folds need a folder of their own")
