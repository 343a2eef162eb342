"""studies.json: which studies and patients trained a run or chose its checkpoints.

Owns the file of a run that recognises them without their names, by `hashed_names`. Must
not know nets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

from xenon_mx.data.mura import Image, study_tail
from xenon_mx.evaluation.hashed_names import hash_name, new_salt
from xenon_mx.evaluation.seen import BY_NAMES, Seen
from xenon_mx.runs.run_meta import damaged
from xenon_mx.runtime import files

STUDIES_JSON = "studies.json"
_FORMAT = 1  # raised when an older xenon would misread the new content
_KEYS = ("trained", "validated", "patients")


@dataclass(frozen=True)
class SeenStudies:
    """Hashes of the studies and patients that a run has seen.

    Attributes:
        salt: What every name is hashed with.
        trained: Of the studies that trained the nets.
        validated: Of the studies that the checkpoints were chosen on.
        patients: Of the patients of both, where known.
    """

    salt: str
    trained: frozenset[str]
    validated: frozenset[str]
    patients: frozenset[str]

    @classmethod
    def of(cls, trained: Iterable[Image], validated: Iterable[Image]) -> SeenStudies:
        """Build the hashes of the images of two splits, with a new salt."""
        salt = new_salt()
        first, second = list(trained), list(validated)
        return cls(
            salt=salt,
            trained=frozenset(hash_name(salt, study_tail(i.study)) for i in first),
            validated=frozenset(hash_name(salt, study_tail(i.study)) for i in second),
            patients=frozenset(
                hash_name(salt, i.patient) for i in [*first, *second] if i.patient
            ),
        )

    def count(self, images: Iterable[Image]) -> Seen:
        """Count the studies whose names, or patients' names, are among the hashes."""
        return _count([self], images)

    def find(self, study: str, patient: str) -> str | None:
        """Return whether a study `trained` or `validated`, or one of its `patients`."""
        name = hash_name(self.salt, study_tail(study))
        if name in self.trained:
            return "trained"
        if name in self.validated:
            return "validated"
        is_patient = patient and hash_name(self.salt, patient) in self.patients
        return "patients" if is_patient else None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        hashes = {key: sorted(getattr(self, key)) for key in _KEYS}
        return {"format": _FORMAT, "salt": self.salt, **hashes}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SeenStudies:
        """Parse a JSON object; KeyError, TypeError or ValueError if it is not valid."""
        if content["format"] != _FORMAT or not isinstance(content["salt"], str):
            raise ValueError("not of this format")
        hashes = {key: frozenset(content[key]) for key in _KEYS}
        return cls(salt=content["salt"], **hashes)


@dataclass(frozen=True)
class SeenByAny:
    """What any of several runs has seen: a study that trained one of them trained."""

    runs: tuple[SeenStudies, ...]

    def count(self, images: Iterable[Image]) -> Seen:
        """Count the studies that any of the runs has seen."""
        return _count(self.runs, images)


def _count(runs: Sequence[SeenStudies], images: Iterable[Image]) -> Seen:
    patient_of = {image.study: image.patient for image in images}
    counts = dict.fromkeys(_KEYS, 0)
    for study, patient in patient_of.items():
        found = {run.find(study, patient) for run in runs}
        first = next((key for key in _KEYS if key in found), None)
        if first is not None:
            counts[first] += 1
    return Seen(BY_NAMES, len(patient_of), **counts)


def read(folder: Path) -> SeenStudies | None:
    """Read the file of a run; None if the run has none, as those of xenon 0.1.0.

    Raises:
        XenonError: The file is damaged.
    """
    path = folder / STUDIES_JSON
    if not path.is_file():
        return None
    content = files.read_json(path)
    try:
        return SeenStudies.from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path) from error
