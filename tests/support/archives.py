"""Folders of DICOM files as archives export them, with identifiers planted in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable

import numpy as np
from pydicom.dataset import Dataset

from support.dicom_files import written

ROOT_UID = "1.2.826.0.1.3680043.8.498"
STUDY_UID = f"{ROOT_UID}.77001"
PIXELS = np.add.outer(np.arange(0, 200, 5), np.arange(40)).astype(np.uint8)

# Identifiers by character set (PS3.3, C.12.1.1.2): what would have to be found if any
# of it were written. Each is long enough not to occur by chance.
PEOPLE = {
    "ISO_IR 100": ("Müßiggang^Käthe", "KÄ-4711-ß", "Städtisches Röntgenhaus"),
    "ISO_IR 101": ("Łoś^Žofie", "ŻÓŁ-20931", "Szpital Świętej Łucji"),
    "ISO_IR 144": ("Щукина^Юлия", "ЩЮ-55817", "Городская больница"),
    "ISO_IR 192": ("山田^花子", "患者-88123", "第三整形外科病院"),
    "GB18030": ("王^小东", "病历-66021", "北京骨科医院"),
    "ISO_IR 13": ("ﾔﾏﾀﾞ^ﾀﾛｳ", "ｶﾝｼﾞﾔﾊﾞﾝ", "ｾｲｹｲｹﾞｶ"),
}


def radiograph(instance: object = 1, **elements: Any) -> bytes:
    """Return the bytes of a radiograph whose SOP instance UID ends in a number."""
    values = {
        "StudyInstanceUID": STUDY_UID,
        "SeriesInstanceUID": f"{STUDY_UID}.1",
        "SOPInstanceUID": f"{ROOT_UID}.9{instance}",
        "PatientID": "PID-1",
        "AccessionNumber": "ACC-1",
        "BodyPartExamined": "HAND",
        **elements,
    }
    return written(PIXELS, **values)


def region(*codes: tuple[str, str, str]) -> list[Dataset]:
    """Return an AnatomicRegionSequence of (value, scheme, meaning)."""
    items = []
    for value, scheme, meaning in codes:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator = value, scheme
        item.CodeMeaning = meaning
        items.append(item)
    return items


def person(charset: str) -> dict[str, str]:
    """Return the elements that name a person in a character set."""
    name, patient_id, institution = PEOPLE[charset]
    return {
        "SpecificCharacterSet": charset,
        "PatientName": name,
        "PatientID": patient_id,
        "IssuerOfPatientID": institution,
        "InstitutionName": institution,
        "PatientBirthDate": "19440719",
    }


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files by their names below a folder, and return the folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def identifiers(charset: str) -> set[str]:
    """Return every text that identifies a person of `PEOPLE`."""
    name, patient_id, institution = PEOPLE[charset]
    return {*name.split("^"), patient_id, institution, "19440719"}


def leaks(data: bytes, texts: Iterable[str]) -> list[str]:
    """Return which texts bytes hold, in UTF-8 or UTF-16 of either byte order."""
    encodings = ("utf-8", "utf-16-le", "utf-16-be")
    # Not single characters of a name, which any text may hold.
    long = (text for text in texts if len(text) > 1)
    return [t for t in long if any(t.encode(e) in data for e in encodings)]
