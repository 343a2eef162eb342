"""What a DICOM header says about whose image a file is, and of what.

Owns which elements identify an image, its study and its patient, and which say what it
shows; must not know pixels, study types or pseudonyms.

Nothing here writes an identifier: errors name elements and never quote their values,
and an `Identity` has no representation that a traceback or a log could show.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xenon_mx.dicom import reader
from xenon_mx.dicom.headers import Header
from xenon_mx.errors import XenonError

_NUMBERS = ("SeriesNumber", "AcquisitionNumber", "InstanceNumber")
_KEYWORDS = (
    "AccessionNumber",
    "AnatomicRegionSequence",
    "BodyPartExamined",
    "BurnedInAnnotation",
    "ImageLaterality",
    "IssuerOfPatientID",
    "Laterality",
    "PatientID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "ViewPosition",
    *_NUMBERS,
)
# Enumerated values of ImageLaterality (PS3.3, C.7.6.1) and Laterality (C.7.3.1).
_SIDES = ("L", "R", "U", "B")
# Defined terms of ViewPosition in PS3.3, C.8.1.2 (CR Series) and C.8.11.5 (DX
# Positioning), then what devices write instead. Other text may be anything, even a
# name, and is not passed on.
_VIEWS = frozenset(
    "AP PA LL RL RLD LLD RLO LLO LPO RPO RAO LAO "
    "LAT LATERAL OBL OBLIQUE AXIAL AX TANGENTIAL".split()
)


@dataclass(frozen=True, repr=False)
class Identity:
    """Whose image a file is, and of what. Texts are empty if the header has none.

    Attributes:
        study_uid: StudyInstanceUID, never empty.
        series_uid: SeriesInstanceUID.
        image_uid: SOPInstanceUID, never empty.
        accession: AccessionNumber, the order of the study in the hospital's system.
        patient_id: PatientID.
        issuer: IssuerOfPatientID: the same ID of two hospitals is of two patients.
        body_parts: What names the body part, the first that is understood counts:
            BodyPartExamined, then the codes of the anatomic region, then its meanings.
        laterality: `L`, `R`, `U` (unpaired) or `B` (both), by ImageLaterality or else
            Laterality.
        view: ViewPosition, if it is one of those that are in use.
        order: Series, acquisition and instance number, which say in which order the
            images of a study were made; 0 for a missing one.
        is_burned_in: Whether BurnedInAnnotation says that the pixels name the patient.
    """

    study_uid: str
    series_uid: str
    image_uid: str
    accession: str
    patient_id: str
    issuer: str
    body_parts: tuple[str, ...]
    laterality: str
    view: str
    order: tuple[int, ...]
    is_burned_in: bool

    @property
    def body_part(self) -> str:
        """Return the most direct name of the body part; it may be any text."""
        return self.body_parts[0] if self.body_parts else ""


def read(file: Path) -> Identity:
    """Read whose image a DICOM file is, from its header alone.

    Raises:
        XenonError: The file cannot be read, has no SOPInstanceUID, or has identifiers
            that cannot be decoded. The error has neither its path
            nor its contents.
    """
    header = reader.read_header(file, _KEYWORDS)
    image_uid = _uid(header, "SOPInstanceUID")
    return Identity(
        study_uid=_text(header, "StudyInstanceUID") or image_uid,
        series_uid=_text(header, "SeriesInstanceUID"),
        image_uid=image_uid,
        accession=_identifier(header, "AccessionNumber"),
        patient_id=_identifier(header, "PatientID"),
        issuer=_identifier(header, "IssuerOfPatientID"),
        body_parts=_body_parts(header),
        laterality=_laterality(header),
        view=_view(header),
        order=tuple(_whole_number(header, keyword) for keyword in _NUMBERS),
        is_burned_in=_text(header, "BurnedInAnnotation").upper() == "YES",
    )


def _uid(header: Header, keyword: str) -> str:
    """Return a UID that must be there."""
    uid = _text(header, keyword)
    if not uid:
        raise XenonError(f"its header has no {keyword}: export it again")
    return uid


def _identifier(header: Header, keyword: str) -> str:
    """Return a text that tells patients or orders apart.

    pydicom replaces what it cannot decode by U+FFFD, which would make different
    identifiers equal.
    """
    text = _text(header, keyword)
    if "\N{REPLACEMENT CHARACTER}" in text:
        raise XenonError(
            f"its {keyword} is not in the SpecificCharacterSet that its header names"
        )
    return text


def _text(header: Header, keyword: str) -> str:
    try:
        return _joined(header.value(keyword))
    except Exception:  # pydicom decodes on access, and quotes what it cannot decode
        raise XenonError(f"its {keyword} is damaged: export it again") from None


def _joined(value: Any) -> str:
    r"""Return a value as text; several values as DICOM writes them, joined by \.

    Padding (PS3.5, 6.2) is no part of a value: spaces, and zero bytes after UIDs.
    """
    if value is None:
        return ""
    values = value if isinstance(value, MutableSequence) else [value]
    return "\\".join(str(each).strip(" \0") for each in values)


def _body_parts(header: Header) -> tuple[str, ...]:
    """Return what names the body part, from the most to the least direct."""
    named = [_text(header, "BodyPartExamined")]
    try:
        regions = header.value("AnatomicRegionSequence") or []
        for keyword in ("CodeValue", "CodeMeaning"):
            named += [_joined(region.get(keyword)) for region in regions]
    except Exception:
        raise XenonError("its AnatomicRegionSequence is damaged") from None
    return tuple(filter(None, named))


def _laterality(header: Header) -> str:
    """Return the side: that of the image goes before that of its series."""
    for keyword in ("ImageLaterality", "Laterality"):
        side = _text(header, keyword).upper()
        if side in _SIDES:
            return side
    return ""


def _view(header: Header) -> str:
    view = _text(header, "ViewPosition").upper()
    return view if view in _VIEWS else ""


def _whole_number(header: Header, keyword: str) -> int:
    """Return a number that only orders images: 0 for a missing or an odd one."""
    try:
        return header.integer(keyword, absent=0)
    except XenonError:
        return 0
