"""Labels of an archive's studies or images, from a table of identifiers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from support.archives import ROOT_UID, STUDY_UID, radiograph, write

from xenon_mx.data import labelling, labels
from xenon_mx.data.archive import Archive, read_archive
from xenon_mx.data.body_parts import BodyParts
from xenon_mx.data.mura import Image
from xenon_mx.data.pseudonyms import Naming
from xenon_mx.errors import XenonError

NAMING = Naming(bytes(range(32)))
PLAIN = Naming(None)
UIDS = [f"{STUDY_UID}.{n}" for n in range(4)]


def study(n: int, study_type: str = "XR_HAND") -> str:
    return f"{study_type}/{NAMING.patient('PID-1', '')}/" + (
        NAMING.study(UIDS[n], study_type) + "/"
    )


def archive(tmp_path: Path, naming: Naming = NAMING) -> Archive:
    """Two hands of two images each, and a study of a hand and a wrist."""
    files = {
        f"Doe/{n}.{view}": radiograph(
            f"{n}{view}",
            StudyInstanceUID=UIDS[n],
            AccessionNumber=f"ACC-{n}",
            BodyPartExamined=("HAND", "WRIST")[n == 2 and view == 2],
            Laterality="L",
        )
        for n in range(3)
        for view in (1, 2)
    }
    return read_archive(write(tmp_path / "in", files), naming)


def table(tmp_path: Path, content: str, parts: BodyParts | None = None):
    file = tmp_path / "Doe_labels.csv"
    file.write_text(content, encoding="utf-8-sig")
    return labels.read(file, parts)


def joined(tmp_path: Path, content: str, naming: Naming = NAMING, **options: Any):
    rows = table(tmp_path, content)
    return labelling.join(archive(tmp_path, naming), rows, naming, **options)


def refused(tmp_path: Path, content: str, message: str, **options: Any) -> list[str]:
    """Return the details of a refusal that holds no identifier."""
    with pytest.raises(XenonError, match=message) as caught:
        joined(tmp_path, content, **options)
    error = caught.value
    assert str(error).startswith("--labels: ")
    shown = "\n".join([str(error), *error.details])
    assert not [text for text in (STUDY_UID, "ACC-", "Doe", "PID") if text in shown]
    return list(error.details)


def by_study(images: list[Image]) -> dict[str, set[int | None]]:
    found: dict[str, set[int | None]] = {}
    for image in images:
        found.setdefault(image.study, set()).add(image.label)
    return found


FULL = (
    f"study,label,body_part\n{UIDS[0]},0,\n{UIDS[1]},1,\n{UIDS[2]},1,hand\n"
    f"{UIDS[2]},0,wrist\n"
)


def test_a_label_is_that_of_all_images_of_its_study(tmp_path: Path) -> None:
    images = joined(tmp_path, FULL)
    assert len(images) == 6
    expected = {study(0): {0}, study(1): {1}, study(2): {1}, study(2, "XR_WRIST"): {0}}
    assert by_study(images) == expected
    assert [i.path for i in images] == [i.path for i in archive(tmp_path).images]


@pytest.mark.parametrize(
    "content",
    [
        FULL.replace("body_part", "study_type")
        .replace(",hand", ",XR_HAND")
        .replace(",wrist", ",xr_wrist"),
        FULL.replace(",", ";"),
        FULL.replace(",0,", ",normal,").replace(",1,", ",Abnormal,"),
        FULL + FULL.split("\n", 1)[1],
        FULL.replace("study", "accession").replace(f"{STUDY_UID}.", "ACC-"),
    ],
    ids=["study type", "semicolons", "words", "twice the same", "accession"],
)
def test_tables_of_other_forms_say_the_same(tmp_path: Path, content: str) -> None:
    assert joined(tmp_path, content) == joined(tmp_path, FULL)


def test_images_are_named_by_uid_or_path(tmp_path: Path) -> None:
    rows = "".join(
        f"{name},{n == 1:d}\n"
        for n in range(3)
        for name in (f"{ROOT_UID}.9{n}1", f"Doe/{n}.2")
    )
    images = joined(tmp_path, "image,label\n" + rows)
    assert by_study(images)[study(1)] == {1}
    assert by_study(images)[study(2, "XR_WRIST")] == {0}
    assert len(images) == 6


def test_an_image_is_named_by_any_of_its_copies(tmp_path: Path) -> None:
    data = radiograph(1)
    folder = write(tmp_path / "in", {"a": data, "b": data})
    rows = table(tmp_path, "image,label\nb,1\n")
    (image,) = labelling.join(read_archive(folder, NAMING), rows, NAMING)
    assert image.label == 1


def test_further_columns_are_kept(tmp_path: Path) -> None:
    header, *rows = FULL.split()
    lines = [f"{header},site,laterality", *(f"{row},north,R" for row in rows)]
    content = "\n".join(lines)
    images = joined(tmp_path, content)
    expected = {"laterality": "R", "view": "", "site": "north"}
    assert all(image.extra == expected for image in images)
    assert joined(tmp_path, FULL)[0].extra == {"laterality": "L", "view": ""}


def test_studies_without_label_and_labels_without_study_are_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = f"study,label\n{UIDS[3]},1\n{UIDS[0]},0\n\n1.2.3,0\n"
    message = (
        "^--labels: 3 studies without a label, and 2 labels without study in the "
        "folder; complete the table, or leave them out with --skip-unlabelled$"
    )
    details = refused(tmp_path, content, message)
    missing = sorted([study(1), study(2), study(2, "XR_WRIST")])
    assert sorted(details[:3]) == [f"without a label: {name}" for name in missing]
    assert details[3:] == ["without study: line 2", "without study: line 5"]

    images = joined(tmp_path, content, skip_unlabelled=True)
    assert by_study(images) == {study(0): {0}}
    assert caplog.messages == [
        "--labels: 3 studies without a label, and 2 labels without study in the "
        "folder: left out"
    ]
    assert caplog.records[0].levelno == logging.WARNING

    with pytest.raises(XenonError) as caught:
        joined(tmp_path, content, PLAIN)
    assert f"without study: line 2, {UIDS[3]}" in caught.value.details


def test_images_without_label_are_listed(tmp_path: Path) -> None:
    details = refused(
        tmp_path, "image,label\nDoe/0.1,1\n", "^--labels: 5 images without a label"
    )
    assert f"without a label: {study(0)}{NAMING.image(f'{ROOT_UID}.902')}" in details


def test_a_part_that_the_uid_has_not_is_a_label_without_study(tmp_path: Path) -> None:
    content = FULL.replace(f"{UIDS[0]},0,", f"{UIDS[0]},0,elbow")
    details = refused(tmp_path, content, "1 study without a label, and 1 label with")
    assert details == [f"without a label: {study(0)}", "without study: line 2"]


def test_a_label_of_several_parts_is_refused(tmp_path: Path) -> None:
    content = f"study,label\n{UIDS[0]},0\n{UIDS[1]},1\n{UIDS[2]},1\n"
    for skip in (False, True):
        details = refused(
            tmp_path,
            content,
            "1 label of several studies: name the part in a column study_type or body",
            skip_unlabelled=skip,
        )
        assert details == [f"line 4: {study(2)}, {study(2, 'XR_WRIST')}"]


def test_an_accession_number_of_several_studies_is_refused(tmp_path: Path) -> None:
    """Of two patients, perhaps: each hospital numbers its own orders."""
    files = {str(n): radiograph(n, StudyInstanceUID=UIDS[n]) for n in (0, 1)}
    found = read_archive(write(tmp_path / "in", files), NAMING)
    rows = table(tmp_path, "accession,label,study_type\nACC-1,1,XR_HAND\n")
    with pytest.raises(XenonError, match="of several studies.*or the study in a col"):
        labelling.join(found, rows, NAMING)


def test_contradictory_rows_are_refused(tmp_path: Path) -> None:
    content = FULL + f"{UIDS[0]},1,\n{UIDS[1]},1,\n"
    details = refused(tmp_path, content, "1 row that contradict an earlier one")
    assert details == [f"lines 2 and 6: {study(0)}"]


def test_contradictory_images_of_a_study_are_refused(tmp_path: Path) -> None:
    content = "image,label\nDoe/0.1,1\nDoe/0.2,0\nDoe/1.1,1\nDoe/1.2,1\n"
    details = refused(
        tmp_path, content, "1 study with both labels", skip_unlabelled=True
    )
    assert details == [f"lines 2 and 3: {study(0)}"]


def test_a_table_of_other_identifiers_is_refused(tmp_path: Path) -> None:
    for skip in (False, True):
        refused(
            tmp_path,
            f"accession,label\n{UIDS[0]},0\n",
            "none of its labels is of an image.*is the column accession",
            skip_unlabelled=skip,
        )


def test_a_column_that_repeats_identifiers_is_refused(tmp_path: Path) -> None:
    rows = [f"{UIDS[n]},1,ACC-{n},{n}" for n in (0, 1)]
    content = "\n".join(["study,label,order,grade", *rows, ""])
    message = "1 of them repeats identif.*remove 'order', or"
    refused(tmp_path, content, message, skip_unlabelled=True)
    once = content.replace("ACC-0", "")
    refused(tmp_path, once, message, skip_unlabelled=True)
    once = content.replace("ACC-0", "unknown")
    refused(tmp_path, once, message, skip_unlabelled=True)
    images = joined(tmp_path, content, PLAIN, skip_unlabelled=True)
    assert images[0].extra["order"] == "ACC-0"


def test_a_short_id_may_be_equal_by_chance(tmp_path: Path) -> None:
    files = {
        str(n): radiograph(n, StudyInstanceUID=UIDS[n], PatientID=str(n))
        for n in (1, 2)
    }
    found = read_archive(write(tmp_path / "in", files), NAMING)
    content = f"study,label,grade\n{UIDS[1]},0,1\n{UIDS[2]},0,1\n"
    assert len(labelling.join(found, table(tmp_path, content), NAMING)) == 2
    ids = content.replace(f"{UIDS[2]},0,1", f"{UIDS[2]},0,2")
    with pytest.raises(XenonError, match="repeats identifiers"):
        labelling.join(found, table(tmp_path, ids), NAMING)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("study\nDoe\n", "has no label"),
        ("label\n1\n", "must have one of the columns study, accession and image"),
        ("labels,study\n1,Doe\n", "has no label: did you mean .*'label' by 'labels'"),
        ("label,Study ID\n1,Doe\n", "did you mean the column 'study' by 'Study ID'"),
        ("label,study,image\n1,Doe,Doe\n", "columns study and image: keep one of them"),
        (
            "label,study,study_type,body_part\n1,Doe,,\n",
            "columns study_type and body_part: keep one",
        ),
        ("label,study\n1,1.2\nDoe,1.3\n", "label in line 3 must be 0, 1, normal or"),
        ("label,study\n,1.2\n", "label in line 2 must be"),
        ("label,study\n1,\n", "line 2 has no study"),
        ("label,study\n", "has no labels"),
        ("label,study,body_part\n1,1.2,Doe\n", "body_part in line 2 is unknown"),
        ("label,study,study_type\n1,1.2,HAND\n", "study_type in line 2 is unknown"),
    ],
)
def test_a_wrong_table_is_one_line_that_quotes_nothing(
    tmp_path: Path, content: str, message: str
) -> None:
    with pytest.raises(XenonError, match=message) as caught:
        table(tmp_path, content)
    assert str(caught.value).startswith("--labels: ")
    assert "Doe" not in str(caught.value)


def test_the_users_body_parts_count_in_the_table(tmp_path: Path) -> None:
    own = BodyParts({"Pfote": "XR_HAND"})
    rows = table(tmp_path, "label,study,body_part\n1,1.2,pfote\n", own)
    assert rows.rows[0].study_type == "XR_HAND"
    assert "1.2" not in repr(rows)
