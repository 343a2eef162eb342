"""What a path is that a command was given, where it is not what the command takes.

Owns how xenon's own files and folders, lists of images and data sets are told from one
another, and the error of arguments that were swapped or taken for another. Must not
know what a command does with them: whatever is missing or damaged is told there.
"""

from __future__ import annotations

import csv
import enum
from pathlib import Path
from typing import Sequence

from xenon_mx.data import headed_csv, manifest, mura
from xenon_mx.data.packed_folder import PACK_JSON, SPLITS
from xenon_mx.errors import XenonError
from xenon_mx.models import torch_config
from xenon_mx.runs.checkpoints import PARAMS
from xenon_mx.runs.folds_folder import OUT_OF_FOLD_CSV, is_folds
from xenon_mx.runs.run_meta import RUN_JSON
from xenon_mx.runs.training_state import LAST
from xenon_mx.runtime import text

_MOST_HEADER = 1 << 16  # bytes; chosen here
_TABLE = {"study", "probability"}  # the columns that every table of predictions has


class Kind(enum.Enum):
    """What a path is, in words."""

    RUN = "a run of xenon-train"
    FOLDS = "a cross-validation of xenon-train"
    PACKED = "a packed folder of xenon-pack"
    RECORDS = "a file of a packed folder"
    WEIGHTS = "a weight file"
    ONNX = "an ONNX file"
    TORCH = "a folder of weights for PyTorch"
    TABLE = "a table of predictions"
    LIST = "a list of images"
    FILE = "a file"
    DATA_SET = "a data set"
    EMPTY = "an empty folder"
    FOLDER = "a folder"
    NOTHING = "no such file or folder"


_SUFFIXES = {
    ".rec": Kind.RECORDS,
    ".idx": Kind.RECORDS,
    ".lst": Kind.RECORDS,
    ".params": Kind.WEIGHTS,
    ".safetensors": Kind.WEIGHTS,
    ".pth": Kind.WEIGHTS,
    ".onnx": Kind.ONNX,
}
_OF_IMAGES = (Kind.DATA_SET, Kind.LIST)
_MADE_BY_XENON = (
    *(Kind.RUN, Kind.FOLDS, Kind.PACKED, Kind.RECORDS),
    *(Kind.WEIGHTS, Kind.ONNX, Kind.TORCH, Kind.TABLE),
)


def what_is(path: Path) -> Kind:
    """Return what a path is; what cannot be read is `NOTHING`."""
    try:
        if path.is_dir():
            return _what_folder(path)
        if path.is_file():
            return _what_file(path)
    except (OSError, XenonError):
        pass
    return Kind.NOTHING


def _what_folder(folder: Path) -> Kind:
    if (folder / RUN_JSON).is_file():
        return Kind.RUN
    if is_folds(folder):
        return Kind.FOLDS
    if (folder / PACK_JSON).is_file():
        return Kind.PACKED
    if torch_config.is_folder(folder):
        return Kind.TORCH
    for split in mura.SPLITS:
        has_list = (folder / f"{split}_image_paths.csv").is_file()
        if has_list or any((folder / split).glob("XR_*")):
            return Kind.DATA_SET
    return Kind.FOLDER if any(folder.iterdir()) else Kind.EMPTY


def _what_file(file: Path) -> Kind:
    suffix = file.suffix.lower()
    if suffix != ".csv":
        return _SUFFIXES.get(suffix, Kind.FILE)
    if manifest.is_manifest(file):
        return Kind.LIST
    with open(file, "rb") as stream:
        line = stream.read(_MOST_HEADER).decode("utf-8-sig", "replace")
    first = line.split("\n", 1)[0].strip("\r")
    columns = next(csv.reader([first], delimiter=headed_csv.delimiter(first)), [])
    return Kind.TABLE if {*columns} >= _TABLE else Kind.LIST


