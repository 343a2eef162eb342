"""Where a table of predictions comes from: what its record says of its making.

Owns the content of `provenance` in `OUT.csv.json`, its checks, and how an ensemble is
named. Must not know run folders, nets or pages.

Nothing in it identifies a patient that the table does not: INPUTs are counted by kind,
not named, the paths of the runs are relative to the table, and images that were left
out have the names that they would have there.
"""

from __future__ import annotations

import os
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Mapping, NamedTuple, TypeVar

from xenon_mx.data import output_records
from xenon_mx.errors import XenonError
from xenon_mx.evaluation.applied_decision import AppliedDecision
from xenon_mx.evaluation.left_out import LeftOut
from xenon_mx.evaluation.seen import (
    BEGAN_ELSEWHERE,
    ELSEWHERE,
    MAY_BE_SEEN,
    Seen,
)
from xenon_mx.runtime import text

KEY, ENSEMBLE_KEY = "provenance", "ensemble"  # in a record, and in maps.json
FORMAT = 1  # raised when an older xenon would misread the new content

T = TypeVar("T")
# What a JSON value may be, by the annotation of its field.
_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "float": (int, float),
    "tuple[str, ...]": (list,),
    "Mapping[str, Any]": (dict,),
}


@dataclass(frozen=True)
class RunSource:
    """A run, or an ONNX file, that members come from.

    Attributes:
        kind: `run` or `onnx`.
        name: The name of its folder, or of the file.
        path: Its path; in a record relative to the folder of the record.
        identity: What identifies it, see `ensembles.Ensemble.identities`.
    """

    kind: str
    name: str
    path: str
    identity: str


@dataclass(frozen=True)
class MemberSource:
    """A member; `run` is the index of its run in the ensemble's, from 0."""

    run: int
    model: str
    epoch: int
    loss: float
    params: str
    sha256: str


@dataclass(frozen=True)
class EnsembleSource:
    """The members that predicted, the lowest validation loss first, and their runs.

    Attributes:
        runs: The runs.
        members: The members.
        is_out_of_fold: Whether each study was predicted by the members of one run, that
            of its fold, in place of the mean of all.
    """

    runs: tuple[RunSource, ...]
    members: tuple[MemberSource, ...]
    is_out_of_fold: bool = False

    @classmethod
    def from_json(cls, content: Any) -> EnsembleSource:
        """Parse a JSON object; KeyError, TypeError or ValueError if it is not valid."""
        runs = tuple(_parse(RunSource, each) for each in content["runs"])
        members = tuple(_parse(MemberSource, each) for each in content["members"])
        if not runs or not members:
            raise ValueError("an ensemble has runs and members")
        return cls(runs, members, content.get("is_out_of_fold", False) is True)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        content = asdict(self)
        if not self.is_out_of_fold:
            del content["is_out_of_fold"]
        return content

    def beside(self, file: Path) -> EnsembleSource:
        """Return the same ensemble with paths relative to the folder of a file."""
        folder = os.path.realpath(file.parent)
        runs = (
            replace(run, path=os.path.relpath(os.path.realpath(run.path), folder))
            for run in self.runs
        )
        return replace(self, runs=tuple(runs))

    def has_members_of(self, other: EnsembleSource) -> bool:
        """Return whether both are of the same members, wherever their runs are."""
        is_same_use = self.is_out_of_fold == other.is_out_of_fold
        return is_same_use and self.sums() == other.sums()

    def sums(self) -> list[str]:
        """Return the SHA-256 of the members' params, in alphabetical order."""
        return sorted(member.sha256 for member in self.members)

    def __str__(self) -> str:
        """Return the members by their runs, such as `2 members of run a (epochs 3, 1)`.

        Of an ONNX file, whose members may be of several runs, without the epochs.
        """
        members = f"{text.counted(len(self.members), 'member')} of"
        names = ", ".join(run.name for run in self.runs)
        if self.runs[0].kind == "onnx":
            return f"{members} {names}"
        if len(self.runs) == 1:
            return f"{members} run {names} ({self._epochs(0)})"
        by_run = (
            f"{run.name}: {self._epochs(number)}"
            for number, run in enumerate(self.runs)
        )
        runs = f"{members} runs {names} ({'; '.join(by_run)})"
        if self.is_out_of_fold:
            count = text.counted(len(self.runs), "run")
            return f"{count} of folds, each study by the one that left it out: {runs}"
        return runs

    def _epochs(self, number: int) -> str:
        """Return which epochs of a run are members, in words."""
        epochs = [str(member.epoch) for member in self.members if member.run == number]
        if not epochs:
            return "no member"
        return f"epoch{'s' * (len(epochs) > 1)} {', '.join(epochs)}"


@dataclass(frozen=True)
class TrainingData:
    """What the members were trained on.

    Attributes:
        fingerprint: Of the packed folder.
        study_types: The study types in it.
        trained_on: The split that trained the nets, None if unknown; `seen.ELSEWHERE`
            if a net was not trained here.
        validated_on: The split that chose the checkpoints, None if unknown.
        pretrained_on: `seen.ELSEWHERE` if a net began as one that was not trained here,
            else None.
    """

    fingerprint: str
    study_types: tuple[str, ...]
    trained_on: str | None
    validated_on: str | None
    pretrained_on: str | None = None

    @property
    def is_from_elsewhere(self) -> bool:
        """Whether a net was not trained here, so that any study may have trained it."""
        return self.trained_on == ELSEWHERE

    @property
    def warning(self) -> str:
        """A sentence if any study may have trained a net, for all that is known."""
        if self.is_from_elsewhere:
            return MAY_BE_SEEN
        return BEGAN_ELSEWHERE if self.pretrained_on == ELSEWHERE else ""


