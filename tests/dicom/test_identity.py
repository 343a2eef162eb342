"""Whose image a file is: read from any header, and never quoted in an error."""

from __future__ import annotations

import logging
import re
import traceback
from pathlib import Path

import pytest
from support.archives import PEOPLE, STUDY_UID, person, radiograph, region
from support.dicom_files import without_meta

from xenon_mx.data import images
from xenon_mx.dicom import identity
from xenon_mx.errors import XenonError


def read(tmp_path: Path, data: bytes) -> identity.Identity:
    file = tmp_path / "IM0"
    file.write_bytes(data)
    return identity.read(file)


@pytest.mark.parametrize("charset", PEOPLE)
def test_identifiers_are_read_in_every_character_set(
    tmp_path: Path, charset: str
) -> None:
    found = read(tmp_path, radiograph(**person(charset), BurnedInAnnotation="YES"))
    _, patient_id, institution = PEOPLE[charset]
    assert (found.patient_id, found.issuer) == (patient_id, institution)
    assert found.study_uid == STUDY_UID
    assert found.accession == "ACC-1"
    assert found.is_burned_in
    assert patient_id not in repr(found) + str(found)


def test_a_file_without_preamble_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, without_meta(radiograph())).patient_id == "PID-1"


def test_padding_is_no_part_of_an_identifier(tmp_path: Path) -> None:
    found = read(tmp_path, radiograph(PatientID=" 12 ", AccessionNumber="A "))
    assert (found.patient_id, found.accession) == ("12", "A")


def test_a_backslash_does_not_lose_a_part_of_an_id(tmp_path: Path) -> None:
    assert read(tmp_path, radiograph(PatientID=["A", "B"])).patient_id == "A\\B"


def test_an_id_that_cannot_be_decoded_is_an_error(tmp_path: Path) -> None:
    """Two such IDs would be read as one, and two patients as the same."""
    data = radiograph(SpecificCharacterSet="ISO_IR 192", PatientID="ÄÖ12")
    damaged = data.replace("ÄÖ12".encode(), b"\xc4\xd612  ")
    with pytest.raises(XenonError, match="its PatientID is not in the SpecificChar"):
        read(tmp_path, damaged)


def test_the_body_part_goes_before_the_region(tmp_path: Path) -> None:
    codes = region(("85562004", "SCT", "Hand"), ("T-15460", "SRT", "Wrist joint"))
    found = read(
        tmp_path, radiograph(BodyPartExamined="EXTREMITY", AnatomicRegionSequence=codes)
    )
    expected = ("EXTREMITY", "85562004", "T-15460", "Hand", "Wrist joint")
    assert found.body_parts == expected
    none = read(tmp_path, radiograph(BodyPartExamined=None))
    assert none.body_parts == ()


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"ImageLaterality": "L"}, "L"),
        ({"Laterality": "R"}, "R"),
        ({"ImageLaterality": "L", "Laterality": "R"}, "L"),
        ({"ImageLaterality": "", "Laterality": "R"}, "R"),
        ({"Laterality": "DOE"}, ""),
        ({}, ""),
    ],
)
def test_laterality_is_a_defined_value_or_none(
    tmp_path: Path, elements: dict, expected: str
) -> None:
    assert read(tmp_path, radiograph(**elements)).laterality == expected


def test_a_view_is_a_known_word_or_none(tmp_path: Path) -> None:
    assert read(tmp_path, radiograph(ViewPosition="PA")).view == "PA"
    assert read(tmp_path, radiograph(ViewPosition="DOE JANE")).view == ""


def test_numbers_give_the_order(tmp_path: Path) -> None:
    numbers = {"SeriesNumber": 2, "AcquisitionNumber": 3, "InstanceNumber": 4}
    assert read(tmp_path, radiograph(**numbers)).order == (2, 3, 4)
    assert read(tmp_path, radiograph()).order == (0, 0, 0)


def test_an_odd_number_is_no_error(tmp_path: Path) -> None:
    data = radiograph(InstanceNumber="17").replace(b"IS\2\x0017", b"IS\2\x00X?")
    assert read(tmp_path, data).order == (0, 0, 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"Jane Doe" * 40, "not a DICOM file"),
        (radiograph(SOPInstanceUID=None), "its header has no SOPInstanceUID"),
        (radiograph()[:300], "its header has no SOPInstanceUID"),
    ],
    ids=["empty", "text", "no image", "cut"],
)
def test_a_file_without_identity_is_one_line_without_its_path(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    with pytest.raises(XenonError, match=reason) as caught:
        read(tmp_path, data)
    assert "IM0" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unreadable_file_is_one_line_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(XenonError, match="^No such file or directory$"):
        identity.read(tmp_path / "Doe_Jane")


def test_nothing_of_a_damaged_header_is_quoted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    """Flip every byte of the header in turn, and look for its identifiers."""
    caplog.set_level(logging.DEBUG)
    elements = person("ISO_IR 100")
    planted = (elements["PatientID"], "ACC-1", STUDY_UID, "Müßiggang")
    data = radiograph(**elements, AnatomicRegionSequence=region(("1", "SCT", "Käthe")))
    end = data.index(b"\xe0\x7f\x10\x00")
    for at in range(132, end, 3):
        damaged = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
        try:
            read(tmp_path, damaged)
        except XenonError as error:
            shown = "".join(traceback.format_exception(None, error, None))
            assert not [text for text in planted if text in shown]
    streams = capsys.readouterr()
    written = caplog.text + streams.out + streams.err
    assert not [text for text in planted if text in written]


def test_no_damage_of_a_header_makes_decoding_quote_an_identifier() -> None:
    """A length that is too large makes a value of the elements that follow it."""
    # After the modality and the presentation intent come most identifiers, and after
    # the window some that are less known.
    elements = {
        **person("ISO_IR 100"),
        "PresentationIntentType": "FOR PRESENTATION",
        "WindowCenter": 100,
        "WindowWidth": 200,
        "RequestedProcedureDescription": "Käthe Müßiggang",
    }
    data = radiograph(**elements)
    planted = ("iggang", "4711", "1944", "ntgenhaus", "77001", "ACC-1")
    lengths = [found.end() for found in re.finditer(rb"(?:CS|LO|DS|US|UI|SH)", data)]
    messages = []
    for at in [at for at in lengths if at < data.index(b"\xe0\x7f\x10\x00")]:
        for length in range(0, 400, 6):
            damaged = data[:at] + length.to_bytes(2, "little") + data[at + 2 :]
            try:
                images.decode(damaged, "scan")
            except XenonError as error:
                messages.append(str(error))
    assert len(set(messages)) > 5
    assert not [text for text in planted if text in "".join(messages)]
