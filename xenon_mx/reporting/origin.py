"""Where predictions come from: the record of their table, and the runs behind it.

Owns how the runs of a table are found, and which threshold holds. Must not know metrics
or what a page says of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Iterator, Sequence

from xenon_mx.config import THRESHOLD, ReportConfig
from xenon_mx.data import outputs
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.evaluation import provenance
from xenon_mx.evaluation.provenance import Provenance, Recorded, RunSource
from xenon_mx.evaluation.seen import BEGAN_ELSEWHERE, MAY_BE_SEEN, Seen
from xenon_mx.inference.onnx_metadata import is_onnx_file
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import RUN_JSON
from xenon_mx.runtime.text import one_line


@dataclass(frozen=True)
class Origin:
    """Where the predictions of a report come from.

    Attributes:
        recorded: The provenance of the table; None without a table.
        runs: The runs behind it that were found, or the run that was given.
        threshold: A sample is called abnormal if its probability is strictly above.
        is_threshold_known: Whether it was recorded or given.
        missing: What is missing of the training, in sentences.
    """

    recorded: Recorded | None
    runs: list[Run]
    threshold: float = THRESHOLD
    is_threshold_known: bool = False
    missing: list[str] = field(default_factory=list)

    @property
    def provenance(self) -> Provenance | None:
        """Return the provenance of the table, if it is known."""
        return self.recorded.provenance if self.recorded else None

    @property
    def seen(self) -> Seen | None:
        """Return what the nets have seen of the studies, if that is known."""
        found = self.provenance
        return found.seen if found and found.seen.is_known else None

    @property
    def identities(self) -> list[str]:
        """Return what identifies the runs, found or not."""
        if self.provenance:
            return sorted(run.identity for run in self.provenance.ensemble.runs)
        return [run.identity for run in self.runs]

    @property
    def used_twice(self) -> str:
        """Return a warning if a decision was made on the studies, else nothing."""
        decision = self.provenance.decision if self.provenance else None
        return decision.warning if decision and decision.is_used_twice else ""

    @property
    def is_from_elsewhere(self) -> bool:
        """Return whether a net was not trained here."""
        if self.provenance:
            return self.provenance.data.is_from_elsewhere
        return any(run.meta.is_from_elsewhere for run in self.runs)

    @property
    def elsewhere_warnings(self) -> list[str]:
        """Return a sentence if any study may have trained a net."""
        if self.provenance:
            warning = self.provenance.data.warning
            return [warning] if warning else []
        if self.is_from_elsewhere:
            return [MAY_BE_SEEN]
        began = any(run.meta.began_elsewhere for run in self.runs)
        return [BEGAN_ELSEWHERE] if began else []

    @property
    def study_types(self) -> set[str] | None:
        """Return the study types that the nets were trained on; None if unknown."""
        if self.is_from_elsewhere:
            return None
        if self.provenance:
            return set(self.provenance.data.study_types)
        return set(self.runs[0].meta.study_types) if self.runs else None

    @property
    def validated_on(self) -> str | None:
        """Return the split that chose the checkpoints; None if unknown."""
        if self.provenance and self.provenance.data.validated_on:
            return self.provenance.data.validated_on
        validated = self.runs[0].meta.validated_on if self.runs else None
        return validated.split if validated else None

    @property
    def title(self) -> str:
        """Return the title of the page."""
        if len(self.runs) == 1:
            run = self.runs[0]
            return f"{run.meta.model}: {one_line(run.folder.resolve().name)}"
        if self.provenance:
            names = [run.name for run in self.provenance.ensemble.runs]
            models = {m.model for m in self.provenance.ensemble.members}
            return one_line(f"{', '.join(sorted(models))}: {', '.join(names)}")
        return "Predictions of an unknown ensemble"


def recognise(config: ReportConfig) -> ReportConfig:
    """Return the arguments with the run and the table in their places.

    They are recognised by what they are: a run is a folder.

    Raises:
        XenonError: Instead of a run, there is an ONNX file.
    """
    first, second = config.run, config.predictions
    if first is not None and first.suffix.lower() == ".onnx" and is_onnx_file(first):
        raise XenonError(
            f"{first}: an ONNX file has no training history: give the table alone, "
            f"whose record names the file"
        )
    if first is None or not _is_table(first):
        return config
    if second is None:
        return replace(config, run=None, predictions=first)
    if second.is_dir():
        return replace(config, run=second, predictions=first)
    return config


def _is_table(path: Path) -> bool:
    return path.is_file() or (path.suffix.lower() == ".csv" and not path.is_dir())


def find(config: ReportConfig) -> Origin:
    """Find the runs behind a table, or open the run of a report without a table.

    Args:
        config: The arguments of `xenon-report`, as `recognise` returns them.

    Raises:
        XenonError: The run that was given did not predict the table, or cannot be
            opened.
        ConfigError: The threshold that was given is not that of the table.
    """
    given = Run.open(config.run) if config.run is not None else None
    if config.predictions is None:
        assert given is not None, "a report is of a run or of a table"
        return Origin(None, [given])
    recorded = provenance.read(config.predictions)
    threshold, is_known = _threshold(config, recorded.provenance)
    if recorded.provenance is None:
        runs, missing = [given] if given else [], []
        if not given:
            missing = ["Which run predicted is not known: its training is not shown."]
        return Origin(recorded, runs, threshold, is_known, missing)
    runs, missing = _runs_of(recorded.provenance, config, given)
    return Origin(recorded, runs, threshold, is_known, missing)


def _threshold(config: ReportConfig, found: Provenance | None) -> tuple[float, bool]:
    """Return the threshold of the table, and whether it is known."""
    given = config.threshold
    if found is None:
        return (THRESHOLD, False) if given is None else (given, True)
    if given not in (None, found.threshold):
        raise ConfigError(
            "--threshold",
            f"{config.predictions} was made with {found.threshold:g}, not {given:g}, "
            f"as its record says: omit the flag",
        )
    return found.threshold, True


def _runs_of(
    found: Provenance, config: ReportConfig, given: Run | None
) -> tuple[list[Run], list[str]]:
    """Return the runs behind a table that can be found, and what is missing."""
    if given is not None and not _has_predicted(given, found):
        raise XenonError(
            f"{config.predictions}: was predicted by {found.ensemble}, not by "
            f"{given.folder}: give the table alone, or its own run"
        )
    assert config.predictions is not None
    folder = os.path.realpath(config.predictions.parent)
    runs, missing = [], []
    for source in found.ensemble.runs:
        name = one_line(source.name)
        if source.kind == "onnx":
            if given is None:
                missing.append(
                    f"{name} is an ONNX file, which holds no training history: give "
                    f"the run that it was exported from to see it."
                )
            continue
        run = given if given and given.identity == source.identity else None
        run = run or _open_if_same(_as_typed(folder, source.path), source)
        if run is None:
            missing.append(
                f"The run {name} was not found at {one_line(source.path)}, seen from "
                f"the table: its training history is missing."
            )
        else:
            runs.append(run)
    if given is not None and not runs:  # what an ONNX file was exported from
        runs.append(given)
    missing += _changed(found, runs)
    return runs, missing


def _has_predicted(run: Run, found: Provenance) -> bool:
    """Return whether members of a run predicted, by themselves or within ONNX."""
    ensemble = found.ensemble
    if run.identity in {source.identity for source in ensemble.runs}:
        return True
    if outputs.made_from({"runs": [run.identity]}) == ensemble.runs[0].identity:
        return True
    kept = {member.sha256 for member in run.members()}
    is_onnx = ensemble.runs[0].kind == "onnx"
    return is_onnx and bool(kept & {member.sha256 for member in ensemble.members})


def _as_typed(folder: str, path: str) -> Path:
    """Return a path in a folder as a user would type it in the working directory."""
    whole = Path(os.path.normpath(os.path.join(folder, path)))
    try:
        return whole.relative_to(os.path.realpath(os.curdir))
    except ValueError:
        return whole


def _open_if_same(folder: Path, source: RunSource) -> Run | None:
    """Return the run in a folder; None if it is not there, or is another one."""
    try:
        if not (folder / RUN_JSON).is_file():
            return None
        run = Run.open(folder)
    except (OSError, ValueError, XenonError):
        return None
    return run if run.identity == source.identity else None


def _changed(found: Provenance, runs: Sequence[Run]) -> Iterator[str]:
    """Yield a sentence for each run that has other checkpoints by now."""
    by_run = {source.identity: i for i, source in enumerate(found.ensemble.runs)}
    for run in runs:
        number = by_run.get(run.identity)
        used = {m.sha256 for m in found.ensemble.members if m.run == number}
        if used - {member.sha256 for member in run.members()}:
            yield (
                f"The run {one_line(run.folder.resolve().name)} was trained further "
                f"since: checkpoints that predicted are no longer among its best."
            )
