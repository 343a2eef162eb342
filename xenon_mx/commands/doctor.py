"""xenon-doctor: what this computer can do with xenon, found out by doing it.

Owns the order of the checks, what each needs of the others, and the file. Must not know
how a check is done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

from xenon_mx.config import DoctorConfig
from xenon_mx.data import outputs
from xenon_mx.data.output_records import LastLineRecord
from xenon_mx.diagnosis import isolated, machine, privacy
from xenon_mx.diagnosis.finding import Finding, unchecked
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.models import net_names
from xenon_mx.runtime import devices, gpu_probe, progress, text
from xenon_mx.runtime.staging import Staging

# The checks, each a module of `diagnosis`, in the order of their lines, and what
# each is called in docs/doctor.md.
_CHECKS = {
    "libraries": "MXNet",
    "agreement": "logits, gradients, BatchNorm's statistics",
    "mixed": "--amp",
    "packing": "packing",
    "records": "records",
    "speed": "training",
    "decoding": "decoding",
    "resuming": "checkpoint",
    "disk_speed": "disk",
}
# Those that need no device, and those that read what was packed.
_NEEDS_NO_DEVICE = ("libraries", "packing", "records", "disk_speed")
_NEEDS_PACKED = ("records", "speed", "decoding", "resuming")
# A library that compiles all its kernels for a GPU is silent for as long.
_SILENCE_S = {"libraries": gpu_probe.LIMIT_S + 60.0}


class Report(NamedTuple):
    """What was found.

    Attributes:
        lines: One per fact or finding, and a last one that sums them up, or that says
            which check runs.
        is_well: Whether nothing is wrong.
    """

    lines: list[str]
    is_well: bool


def doctor(
    config: DoctorConfig,
    bar: progress.Bar = progress.silent,
    write: Callable[[str], None] = lambda line: None,
) -> Report:
    """Check this computer, and write the report.

    Args:
        config: The settings of `xenon-doctor`.
        bar: Shows the checks done.
        write: Receives each line as soon as it is known.

    Raises:
        ConfigError: There is no such net or device, or a batch has too few images for
            all devices.
        XenonError: The file cannot be written.
    """
    if config.model not in net_names.NAMES:
        raise ConfigError("--model", net_names.unknown(config.model))
    ctx = None if config.ctx is None else devices.parse_ctx(config.ctx)
    if ctx is not None:
        devices.check_batch_size(config.batch_size, len(ctx))
    output = outputs.Output(config.out, "-o", (".txt",), LastLineRecord())
    files = outputs.Outputs("xenon-doctor", [output], config.overwrite)
    subject = {
        "model": config.model,
        "size": config.size,
        "batch_size": config.batch_size,
        "ctx": ctx,
    }
    files.claim(outputs.made_from(subject), [])

    def save(lines: Sequence[str]) -> None:
        files.write({config.out: ("\n".join(lines) + "\n").encode()})

    out = config.out.resolve()  # a link leads to the disk to check
    # Locks the folder, and removes what a doctor that was killed has left there.
    with Staging(out.parent, out.name) as staging:
        try:
            return _Checks(config, staging.folder, bar, write, save).run()
        except ConfigError:  # of what the first check has found: nothing was checked
            config.out.unlink(missing_ok=True)
            raise


class _Checks:
    """The checks of one report, with what they have found so far."""

    def __init__(
        self,
        config: DoctorConfig,
        folder: Path,
        bar: progress.Bar,
        write: Callable[[str], None],
        save: Callable[[Sequence[str]], None],
    ) -> None:
        self._config, self._bar, self._write = config, bar, write
        self._folder, self._save = folder, save
        self._hider = privacy.Hider(folder)
        self._lines: list[str] = []
        self._running = "the first lines"
        self._wrong = self._unchecked = 0
        self._subject = Subject(
            config.model, config.size, config.batch_size, (), str(folder)
        )
        self._known: dict[str, Any] = {}  # what the checks have returned

    def run(self) -> Report:
        """Run every check that can be run."""
        start = time.monotonic()
        self._tell(
            f"xenon-doctor --model {self._config.model} --size {self._config.size} "
            f"--batch-size {self._config.batch_size}"
        )
        for finding in machine.facts(self._folder):
            self._found(finding)
        options = {"total": len(_CHECKS), "unit": "check", "desc": "checking"}
        with self._bar(**options, miniters=0) as shown:

            def doing(what: str) -> None:
                shown.set_description_str(what, refresh=False)
                shown.update(0)  # redrawn if it is time

            for name in _CHECKS:
                self._check(name, doing)
                shown.update()
        seconds = time.monotonic() - start
        summary = "all ok"
        if self._wrong:
            summary = text.counted(self._wrong, "line is wrong", "lines are wrong")
        if self._unchecked:
            summary += f", {self._unchecked} not checked"
        last = f"{summary}; {seconds:.0f} s"
        self._lines.append(last)
        self._save(self._lines)
        self._write(last)
        return Report(self._lines, not self._wrong)

    def _check(self, name: str, doing: Callable[[str], None]) -> None:
        """Run a check, or tell why it is not run."""
        title = _CHECKS[name]
        missing = self._missing(name)
        if missing:
            self._found(unchecked(title, f"it needs {missing}"))
            return
        self._running = title
        self._save_unfinished()
        returned = isolated.run(
            name,
            title,
            self._subject,
            doing,
            self._found,
            _SILENCE_S.get(name, isolated.SILENCE_S),
            **self._options(name),
        )
        self._known.update(returned or {}, **{name: returned is not None})
        if name == "libraries" and returned is not None:
            usable = tuple(returned["devices"])
            devices.check_batch_size(self._config.batch_size, len(usable))
            self._subject = dataclasses.replace(self._subject, devices=usable)

    def _missing(self, name: str) -> str:
        """Return what a check needs and does not have; empty if nothing."""
        if name != "libraries" and not self._known["libraries"]:
            return "MXNet"
        if name not in _NEEDS_NO_DEVICE and not self._subject.devices:
            return "a device that can be used"
        if name in _NEEDS_PACKED and not self._known.get("packing"):
            return "the records, which could not be packed"
        if name == "decoding" and "images_per_s" not in self._known:
            return "the rate of training"
        return ""

    def _options(self, name: str) -> dict[str, Any]:
        """Return the further arguments of a check."""
        rate = self._known.get("images_per_s")
        if name == "libraries":
            return {"ctx": self._config.ctx}
        if name == "decoding":
            return {"images_per_s": rate}
        if name == "disk_speed":
            size = self._known.get("bytes_per_record")
            return {"bytes_per_s": rate * size if rate and size else None}
        return {}

    def _found(self, finding: Finding) -> None:
        self._wrong += bool(finding.wrong)
        self._unchecked += finding.is_open
        self._tell(finding.line)

    def _tell(self, line: str) -> None:
        line = re.sub(r"\s+", " ", self._hider.paths(line))
        self._lines.append(line)
        self._save_unfinished()
        self._write(line)

    def _save_unfinished(self) -> None:
        """Save what is known, in case this computer freezes or a signal ends it all."""
        # A disk that is full may be what the next line is about; the last save, which
        # raises its error, is that of the whole report.
        with contextlib.suppress(XenonError):
            self._save([*self._lines, f"not finished; in progress: {self._running}"])