def check_pack(source: Path, out: Path) -> None:
    """Check that SOURCE is no output of xenon, and OUT no run.

    Raises:
        XenonError: It is; or SOURCE is nothing, and OUT is not.
    """
    given, other = what_is(source), what_is(out)
    is_wrong = given in (*_MADE_BY_XENON, Kind.NOTHING, Kind.EMPTY)
    is_nothing = given in (Kind.NOTHING, Kind.EMPTY)
    if is_wrong and other in _OF_IMAGES or is_nothing and other is Kind.FOLDER:
        raise _wrong(source, given, "a data set", _mean("xenon-pack", out, source))
    if given is Kind.PACKED:
        advice = f"train on it with: {_command('xenon-train', source, 'RUN')}"
        raise _wrong(source, given, "a data set", advice)
    if given in _MADE_BY_XENON:
        raise _wrong(source, given, "a data set", "give the folder of the images")
    if other in (Kind.RUN, Kind.FOLDS):
        raise XenonError(
            f"{text.folder_name(out)}: is {other.value}: name another folder for OUT"
        )


def check_train(packed: Path, run: Path) -> None:
    """Check that PACKED is nothing else than a packed folder, as far as it exists.

    Raises:
        XenonError: It is something else, or RUN is the packed folder.
    """
    given, other = what_is(packed), what_is(run)
    wanted = "a packed folder"
    if given is Kind.PACKED:
        return
    if other is Kind.PACKED:
        raise _wrong(packed, given, wanted, _mean("xenon-train", run, packed))
    if given is Kind.RECORDS and what_is(packed.parent) is Kind.PACKED:
        command = _command("xenon-train", packed.parent, run)
        raise _wrong(packed, given, wanted, f"give the folder: {command}")
    if given in _OF_IMAGES:
        command = _command("xenon-pack", packed, "OUT")
        raise _wrong(packed, given, wanted, f"pack it first: {command}")
    if given in _MADE_BY_XENON:
        raise _wrong(packed, given, wanted, "give what xenon-pack wrote")


def check_predict(inputs: Sequence[Path], out: Path, runs: Sequence[Path]) -> None:
    """Check that INPUTs are images or lists of them, and `check_runs`.

    Raises:
        XenonError: One is something else, or INPUT and OUT were swapped.
    """
    check_runs(runs)
    wanted = "radiographs"
    of_runs = [word for run in runs for word in ("--run", run)]
    for path in inputs:
        given = what_is(path)
        if given in (Kind.NOTHING, Kind.TABLE) and len(inputs) == 1:
            if what_is(out) in (*_OF_IMAGES, Kind.RECORDS, Kind.FOLDER, Kind.FILE):
                meant = _mean("xenon-predict", out, path, *of_runs)
                raise _wrong(path, given, wanted, meant)
        if given is Kind.PACKED:
            rec = next((path / f"{s}.rec" for s in _splits_for_prediction(path)), path)
            command = _command("xenon-predict", rec, out, *of_runs)
            raise _wrong(
                path, given, wanted, f"give one of its record files: {command}"
            )
        if given is Kind.RECORDS and path.suffix != ".rec":
            name = text.shell_quote(path.with_suffix(".rec"))
            raise _wrong(path, given, wanted, f"give {name}")
        if given in (Kind.RUN, Kind.FOLDS, Kind.WEIGHTS, Kind.ONNX):
            advice = "name the run with --run, and give the images to predict"
            raise _wrong(path, given, wanted, advice)
        if given is Kind.TABLE:
            raise _wrong(path, given, wanted, "give the images to predict")


def check_runs(runs: Sequence[Path], are_exported: bool = False) -> None:
    """Check that paths are nothing else than runs or ONNX files, as far as they exist.

    Args:
        runs: The paths.
        are_exported: Whether an ONNX file is to be made of them, so that none is taken.

    Raises:
        XenonError: One is something else.
    """
    wanted = "a run"
    taken = {Kind.RUN, Kind.FOLDS, Kind.NOTHING}
    if not are_exported:
        taken.add(Kind.ONNX)
    for path in runs:
        given = what_is(path)
        if given in taken:
            continue
        within = _run_around(path)
        if within is not None:
            advice = f"give the whole run: {text.shell_quote(within)}"
            raise _wrong(path, given, wanted, advice)
        if given not in (Kind.FOLDER, Kind.EMPTY, Kind.FILE):
            advice = "give the folder that xenon-train wrote"
            raise _wrong(path, given, wanted, advice)


