"""Study types of body parts, as DICOM headers name them.

Owns the table from DICOM's names and codes to `XR_*`; must not know files other than
the user's own table, nor patients.

The study type is what a net was trained on: a name means the series of radiographs
that an order of that name asks for. So a thumb is a finger (MURA's fingers have
thumbs), one or both bones of the forearm are a forearm, and the scapula and its joint
with the clavicle are shown by a shoulder series. Whoever sees that differently says so
in a table (`--body-parts map.csv`).
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Iterable, Mapping, NamedTuple

from xenon_mx.data import headed_csv
from xenon_mx.errors import FileError

UNKNOWN = "XR_UNKNOWN"
_STUDY_TYPE = re.compile(r"XR_[A-Z0-9_]+")


class _Terms(NamedTuple):
    """What DICOM calls a body part.

    Attributes:
        names: Of BodyPartExamined: the defined terms of PS3.16, L, with those of former
            editions, the meanings of the codes, and what devices write.
        codes: Of AnatomicRegionSequence, by CID 4009 (DX Anatomy Imaged) and CID 4031
            (Common Anatomic Region) in PS3.16, and for single bones by CID 8134
            (Anatomic Structure): SNOMED CT, then SNOMED RT, which came before.
    """

    names: str
    codes: str


# MURA's seven study types, LERA's four (XR_FOOT, XR_KNEE, XR_ANKLE, XR_HIP), and others
# of the skeleton by the same pattern.
_TABLE = {
    "XR_SHOULDER": _Terms(
        "SHOULDER, SHOULDER JOINT, SCAPULA, ACJOINT, ACROMIOCLAVICULAR JOINT, "
        "GLENOHUMERAL JOINT",
        "16982005 T-D2220 79601000 T-12280 85856004 T-15420",
    ),
    "XR_HUMERUS": _Terms("HUMERUS, UPPERARM, ARM", "85050009 T-12410 40983000 T-D8200"),
    "XR_ELBOW": _Terms("ELBOW, ELBOW JOINT", "16953009 T-15430"),
    "XR_FOREARM": _Terms(
        "FOREARM, LOWER ARM, RADIUS, ULNA, RADIUSULNA, RADIUS AND ULNA",
        "14975008 T-D8500 23416004 T-12430 110535000 T-12403",
    ),
    "XR_WRIST": _Terms(
        "WRIST, WRIST JOINT, CARPUS, SCAPHOID",
        "74670003 T-15460 30518006 T-12450",
    ),
    "XR_HAND": _Terms(
        "HAND, METACARPUS, METACARPAL", "85562004 T-D8700 36455000 T-12540"
    ),
    "XR_FINGER": _Terms(
        "FINGER, THUMB, DIGIT, INDEX FINGER, MIDDLE FINGER, RING FINGER, LITTLE FINGER",
        "7569003 T-D8800 76505004 T-D8810",
    ),
    "XR_CLAVICLE": _Terms("CLAVICLE, COLLARBONE", "51299004 T-12310"),
    "XR_HIP": _Terms("HIP, HIP JOINT", "29836001 T-D2500 24136001 T-15710"),
    "XR_FEMUR": _Terms("FEMUR, THIGH, UPPER LEG", "71341001 T-12710 68367000 T-D9100"),
    "XR_KNEE": _Terms(
        "KNEE, KNEE JOINT, PATELLA",
        "72696002 T-D9200 49076000 T-15720 64234005 T-12730",
    ),
    "XR_LEG": _Terms(
        "LEG, LOWER LEG, TIBIA, FIBULA, TIBIAFIBULA, TIBIA AND FIBULA, TIB FIB",
        "30021000 T-D9400 12611008 T-12740 87342007 T-12750 110536004 T-12701",
    ),
    "XR_ANKLE": _Terms("ANKLE, ANKLE JOINT", "70258002 T-15750"),
    "XR_FOOT": _Terms(
        "FOOT, FEET, CALCANEUS, HEEL, METATARSUS, TARSAL JOINT",
        "56459004 T-D9700 80144004 T-12770 280711000 T-12847 27949001 T-15770",
    ),
    "XR_TOE": _Terms("TOE", "29707007 T-D9800"),
    "XR_PELVIS": _Terms("PELVIS", "816092008 T-D6000 12921003"),
    "XR_CSPINE": _Terms("CSPINE, CERVICAL SPINE", "122494005 T-11501"),
    "XR_TSPINE": _Terms("TSPINE, THORACIC SPINE", "122495006 T-11502"),
    "XR_LSPINE": _Terms("LSPINE, LUMBAR SPINE", "122496007 T-11503"),
}

# Other defined terms of PS3.16, L, and what devices write. They have no study type
# here, and can be printed: they name no person.
_OTHERS = (
    "ABDOMEN, ABDOMENPELVIS, BREAST, CHEST, CHESTABDOMEN, CHESTABDPELVIS, COCCYX, "
    "CTSPINE, EXTREMITY, UPPER EXTREMITY, LOWER EXTREMITY, UPPER LIMB, LOWER LIMB, "
    "EYE, FACE, FACIAL BONES, HEAD, HEADNECK, HEART, JAW, KUB, LSSPINE, LUNG, "
    "MANDIBLE, MAXILLA, NECK, NECKCHEST, NOSE, OTHER, PHANTOM, RIB, SACRUM, SCJOINT, "
    "SI JOINT, SINUS, SKULL, SPINE, SSPINE, STERNUM, TEETH, TEST, TLSPINE, TMJ, "
    "UNKNOWN, WHOLEBODY, ZYGOMA"
)
_SIDES = frozenset("L R LT RT LEFT RIGHT BOTH BILAT BILATERAL".split())


class BodyParts:
    """The study type of each name and code of a body part.

    Args:
        own: The user's names or codes to study types, which go before xenon's.
    """

    def __init__(self, own: Mapping[str, str] | None = None) -> None:
        self._types = {
            key(name): study_type
            for study_type, terms in _TABLE.items()
            for name in [*terms.names.split(","), *terms.codes.split()]
        }
        self._types.update((key(name), type_) for name, type_ in (own or {}).items())

    def study_type(self, names: Iterable[str]) -> str:
        """Return the study type of the first name or code that has one.

        Args:
            names: As `dicom.identity` gives them, from the most to the least direct.

        Returns:
            `XR_*`; `XR_UNKNOWN` if none of them has one.
        """
        for name in names:
            for known in (key(name), key(name)[:-1] if key(name)[-1:] == "S" else ""):
                if known in self._types:
                    return self._types[known]
        return UNKNOWN


def key(name: str) -> str:
    """Return what of a name counts: neither case, spaces, hyphens nor the side.

    `Lt. Hand`, `HAND_LEFT` and `hand` are equal. The side is no part of the study type,
    nor of a study: both hands of one order are one study.
    """
    plain = unicodedata.normalize("NFKC", name).upper()
    words = re.findall(r"[^\W_]+", plain)
    return "".join([word for word in words if word not in _SIDES] or words)


def is_study_type(name: str) -> bool:
    """Return whether a name is that of a study type: `XR_` and capital letters."""
    return bool(_STUDY_TYPE.fullmatch(name))


def is_defined(name: str) -> bool:
    """Return whether a name of a body part is DICOM's or a usual one.

    BodyPartExamined may hold any text, even a patient's name. Only defined names are
    written and printed.
    """
    return key(name) in _DEFINED


_DEFINED = frozenset(
    key(name)
    for terms in (*(terms.names for terms in _TABLE.values()), _OTHERS)
    for name in terms.split(",")
)


def read(file: Path, name: str = "--body-parts") -> BodyParts:
    """Read the user's table, a CSV with the columns `body_part` and `study_type`.

    Args:
        file: The table. A body part is a name as in BodyPartExamined, or a code of the
            anatomic region; a study type is `XR_*`.
        name: What errors call the table.

    Returns:
        xenon's table, extended and changed by the user's.

    Raises:
        FileError: The table cannot be read, or is wrong; the error names the lines.
    """
    own: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, row in headed_csv.read(file, name, ("body_part", "study_type")).rows:
        part, study_type = key(row["body_part"]), row["study_type"].upper()
        if not part:
            raise FileError(name, f"line {line} has no body part")
        if not is_study_type(study_type):
            raise FileError(
                name,
                f"the study type in line {line} must be XR_ and capital letters, such "
                f"as XR_HAND",
            )
        if own.setdefault(part, study_type) != study_type:
            raise FileError(
                name,
                f"lines {lines[part]} and {line} give one body part two study types",
            )
        lines.setdefault(part, line)
    return BodyParts(own)
