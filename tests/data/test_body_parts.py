"""Study types by DICOM's names and codes of body parts, and by a user's own table."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.sr import _concepts_dict, _snomed_dict

from xenon_mx.data import body_parts
from xenon_mx.data.body_parts import BodyParts
from xenon_mx.errors import XenonError

MURA = {
    "ELBOW": "XR_ELBOW",
    "FINGER": "XR_FINGER",
    "FOREARM": "XR_FOREARM",
    "HAND": "XR_HAND",
    "HUMERUS": "XR_HUMERUS",
    "SHOULDER": "XR_SHOULDER",
    "WRIST": "XR_WRIST",
}
# SNOMED CT codes in CID 4009 and 4031. pydicom has their meanings and former codes.
CODES = {
    "16953009": "XR_ELBOW",
    "7569003": "XR_FINGER",
    "76505004": "XR_FINGER",
    "14975008": "XR_FOREARM",
    "85562004": "XR_HAND",
    "85050009": "XR_HUMERUS",
    "40983000": "XR_HUMERUS",
    "16982005": "XR_SHOULDER",
    "79601000": "XR_SHOULDER",
    "85856004": "XR_SHOULDER",
    "74670003": "XR_WRIST",
    "51299004": "XR_CLAVICLE",
    "29836001": "XR_HIP",
    "24136001": "XR_HIP",
    "71341001": "XR_FEMUR",
    "68367000": "XR_FEMUR",
    "72696002": "XR_KNEE",
    "64234005": "XR_KNEE",
    "30021000": "XR_LEG",
    "87342007": "XR_LEG",
    "70258002": "XR_ANKLE",
    "56459004": "XR_FOOT",
    "80144004": "XR_FOOT",
    "27949001": "XR_FOOT",
    "29707007": "XR_TOE",
    "12921003": "XR_PELVIS",
    "122494005": "XR_CSPINE",
    "122495006": "XR_TSPINE",
    "122496007": "XR_LSPINE",
}
MEANINGS = [
    (code, meaning)
    for concepts in _concepts_dict.concepts["SCT"].values()
    for code, (meaning, groups) in concepts.items()
    if code in CODES and {4009, 4031} & set(groups)
]


@pytest.mark.parametrize("name", MURA)
def test_the_names_of_mura_have_its_study_types(name: str) -> None:
    assert BodyParts().study_type([name]) == MURA[name]


@pytest.mark.parametrize("code", CODES)
def test_codes_of_both_editions_of_snomed_have_study_types(code: str) -> None:
    types = BodyParts()
    assert types.study_type([code]) == CODES[code]
    former = [old for old, new in _snomed_dict.mapping["SRT"].items() if new == code]
    former = [name for name in former if name.startswith("T-")]
    assert former
    assert {types.study_type([name]) for name in former} == {CODES[code]}


@pytest.mark.parametrize(("code", "meaning"), MEANINGS)
def test_the_meanings_of_codes_have_study_types(code: str, meaning: str) -> None:
    assert BodyParts().study_type([meaning]) == CODES[code]


@pytest.mark.parametrize(
    "name",
    [
        "hand",
        " Hand ",
        "HANDS",
        "LT HAND",
        "Hand, left",
        "HAND_RIGHT",
        "R-HAND",
        "ＨＡＮＤ",
    ],
)
def test_case_spaces_sides_and_plurals_do_not_count(name: str) -> None:
    assert BodyParts().study_type([name]) == "XR_HAND"


def test_usual_spellings_are_understood() -> None:
    types = BodyParts()
    assert types.study_type(["TIB/FIB"]) == "XR_LEG"
    assert types.study_type(["Upper Arm"]) == "XR_HUMERUS"
    assert types.study_type(["C-SPINE"]) == "XR_CSPINE"
    assert types.study_type(["AC joint"]) == "XR_SHOULDER"
    assert types.study_type(["FEET"]) == "XR_FOOT"


def test_the_first_name_that_is_understood_counts() -> None:
    types = BodyParts()
    assert types.study_type(["EXTREMITY", "T-D8700", "Wrist"]) == "XR_HAND"
    assert types.study_type(["WRIST", "T-D8700"]) == "XR_WRIST"


@pytest.mark.parametrize("names", [[], [""], ["CHEST"], ["S"], ["L"], ["Doe^Jane"]])
def test_others_are_unknown(names: list[str]) -> None:
    assert BodyParts().study_type(names) == "XR_UNKNOWN"


def test_only_names_of_body_parts_may_be_printed() -> None:
    assert body_parts.is_defined("Chest")
    assert body_parts.is_defined("LT HAND")
    for text in ("DOE", "HAND DOE", "19440719", ""):
        assert not body_parts.is_defined(text)


def test_a_table_extends_and_changes_the_types(tmp_path: Path) -> None:
    file = tmp_path / "map.csv"
    file.write_text(
        "body_part,study_type,remark\nHandgelenk,XR_WRIST,\nthumb,XR_THUMB,x\n"
        "T-D8200,xr_arm,\n\nHANDGELENK,XR_WRIST,twice\n",
        encoding="utf-8-sig",
    )
    types = body_parts.read(file)
    assert types.study_type(["HANDGELENK LINKS", "Handgelenk"]) == "XR_WRIST"
    assert types.study_type(["THUMB"]) == "XR_THUMB"
    assert types.study_type(["T-D8200"]) == "XR_ARM"
    assert types.study_type(["FINGER"]) == "XR_FINGER"
    assert BodyParts().study_type(["THUMB"]) == "XR_FINGER"


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_table_may_have_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    file = tmp_path / "map.csv"
    file.write_text(f"body_part{delimiter}study_type\nCarpus{delimiter}XR_HAND\n")
    assert body_parts.read(file).study_type(["CARPUS"]) == "XR_HAND"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its first line must name its columns, and has no body_part and no st"),
        (b"part,study_type\nA,XR_A\n", "has no body_part"),
        (b"body_part,study_type\nDoe,XR_HAND\nJane,Wrist\n", "in line 3 must be XR_"),
        (b"body_part,study_type\n,XR_HAND\n", "line 2 has no body part"),
        (
            b"body_part,study_type\nDoe,XR_A\ndoe,XR_B\n",
            "lines 2 and 3 give one body part two study types",
        ),
        (b"body_part,study_type\nDoe\n", "line 2 has 1 column, and the first line 2"),
        (b"body_part,study_type\nD\xf6e,XR_A\n", "is not in UTF-8"),
        (b'body_part,study_type\n"Doe,XR_A\n', "cannot be read as CSV"),
        (b"body_part,study_type,body_part\n", "two columns have the same name"),
    ],
)
def test_errors_name_lines_and_quote_nothing(
    tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "Doe_map.csv"
    file.write_bytes(content)
    with pytest.raises(XenonError, match=message) as caught:
        body_parts.read(file)
    assert str(caught.value).startswith("--body-parts: ")
    assert "doe" not in str(caught.value).lower()
    assert "jane" not in str(caught.value).lower()


def test_a_missing_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(XenonError, match="^--body-parts: No such file or directory$"):
        body_parts.read(tmp_path / "map.csv")