def check_decide(run: Path, table: Path) -> None:
    """Check that RUN is a run and TABLE a table of predictions, as far as they exist.

    Raises:
        XenonError: One is something else.
    """
    given, other = what_is(run), what_is(table)
    if given is not Kind.RUN and other is Kind.RUN:
        raise _wrong(run, given, "a run", _mean("xenon-decide", table, run))
    if given is Kind.ONNX:
        advice = "decide on the run that it was exported from, and export that anew"
        raise _wrong(run, given, "a run", advice)
    if given is Kind.FOLDS:
        raise _wrong(run, given, "a run", "a decision is about one run")
    check_runs([run])
    not_tables = (Kind.RUN, Kind.FOLDS, Kind.DATA_SET, Kind.PACKED, Kind.RECORDS)
    if other in not_tables:
        predict = _command("xenon-predict", table, "TABLE.csv", "--run", run)
        if other in (Kind.RUN, Kind.FOLDS, Kind.PACKED):
            predict = _command("xenon-predict", "INPUT", "TABLE.csv", "--run", run)
        raise _wrong(table, other, "a table of predictions", f"make one: {predict}")


def check_report(paths: Sequence[Path]) -> None:
    """Check that paths are runs or tables of predictions, as far as they exist.

    Raises:
        XenonError: One is something else that xenon knows.
    """
    for path in paths:
        given = what_is(path)
        if given is Kind.FOLDS:
            table = text.shell_quote(path / OUT_OF_FOLD_CSV)
            advice = f"give its table: {table}"
            raise _wrong(path, given, "a run or a table of predictions", advice)
        if given in (Kind.WEIGHTS, Kind.RECORDS, Kind.PACKED, Kind.DATA_SET):
            within = _run_around(path)
            advice = "give the folder of the run, or what xenon-predict wrote"
            if within is not None:
                advice = f"give the whole run: {text.shell_quote(within)}"
            raise _wrong(path, given, "a run or a table of predictions", advice)
    if len(paths) == 2 and what_is(paths[0]) is Kind.TABLE:
        # What --images wrote has a column 'image', as a manifest does.
        flags = {Kind.TABLE: "--against", Kind.LIST: "--images"}
        flag = flags.get(what_is(paths[1]))
        if flag:
            names = " and ".join(text.folder_name(path) for path in paths)
            mean = _mean("xenon-report", paths[0], flag, paths[1])
            raise XenonError(f"{names}: are two tables of predictions; {mean}")


def check_compared(against: Path | None, readers: Path | None) -> None:
    """Check that --against is no run, and --readers no table of predictions.

    Raises:
        XenonError: It is.
    """
    if against is not None and what_is(against) is Kind.RUN:
        command = _command("xenon-predict", "INPUT", "OUT.csv", "--run", against)
        advice = f"predict with it first: {command}"
        raise _wrong(against, Kind.RUN, "a table of predictions", advice)
    if readers is not None and what_is(readers) is Kind.TABLE:
        advice = "compare two tables with --against"
        raise _wrong(readers, Kind.TABLE, "a file of readers", advice)


def _wrong(path: Path, given: Kind, wanted: str, advice: str) -> XenonError:
    """Return the error of a path that is something else than wanted."""
    name = text.folder_name(path)
    if given is Kind.NOTHING:
        return XenonError(f"{name}: {given.value}; {advice}")
    return XenonError(f"{name}: is {given.value}, not {wanted}; {advice}")


def _mean(command: str, *arguments: Path | str) -> str:
    """Return the line with the arguments in their places; it lacks other flags."""
    return f"did you mean: {_command(command, *arguments)}"


def _command(command: str, *arguments: Path | str) -> str:
    return " ".join([command, *map(text.shell_quote, arguments)])


def _splits_for_prediction(packed: Path) -> list[str]:
    """Return the splits that a packed folder holds, the training images last."""
    order = sorted(SPLITS, key=lambda name: name == "train")
    return [name for name in order if (packed / f"{name}.rec").is_file()]


def _run_around(path: Path) -> Path | None:
    """Return the run that a checkpoint or a folder of a run is in."""
    names = (PARAMS, LAST)
    folder = path if path.name in names else path.parent
    is_within = folder.name in names and what_is(folder.parent) is Kind.RUN
    return folder.parent if is_within else None
