"""A folder of DICOM files as archives export them: images, studies and patients."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.archives import (
    PEOPLE,
    PIXELS,
    ROOT_UID,
    STUDY_UID,
    identifiers,
    leaks,
    person,
    radiograph,
    region,
    write,
)
from support.dicom_files import written

from xenon_mx.data import archive_summary, body_parts, images, links
from xenon_mx.data.archive import Archive, read_archive, read_files
from xenon_mx.data.archive_files import is_archive
from xenon_mx.data.body_parts import BodyParts
from xenon_mx.data.pseudonyms import Naming
from xenon_mx.errors import XenonError

NAMING = Naming(bytes(range(32)))
PLAIN = Naming(None)


def read(tmp_path: Path, *files: bytes, naming: Naming = NAMING, **options: Any):
    """Write files without names that say anything, and read them as an archive."""
    folder = write(tmp_path / "in", {f"IM{n}": data for n, data in enumerate(files)})
    return read_archive(folder, naming, **options)


def logged(archive: Archive, naming: Naming, caplog: Any) -> list[str]:
    caplog.set_level(logging.INFO)
    caplog.clear()
    archive_summary.log(archive, naming)
    return caplog.messages


def test_images_have_names_in_muras_layout(tmp_path: Path) -> None:
    (image,) = read(tmp_path, radiograph(Laterality="L", ViewPosition="PA")).images
    patient, study = NAMING.patient("PID-1", ""), NAMING.study(STUDY_UID, "XR_HAND")
    assert image.study == f"XR_HAND/{patient}/{study}/"
    assert image.path == image.study + NAMING.image(f"{ROOT_UID}.91")
    assert (image.study_type, image.patient) == ("XR_HAND", patient)
    assert image.label is None
    assert image.file == tmp_path / "in" / "IM0"
    assert image.extra == {"laterality": "L", "view": "PA"}


def test_identifiers_are_kept_when_that_is_wanted(tmp_path: Path) -> None:
    data = radiograph(PatientID="A/1", IssuerOfPatientID="H")
    (image,) = read(tmp_path, data, naming=PLAIN).images
    assert image.path == f"XR_HAND/A%2F1@H/{STUDY_UID}/{ROOT_UID}.91"


def test_a_study_is_a_body_part_under_a_uid(tmp_path: Path) -> None:
    archive = read(
        tmp_path,
        radiograph(1, Laterality="L"),
        radiograph(2, Laterality="R", BodyPartExamined="RT HAND"),
        radiograph(3, BodyPartExamined="WRIST"),
        radiograph(4, BodyPartExamined=None, AnatomicRegionSequence=None),
        radiograph(5, BodyPartExamined="CHEST"),
        radiograph(6, BodyPartExamined="chest"),
        radiograph(7, BodyPartExamined="HAND", StudyInstanceUID=f"{STUDY_UID}.2"),
    )
    studies = Counter(image.study for image in archive.images)
    types = Counter(study.split("/")[0] for study in studies)
    assert types == {"XR_HAND": 2, "XR_WRIST": 1, "XR_UNKNOWN": 2}
    assert sorted(studies.values()) == [1, 1, 1, 2, 2]
    assert len({image.patient for image in archive.images}) == 1


def test_the_region_tells_the_type_if_the_body_part_does_not(tmp_path: Path) -> None:
    codes = region(("T-15460", "SRT", "Wrist joint"))
    data = radiograph(BodyPartExamined="EXTREMITY", AnatomicRegionSequence=codes)
    assert read(tmp_path, data).images[0].study_type == "XR_WRIST"


def test_a_table_of_body_parts_is_used(tmp_path: Path) -> None:
    data = radiograph(BodyPartExamined="HANDGELENK")
    own = BodyParts({"Handgelenk": "XR_WRIST"})
    assert read(tmp_path, data, parts=own).images[0].study_type == "XR_WRIST"


def test_the_order_depends_on_no_name_of_a_file(tmp_path: Path) -> None:
    """Within a study, by series, acquisition and instance number."""
    numbers = [(2, 1, 1), (1, 2, 1), (1, 1, 10), (1, 1, 2)]
    files = [
        radiograph(
            n, SeriesNumber=series, AcquisitionNumber=acquisition, InstanceNumber=number
        )
        for n, (series, acquisition, number) in enumerate(numbers)
    ]
    files += [radiograph(f"8{n}", BodyPartExamined="WRIST") for n in range(3)]
    one = read(tmp_path / "a", *files).images
    other = read(tmp_path / "b", *reversed(files)).images
    assert [image.path for image in one] == [image.path for image in other]
    expected = [NAMING.image(f"{ROOT_UID}.9{n}") for n in (3, 2, 1, 0)]
    assert [image.path.rpartition("/")[2] for image in one[:4]] == expected
    assert len(one) == 7


def test_patients_of_two_issuers_are_two(tmp_path: Path) -> None:
    files = [
        radiograph(
            n, IssuerOfPatientID=issuer, StudyInstanceUID=f"{STUDY_UID}.{n}", **{}
        )
        for n, issuer in enumerate(["A", "B", "A"])
    ]
    images = read(tmp_path, *files).images
    assert len({image.patient for image in images}) == 2


def test_missing_ids_and_issuers_are_those_of_the_study(tmp_path: Path) -> None:
    archive = read(
        tmp_path,
        radiograph(1, IssuerOfPatientID="A"),
        radiograph(2),
        radiograph(3, PatientID=""),
        radiograph(4, PatientID=None, BodyPartExamined="WRIST"),
    )
    assert {image.patient for image in archive.images} == {NAMING.patient("PID-1", "A")}
    assert (archive.without_id, archive.half_issued) == (0, 0)


def test_a_study_without_id_is_a_patient_of_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive = read(
        tmp_path,
        radiograph(1, PatientID=None),
        radiograph(2, PatientID="", BodyPartExamined="WRIST"),
        radiograph(3, PatientID=None, StudyInstanceUID=f"{STUDY_UID}.3"),
    )
    patients = {image.study_type: image.patient for image in archive.images[1:]}
    assert len({image.patient for image in archive.images}) == 2
    assert set(patients.values()) <= {image.patient for image in archive.images}
    message = "2 studies without a patient ID, each read as a patient of its own"
    assert message in logged(archive, NAMING, caplog)


def test_an_id_with_and_without_issuer_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive = read(
        tmp_path,
        radiograph(1, IssuerOfPatientID="A"),
        radiograph(2, StudyInstanceUID=f"{STUDY_UID}.2"),
    )
    assert len({image.patient for image in archive.images}) == 2
    assert any(
        message.startswith("1 patient ID both with an issuer and without")
        for message in logged(archive, NAMING, caplog)
    )


@pytest.mark.parametrize("other", [{"PatientID": "PID-2"}, {"IssuerOfPatientID": "B"}])
def test_a_study_of_two_patients_is_refused(tmp_path: Path, other: dict) -> None:
    values = {"IssuerOfPatientID": "A", "PatientID": "PID-1", **other}
    with pytest.raises(XenonError, match="^1 StudyInstanceUID of several") as caught:
        read(tmp_path, radiograph(1, IssuerOfPatientID="A"), radiograph(2, **values))
    (line,) = caught.value.details
    assert NAMING.patient("PID-1", "A") in line
    assert NAMING.patient(values["PatientID"], values["IssuerOfPatientID"]) in line
    assert "PID" not in line + str(caught.value)


def test_an_image_that_was_exported_twice_is_read_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = radiograph(1)
    archive = read(tmp_path, data, radiograph(2), data, data)
    assert len(archive.images) == 2
    assert archive.copies == 2
    messages = logged(archive, NAMING, caplog)
    assert messages[0] == "2 DICOM images of 1 study and 1 patient"
    assert messages[1] == "2 images more than once, read once"


def test_an_image_in_files_that_differ_is_refused(tmp_path: Path) -> None:
    with pytest.raises(XenonError, match="^1 SOPInstanceUID of files that") as caught:
        read(tmp_path, radiograph(1), radiograph(1, PatientName="Other"))
    assert caught.value.details[0].endswith(
        NAMING.image(f"{ROOT_UID}.91") + ": 2 files"
    )


def test_other_files_are_counted_and_no_suffix_tells_a_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nothing = dict.fromkeys(("Rows", "Columns", "PixelData"))
    folder = write(
        tmp_path / "in",
        {
            "DICOMDIR": b"",
            "a/IM1": radiograph(1),
            "a/b.weird": radiograph(2),
            "PR1": written(PIXELS, Modality="PR", **nothing),
            "view.png": b"\x89PNG\r\n\x1a\n",
            "photo": b"\xff\xd8\xff" + bytes(200),
            "viewer.exe": b"MZ",
            "Jane.Mustermann": b"a letter",
            "notes": b"a letter",
        },
    )
    archive = read_archive(folder, NAMING)
    assert [image.file.name for image in archive.images] != []
    assert archive.left_out == {
        "DICOM PR (presentation state)": 1,
        ".png": 1,
        ".exe": 1,
        "with another suffix": 1,
        "without a suffix": 2,
    }
    assert any("left out 6 files" in line for line in logged(archive, NAMING, caplog))
    assert ".mustermann" in read_archive(folder, PLAIN).left_out


def test_unknown_body_parts_are_named_only_if_that_names_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["CHEST", "Chest", "MUSTERMANN", "ERIKA", None]
    archive = read(
        tmp_path,
        *(radiograph(n, BodyPartExamined=name) for n, name in enumerate(names)),
    )
    expected = (
        f"5 images of unknown body parts, with the study type {body_parts.UNKNOWN}: "
        f"2 CHEST, 2 of names that may be anything, 1 without a body part; name their "
        f"study types with --body-parts"
    )
    assert expected in logged(archive, NAMING, caplog)
    assert "1 MUSTERMANN" in "".join(logged(archive, PLAIN, caplog))


def test_burned_in_annotations_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = ["YES", "yes", "NO", None]
    archive = read(
        tmp_path,
        *(radiograph(n, BurnedInAnnotation=value) for n, value in enumerate(values)),
    )
    line = logged(archive, NAMING, caplog)[-1]
    assert line.startswith("2 images with BurnedInAnnotation YES")
    assert line.endswith("xenon does not clean pixels")


BAD = {
    "Doe/no image": radiograph(7, SOPInstanceUID=None),
    "Doe/cut.dcm": b"no DICOM",
    "Doe/empty.dcm": b"",
}


def test_files_that_cannot_be_used_are_listed_and_the_link_names_them(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "in", {"Doe/good": radiograph(1), **BAD})
    link = tmp_path / "link.csv"
    with pytest.raises(XenonError, match="^3 DICOM files cannot be used") as caught:
        read_archive(folder, NAMING, link=link)
    assert str(caught.value).endswith("the file of --link says which these are")
    assert len(caught.value.details) == 3
    assert "Doe" not in "".join([str(caught.value), *caught.value.details])
    found = links.read(link)
    for line in caught.value.details:
        name, reason = line.split(": ", 1)
        expected = {
            "its header has no SOPInstanceUID: export it again": "no image",
            "not a DICOM file": "cut.dcm",
            "the file is empty": "empty.dcm",
        }
        assert found[name] == folder / "Doe" / expected[reason]

    with pytest.raises(XenonError, match="with --link FILE, FILE says which"):
        read_archive(folder, NAMING)
    with pytest.raises(XenonError, match="--skip-bad$") as caught:
        read_archive(folder, PLAIN)
    assert caught.value.details[-1].startswith("Doe/no image: ")


def test_files_that_cannot_be_used_can_be_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path / "in", {"good": radiograph(1), **BAD})
    archive = read_archive(folder, NAMING, skip_bad=True)
    assert len(archive.images) == 1
    line = "left out 3 DICOM files whose headers cannot be used"
    assert line in logged(archive, NAMING, caplog)


def test_an_image_that_cannot_be_decoded_is_named_as_in_outputs(
    tmp_path: Path,
) -> None:
    """Whoever decodes it passes `Image.name` on."""
    folder = write(tmp_path / "in", {"Doe/1": radiograph(1, Rows=None)})
    for naming in (NAMING, PLAIN):
        (image,) = read_archive(folder, naming).images
        name = image.path if naming is NAMING else str(folder / "Doe" / "1")
        with pytest.raises(XenonError, match=f"^{re.escape(name)}: it has no Rows$"):
            images.decode(images.read(image.file, image.name), image.name)
        image.file.rename(tmp_path / "Doe")
        with pytest.raises(XenonError, match=f"^{re.escape(name)}: No such file"):
            images.read(image.file, image.name)
        (tmp_path / "Doe").rename(image.file)


def test_files_that_are_named_are_read_alike(tmp_path: Path) -> None:
    files = {"Doe/a/1": radiograph(1), "Doe/b/2": radiograph(2), "Doe/x": b"text"}
    folder = write(tmp_path / "in", files)
    named = [folder / "Doe/b/2", folder / "Doe/a/1"]
    assert read_files(named, NAMING).images == read_archive(folder, NAMING).images
    assert read_files(named[:1], NAMING).folder == folder / "Doe" / "b"
    with pytest.raises(XenonError, match="1 DICOM file cannot be used") as caught:
        read_files([*named, folder / "Doe/x"], NAMING)
    assert caught.value.details[0].endswith(": not a DICOM file")
    assert "Doe" not in caught.value.details[0]


def test_an_archive_is_known_by_what_it_is(tmp_path: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n"
    trees = {
        "export": ({"a/b/c/IM1": radiograph(), "photo.png": png}, True),
        "flat": ({"1.2.3.4": radiograph()}, True),
        "XR_project": ({"IM1": radiograph(), "a/IM2": radiograph()}, True),
        "mura": ({"train/XR_HAND/p/study1_positive/1.dcm": radiograph()}, False),
        "pictures": ({"a/1.png": png, "notes.txt": b"x"}, False),
        "empty": ({".hidden": b""}, False),
    }
    for name, (files, expected) in trees.items():
        assert is_archive(write(tmp_path / name, files)) == expected, name
    hand = tmp_path / "mura" / "train" / "XR_HAND"
    assert not is_archive(hand)
    assert not is_archive(hand / "p" / "study1_positive")


def test_a_folder_without_images_says_what_was_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", {"Doe.txt": b"x", "Doe.Jane": b"x"})
    with pytest.raises(XenonError, match="no DICOM image") as caught:
        read_archive(folder, NAMING)
    assert str(caught.value).endswith("found 1 .txt, 1 with another suffix")


def test_a_folder_that_cannot_be_read_is_not_named(tmp_path: Path) -> None:
    for read_folder in (is_archive, lambda folder: read_archive(folder, NAMING)):
        with pytest.raises(XenonError, match="No such file or directory") as caught:
            read_folder(tmp_path / "Doe")
        assert "Doe" not in str(caught.value)
    with pytest.raises(XenonError, match=f"{tmp_path}/Doe: No such file"):
        read_archive(tmp_path / "Doe", PLAIN)


def test_the_link_file_is_its_owners_and_finds_the_files(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "in" / "Müller, Käthe\n") + b"\xff"
    os.makedirs(folder)
    files = [radiograph(1), radiograph(2, AccessionNumber="Ä,1"), radiograph(1)]
    for n, data in enumerate([*files[:2], files[0]]):
        Path(os.fsdecode(folder), f"{n}").write_bytes(data)
    link = tmp_path / "link.csv"
    link.touch(0o644)
    archive = read_archive(tmp_path / "in", NAMING, link=link)

    assert stat.S_IMODE(link.stat().st_mode) == 0o600
    found = links.read(link)
    for image in archive.images:
        assert found[image.path].read_bytes() == image.file.read_bytes()
        assert found[image.path].is_absolute()
    text = link.read_bytes()
    assert text.startswith(
        b"image,study,patient,study_type,body_part,study_uid,series_uid,image_uid,"
        b"accession,file\n"
    )
    assert "Ä,1".encode() in text
    assert text.count(STUDY_UID.encode() + b",") == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no link file"),
        (b"image,file\n", "no link file"),
        (links.content([]) + b"a,b\n", "damaged"),
        (links.content([]) + b'"a', "damaged"),
    ],
)
def test_what_is_no_link_file_is_refused(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(XenonError, match=f"x.csv: {reason}"):
        links.read(tmp_path / "x.csv")


def test_nothing_that_is_written_or_printed_holds_an_identifier(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture,
) -> None:
    """Plant identifiers in headers and paths, in every character set."""
    caplog.set_level(logging.DEBUG)
    files, planted = {}, {STUDY_UID, f"{ROOT_UID}.9", "ACC-77"}
    for n, charset in enumerate(PEOPLE):
        elements = {
            **person(charset),
            "StudyInstanceUID": f"{STUDY_UID}.{n}",
            "AccessionNumber": f"ACC-77{n}",
            "BodyPartExamined": "ELBOW" if n % 2 else f"MUSTER {n}",
            "BurnedInAnnotation": "YES",
        }
        path = f"{PEOPLE[charset][0]}/{PEOPLE[charset][1]}"
        files[f"{path}/ACC-77{n}.IM"] = radiograph(n, **elements)
        files[f"{path}/x.{PEOPLE[charset][0].split('^')[0]}"] = b"text"
        files[f"{path}/bad.dcm"] = radiograph(f"8{n}", **elements)[:-700]
        planted |= identifiers(charset) | {"MUSTER"}
    folder = write(tmp_path / "in", files)
    shown = []
    archive = read_archive(folder, NAMING)
    archive_summary.log(archive, NAMING)
    shown += [repr(archive), repr(archive.entries[0]), repr(NAMING)]
    shown += [f"{i.path} {i.study} {i.patient} {dict(i.extra)}" for i in archive.images]
    (folder / "Müßiggang" / "again").parent.mkdir()
    (folder / "Müßiggang" / "again").write_bytes(
        radiograph(0, **person("ISO_IR 192"), StudyInstanceUID=f"{STUDY_UID}.1")
    )
    (folder / "none.dcm").write_bytes(b"")
    for options in ({}, {"skip_bad": True}):
        with pytest.raises(XenonError) as caught:
            read_archive(folder, NAMING, **options)
        shown += [str(caught.value), *caught.value.details]
    streams = capfd.readouterr()
    everything = "\n".join([*shown, caplog.text, streams.out, streams.err])
    assert not leaks(everything.encode(), planted)
    assert leaks((tmp_path / "in/none.dcm").read_bytes() + b"ACC-77", planted)


def test_an_image_without_a_study_uid_is_a_study_of_its_own(tmp_path: Path) -> None:
    """As anonymizers leave files, and as xenon 0.1.0 took every one."""
    films = {str(n): radiograph(n, StudyInstanceUID=None) for n in (1, 2)}
    images_ = read_archive(write(tmp_path / "in", films), NAMING).images
    assert len({image.study for image in images_}) == 2


def test_a_link_file_guards_what_a_spreadsheet_would_run(tmp_path: Path) -> None:
    """Body parts and accession numbers of a header may be anything."""
    fields = dict.fromkeys(links.Link._fields, "")
    link = links.Link(**{**fields, "image": "=i", "accession": "=cmd", "file": "/f"})
    (tmp_path / "link.csv").write_bytes(links.content([link]))
    assert "'=cmd" in (tmp_path / "link.csv").read_text().split(",")
    assert links.read(tmp_path / "link.csv") == {"=i": Path("/f")}