@dataclass(frozen=True)
class InputSource:
    """What was predicted.

    Attributes:
        kinds: How many INPUTs were a `csv`, a `folder`, a `file` or a `rec`.
        fingerprint: Of the packed folder that a .rec file is of, else None.
        split: The split that a .rec file is of, else None; of folds, all splits that
            were cut into them, such as `train and holdout`.
    """

    kinds: Mapping[str, Any]
    fingerprint: str | None
    split: str | None


@dataclass(frozen=True)
class Counts:
    """How many images and studies were predicted, and how many studies had a label."""

    images: int
    studies: int
    labelled: int


@dataclass(frozen=True)
class Provenance:
    """Where a table comes from.

    Attributes:
        command: The command by name and the settings that matter: neither paths nor
            names of INPUTs.
        time: When it was written, in UTC: `2024-05-01T12:00:00Z`.
        versions: Package to version.
        ensemble: What predicted.
        data: What that was trained on.
        preprocessing: How radiographs became the input of the nets.
        threshold: Abnormal if the probability is strictly above.
        inputs: What was predicted.
        counts: How much was predicted.
        seen: What of it the nets had seen before.
        left_out: The images that could not be read.
        decision: The decision that was applied, if there was one.
    """

    command: Mapping[str, Any]
    time: str
    versions: Mapping[str, Any]
    ensemble: EnsembleSource
    data: TrainingData
    preprocessing: Mapping[str, Any]
    threshold: float
    inputs: InputSource
    counts: Counts
    seen: Seen
    left_out: LeftOut = LeftOut()
    decision: AppliedDecision | None = None

    @classmethod
    def from_json(cls, content: Any) -> Provenance:
        """Parse a JSON object; keys of a later xenon are ignored.

        Raises:
            KeyError, TypeError, ValueError: It is of another format, or not valid.
        """
        if content["format"] != FORMAT:
            raise ValueError(f"not of format {FORMAT}")
        parts = {
            "ensemble": EnsembleSource.from_json(content["ensemble"]),
            "data": _parse(TrainingData, content["data"]),
            "inputs": _parse(InputSource, content["inputs"]),
            "counts": _parse(Counts, content["counts"]),
            "seen": _parse(Seen, content["seen"]),
            "left_out": LeftOut.from_json(content.get("left_out")),
            "decision": None,
        }
        if "decision" in content:
            parts["decision"] = AppliedDecision.from_json(content["decision"])
        return _parse(cls, content, parts)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        content = {
            "format": FORMAT,
            **asdict(self),
            "ensemble": self.ensemble.to_json(),
        }
        if self.decision is None:
            del content["decision"]
        return content

    def beside(self, file: Path) -> Provenance:
        """Return the same with the paths of runs relative to the folder of a file."""
        return replace(self, ensemble=self.ensemble.beside(file))


class Recorded(NamedTuple):
    """The provenance of a table; if it is None, `reason` says why."""

    provenance: Provenance | None
    reason: str = ""


def read(table: Path) -> Recorded:
    """Read the provenance in the record beside a table of predictions.

    A table that was changed after it was written is taken as one without provenance.
    """
    notes = output_records.read_notes(table)
    if notes.content is None:
        return Recorded(None, notes.reason)
    content = notes.content.get(KEY)
    if content is None:
        return Recorded(None, "the table was written by an older xenon")
    try:
        return Recorded(Provenance.from_json(content))
    except (KeyError, TypeError, ValueError):
        return Recorded(
            None, f"what {table.name}.json says of it is not of format {FORMAT}"
        )


def check_same_ensemble(
    ours: EnsembleSource | None, theirs: EnsembleSource | None, file: Path, table: Path
) -> None:
    """Check that a file was written by the ensemble of a table, where both are known.

    Args:
        ours: The ensemble of the file.
        theirs: The ensemble of the table.
        file: A table of images, or a folder of maps.
        table: The table of predictions.

    Raises:
        XenonError: It was not.
    """
    if ours is None or theirs is None or ours.has_members_of(theirs):
        return
    names = [str(ours), str(theirs)]
    if len(set(names)) == 1:  # runs of the same name in two folders
        names = [
            f"{each} with SHA-256 {each.members[0].sha256}" for each in (ours, theirs)
        ]
    raise XenonError(
        f"{file}: is of another ensemble than {table}: of {names[0]}, not of "
        f"{names[1]}: give what xenon-predict wrote with the table"
    )


def _parse(cls: type[T], content: Any, parts: Mapping[str, Any] | None = None) -> T:
    """Return a dataclass with the values of a JSON object, except for given parts."""
    values = dict(parts or {})
    for each in fields(cls):  # type: ignore[arg-type]
        if (
            each.name in values
            or each.default is not MISSING
            and (each.name not in content)
        ):
            continue
        value = content[each.name]
        if isinstance(value, bool) or not isinstance(value, _KINDS[str(each.type)]):
            raise TypeError(f"{each.name} is not {each.type}")
        values[each.name] = tuple(value) if isinstance(value, list) else value
    return cls(**values)
