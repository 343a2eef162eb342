"""The check that images can be packed on this disk, by the command that users run.

Owns the two packed folders that the other checks read. Must not know those checks.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Sequence

from xenon_mx.diagnosis import drawn_images
from xenon_mx.diagnosis.finding import Finding, Teller
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.errors import XenonError, os_error
from xenon_mx.runtime import mxnet, text

# Chosen here: enough for every step that is timed, and for two dozen decoding threads;
# no more than can be drawn and packed in a few seconds.
_STEPS, _MOST = 24, 768
_FEW = 4  # images of an epoch that is to be short, unless the devices need more

# A command of xenon as a process; the search path is this process's.
_COMMAND = """
import sys
sys.path[:] = {path!r}
from xenon_mx import main
main.{name}()
"""


def few(subject: Subject) -> int:
    """Return how many images suffice for one step: an even number, alike per device."""
    devices = max(1, len(subject.devices))
    per_device = -(-_FEW // devices)
    return devices * (per_device + devices * per_device % 2)


def command(name: str, words: Sequence[str]) -> list[str]:
    """Return the words that run a command, such as `pack`, as a process."""
    return [sys.executable, "-c", _COMMAND.format(path=sys.path, name=name), *words]


def check(subject: Subject, teller: Teller) -> dict[str, Any]:
    """Draw images and pack them twice; tell whether the bytes are the same.

    Returns:
        `bytes_per_record`, the mean size of a record.

    Raises:
        XenonError: The images cannot be written, or xenon-pack fails.
    """
    batch = subject.batch_size
    train = max(min(_STEPS * batch, _MOST), batch)
    train += train % 2
    folder = Path(subject.folder)
    for packed, numbers in (
        (subject.large, (train, few(subject))),
        (subject.small, (few(subject), few(subject))),
    ):
        source = folder / f"images-of-{packed.name}"
        teller.doing(f"drawing {text.counted(sum(numbers), 'image')}")
        try:
            drawn_images.write(source, subject.size, *numbers)
        except OSError as error:
            raise os_error(error.filename or source, error) from error
        teller.doing("packing them")
        _pack(subject, source, packed)
    teller.doing("packing the few again")
    again = folder / "packed-again"
    _pack(subject, folder / f"images-of-{subject.small.name}", again)
    differing = [
        file.name
        for file in sorted(subject.small.iterdir())
        if file.read_bytes() != (again / file.name).read_bytes()
    ]
    size = (subject.large / "train.rec").stat().st_size
    wrong = (
        f"{', '.join(differing)} has other bytes the second time: the disk or the "
        f"memory of this computer is not reliable; test both"
    )
    seen = (
        f"{text.counted(train, 'image')} of {text.format_bytes(size / train)}; the "
        f"same again when packed again"
    )
    teller.found(Finding("packing", seen, wrong if differing else ""))
    return {"bytes_per_record": size / train}


def _pack(subject: Subject, source: Path, packed: Path) -> None:
    words = [str(source), str(packed), "--size", str(subject.size)]
    done = subprocess.run(
        command("pack", words),
        env=mxnet.environment_of_child(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.splitlines() or ["no message"]
        raise XenonError(f"xenon-pack has failed: {lines[-1]}")
