"""The end of a training: what the ensemble makes of the split that chose its members.

Owns RUN/validation.csv, and RUN/left-out.csv in the run of a fold: when a table is due,
and the process that writes it. That process is an xenon-predict of its own, so that the
digits are those that xenon-predict would give: MXNet divides the cores between nets
before it is loaded, and training has loaded it already.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
from pathlib import Path

from xenon_mx.commands import resume_line
from xenon_mx.config import MEMBERS, THRESHOLD, TrainConfig
from xenon_mx.data import output_records, packed_folder
from xenon_mx.errors import XenonError
from xenon_mx.evaluation import provenance
from xenon_mx.runs.run_folder import LEFT_OUT_CSV, TABLES, VALIDATION_CSV, Run
from xenon_mx.runtime import devices, mxnet, progress, signals

_log = logging.getLogger(__name__)


def table(run: Path) -> Path:
    """Return the path of a run's validation.csv."""
    return run / VALIDATION_CSV


def check_replaceable(folder: Path) -> None:
    """Check, before a run is resumed, that its tables may be written anew.

    Raises:
        XenonError: A file was changed since xenon wrote it.
    """
    for name in TABLES:
        check_own(folder / name)


def check_own(file: Path) -> None:
    """Check that a table that training will replace, if it is there, is xenon's own.

    Raises:
        XenonError: The file was changed since xenon wrote it.
    """
    if not file.exists():
        return
    reason = output_records.read_notes(file).reason
    if reason:
        raise XenonError(
            f"{file}: would be replaced at the end of training, but {reason}: move it "
            f"to another folder"
        )


def predict_if_due(
    config: TrainConfig,
    bar: progress.Bar = progress.silent,
    name: str = VALIDATION_CSV,
    again: TrainConfig | None = None,
) -> None:
    """Write a table of a run, unless it is there and of the run's own members.

    Args:
        config: The settings that the run was trained with.
        bar: If it is `progress.silent`, nothing is printed; else standard error has
            what xenon-predict prints.
        name: The table: of the split that chose the checkpoints, or LEFT_OUT_CSV, of
            `valid` in the packed folder of a fold.
        again: The settings of the command that the user repeats after an error; by
            default those of the run.

    Raises:
        XenonError: The prediction failed. The run is complete without it.
    """
    if is_due(config.run, name):
        _predict(config, bar is progress.silent, name, again or config)


def untouched_rec(packed: Path, run: Path) -> Path | None:
    """Return the .rec file of `valid`, if it did not choose a run's checkpoints."""
    meta, rec = Run.open(run).meta, packed / "valid.rec"
    is_untouched = meta.validated_on and meta.validated_on.split != "valid"
    return rec if is_untouched and rec.is_file() else None


def is_due(folder: Path, name: str = VALIDATION_CSV) -> bool:
    """Return whether a table of a run is missing, or of other members."""
    recorded = provenance.read(folder / name).provenance
    if recorded is None:
        return True
    members = Run.open(folder).members()[:MEMBERS]
    return recorded.ensemble.sums() != sorted(member.sha256 for member in members)


def _predict(
    config: TrainConfig, is_silent: bool, name: str, again: TrainConfig
) -> None:
    """Predict the split of a table, in a process of its own."""
    out = config.run / name
    command = _command(config, out)
    by = "the ensemble of the best epochs" if config.epochs else "the run's net"
    _log.info("predicting %s, by %s", command[-2], by)
    status, errors = _run(command, is_silent)
    if status:
        line = resume_line.resume_line(["xenon-train"], again.packed, again.run)
        raise XenonError(
            f"{out}: could not be written; the run itself is complete; to try again: "
            + line,
            errors,
        )


def _run(command: list[str], is_silent: bool) -> tuple[int, list[str]]:
    """Run a command; return its exit status, and what it printed if it is silent."""
    devices.release_memory()  # of the net that was trained
    with contextlib.ExitStack() as stack:
        with signals.deferred():
            child = subprocess.Popen(
                command,
                env=mxnet.environment_of_child(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE if is_silent else None,
                # Ctrl-C reaches this process alone, which ends the other silently.
                start_new_session=True,
            )
            stack.callback(child.wait)
            stack.callback(child.kill)  # no effect if it has ended
        _, errors = child.communicate()
    return child.returncode, (errors or b"").decode(errors="replace").splitlines()


def _command(config: TrainConfig, out: Path) -> list[str]:
    """Return the command line of the prediction."""
    packed = packed_folder.open_packed(config.packed)
    split = "valid" if out.name == LEFT_OUT_CSV else packed.validation_split
    rec = config.packed / f"{split}.rec"
    # A run that is resumed may have a decision about its former members.
    options = [f"--run={config.run}", f"--threshold={THRESHOLD}"]
    ctx = config.ctx or devices.last_chosen()
    if ctx is not None:
        options.append(f"--ctx={ctx}")
    if config.reference:
        options.append("--reference")
    # What fits into a device's memory in training fits in prediction.
    batch_size = min(config.batch_size, TrainConfig.batch_size)
    options.append(f"--batch-size={batch_size}")
    xenon = [sys.executable, "-m", "xenon_mx"]
    return [*xenon, "predict", *options, "--", str(rec), str(out)]
