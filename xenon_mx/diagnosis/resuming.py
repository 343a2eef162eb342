"""The check that a training that is killed and resumed ends as one that is not.

Owns the three trainings, by the command that users run. Must not know what is in a
checkpoint.
"""

from __future__ import annotations

import csv
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from xenon_mx.diagnosis import packing
from xenon_mx.diagnosis.finding import Finding, Teller
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.errors import XenonError
from xenon_mx.runtime import files, mxnet, text
from xenon_mx.runtime.mxnet import mx

_EPOCHS = 2  # the first is saved, the second is killed
_POLL_S = 0.002
_COLUMNS = ("epoch", "train_loss", "val_loss", "lr")  # of log.csv, without times
# A GPU adds in no fixed order. Chosen here: a resumed training that had lost its
# optimizer's state differs by more than this share of the weights' norm.
_LIMIT = 1e-3


def check(subject: Subject, teller: Teller) -> None:
    """Train twice, once with a kill after the first epoch, and compare the bytes.

    Raises:
        XenonError: A training has failed.
    """
    folder = Path(subject.folder)
    whole, killed = folder / "run-whole", folder / "run-killed"
    teller.doing("training two short epochs")
    _end(_start(subject, whole))
    teller.doing("training them again, to be killed")
    was_killed = _kill_after_first_epoch(_start(subject, killed), killed)
    teller.doing("resuming")
    _end(_start(subject, killed, ["--resume"]))
    seen = "written, killed after its first epoch, resumed"
    if not was_killed:
        # Faster than the files can be looked at: an ordinary end is all there was.
        seen = "written (the training ended before it could be killed)"
    size = sum(file.stat().st_size for file in _files(whole))
    seen = f"{text.format_bytes(size)} {seen}"
    differing = _differing(whole, killed)
    if not differing:
        teller.found(Finding("checkpoint", f"{seen}: the same bytes"))
        return
    if all(name.startswith("gpu") for name in subject.devices):
        difference = _distance(whole, killed)
        wrong = "" if difference <= _LIMIT else f"{differing[0]} is not the same"
        seen += f": weights differ by {difference:.1e} (limit {_LIMIT:.1e})"
        teller.found(Finding("checkpoint", seen, wrong and _advice(wrong)))
        return
    words = f"{', '.join(differing)} not as without the kill"
    teller.found(Finding("checkpoint", seen, _advice(words)))


def _advice(words: str) -> str:
    return (
        f"{words}: --resume cannot be trusted here; test disk and memory of this "
        f"computer, and report this file"
    )


def _start(
    subject: Subject, run: Path, words: Sequence[str] = ()
) -> subprocess.Popen[str]:
    settings = [
        *("--model", subject.model, "--no-pretrained", "--epochs", str(_EPOCHS)),
        *("--batch-size", str(packing.few(subject)), "--ctx", subject.ctx),
    ]
    return subprocess.Popen(
        packing.command("train", [str(subject.small), str(run), *settings, *words]),
        env=mxnet.environment_of_child(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _end(process: subprocess.Popen[str]) -> None:
    """Wait for a training; raise an error if it has failed."""
    _, errors = process.communicate()
    if process.returncode:
        last = (errors.splitlines() or [f"status {process.returncode}"])[-1]
        raise XenonError(f"xenon-train has failed: {last}")


def _kill_after_first_epoch(process: subprocess.Popen[str], run: Path) -> bool:
    """Kill a training once it has saved an epoch; return whether it was running."""
    state = run / "last" / "state.json"  # is written last
    while process.poll() is None and not state.exists():
        time.sleep(_POLL_S)
    process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    if process.returncode == -signal.SIGKILL:
        return True
    if process.returncode:
        last = (errors.splitlines() or [f"status {process.returncode}"])[-1]
        raise XenonError(f"xenon-train has failed: {last}")
    return False


def _files(run: Path) -> list[Path]:
    """Return the files of a run that hold arrays."""
    found = [*(run / "params").iterdir(), *(run / "last").iterdir()]
    return sorted(file for file in found if file.suffix != ".json")


def _differing(one: Path, other: Path) -> list[str]:
    """Return what is not the same in two runs."""
    named = [
        {str(file.relative_to(run)): files.sha256(file) for file in _files(run)}
        for run in (one, other)
    ]
    names = sorted({*named[0], *named[1]})
    found = [name for name in names if named[0].get(name) != named[1].get(name)]
    return found if _log(one) == _log(other) else [*found, "log.csv"]


def _log(run: Path) -> list[list[str]]:
    with open(run / "log.csv", newline="") as stream:
        return [[row[name] for name in _COLUMNS] for row in csv.DictReader(stream)]


def _distance(one: Path, other: Path) -> float:
    """Return the norm of the difference of two runs' last weights, over theirs."""
    last = [sorted((run / "params").iterdir())[-1] for run in (one, other)]
    first, second = (_load(file) for file in last)
    apart = sum(np.square(first[key] - second[key]).sum() for key in first)
    return float(np.sqrt(apart / sum(np.square(first[key]).sum() for key in first)))


def _load(file: Path) -> dict[str, Any]:
    return {key: array.asnumpy() for key, array in mx.nd.load(str(file)).items()}
