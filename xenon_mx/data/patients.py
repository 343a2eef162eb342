"""Whose study it is, when headers are incomplete.

Owns the patient of each StudyInstanceUID; must not know files, labels or pixels.
"""

from __future__ import annotations

from typing import Iterable

from xenon_mx.data.pseudonyms import Naming
from xenon_mx.dicom.identity import Identity


class Patients:
    """The patient of each study.

    An ID without an issuer is that of another file of the study, and so is a missing
    ID. A study without any ID is a patient of its own: two such studies may be of two
    people, and one patient in two splits is what a split by patient prevents.

    Args:
        identities: Of all images.
        naming: How patients are named.

    Attributes:
        without_id: How many studies have no patient ID.
        half_issued: How many patient IDs occur both with an issuer and without.
    """

    def __init__(self, identities: Iterable[Identity], naming: Naming) -> None:
        self._naming = naming
        self._ids: dict[str, dict[str, set[str]]] = {}
        issuers: dict[str, set[str]] = {}
        for each in identities:
            ids = self._ids.setdefault(each.study_uid, {})
            if each.patient_id:
                ids.setdefault(each.patient_id, set()).add(each.issuer)
        for ids in self._ids.values():
            for patient_id, of_study in ids.items():
                # An issuer in one file of a study is that of its other files, too.
                issuers.setdefault(patient_id, set()).update(of_study - {""} or {""})
        self.without_id = sum(not ids for ids in self._ids.values())
        self.half_issued = sum(len(of) > 1 and "" in of for of in issuers.values())

    def name(self, image: Identity) -> str:
        """Return the name of an image's patient."""
        ids = self._ids[image.study_uid]
        if not ids:
            return self._naming.patient_of_study(image.study_uid)
        patient_id = image.patient_id or min(ids)
        issuers = ids[patient_id] - {""}
        issuer = image.issuer if image.patient_id else ""
        return self._naming.patient(patient_id, issuer or min(issuers, default=""))
