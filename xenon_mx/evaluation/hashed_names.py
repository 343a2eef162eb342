"""Hashes by which names of studies and patients are known again, without the names.

Owns the hash, and a set of studies that is known by it. The salt is the set's own, so
that two sets cannot be compared. Whoever has the hashes can still test whether they
hold a name that they guess. Must not know files.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from xenon_mx.data.mura import study_tail

_DIGITS = 16  # of a hash: among 10,000 names, two share one in 1 of 10^11 cases


def new_salt() -> str:
    """Return what the names of one set are hashed with."""
    return secrets.token_hex(16)


def hash_name(salt: str, name: str) -> str:
    """Return the hash of a patient's name, or of a study's `study_tail`."""
    data = f"{salt}\0{name}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


@dataclass(frozen=True)
class HashedNames:
    """The names of studies and of their patients.

    Attributes:
        salt: What every name is hashed with.
        studies: Of the studies.
        patients: Of their patients.
    """

    salt: str
    studies: frozenset[str]
    patients: frozenset[str]

    @classmethod
    def of(cls, patient_of: Mapping[str, str]) -> HashedNames:
        """Build the hashes of studies, each with its patient, with a new salt."""
        salt = new_salt()
        return cls(
            salt=salt,
            studies=frozenset(hash_name(salt, study_tail(s)) for s in patient_of),
            patients=frozenset(hash_name(salt, p) for p in patient_of.values()),
        )

    def count(self, pairs: Iterable[tuple[str, str]]) -> tuple[int, int]:
        """Count how many studies are among these, and how many are of their patients.

        Args:
            pairs: Names of studies and of their patients, empty where unknown; a study
                may be repeated, once for each of its images.
        """
        studies = patients = 0
        for study, patient in dict(pairs).items():
            if hash_name(self.salt, study_tail(study)) in self.studies:
                studies += 1
            elif patient and hash_name(self.salt, patient) in self.patients:
                patients += 1
        return studies, patients

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "salt": self.salt,
            "studies": sorted(self.studies),
            "patients": sorted(self.patients),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> HashedNames:
        """Parse a JSON object; KeyError, TypeError or ValueError if it is not valid."""
        if not isinstance(content["salt"], str):
            raise TypeError("the salt is a string")
        return cls(
            salt=content["salt"],
            studies=frozenset(content["studies"]),
            patients=frozenset(content["patients"]),
        )
