"""The tables of xenon-predict: the bytes written, and what is read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xenon_mx.data import mura
from xenon_mx.errors import XenonError
from xenon_mx.evaluation import evaluation_set, prediction_csv, prediction_tables

STUDY = "MURA-v1.1/valid/XR_WRIST/patient11185/study1_positive/"
IMAGES = [
    mura.parse(path, Path(path))
    for path in (f"{STUDY}image1.png", "loose.png", f"{STUDY}image2.png")
]
MEMBERS = np.array([[0.9, 0.7], [0.25, 0.25], [0.4, 0.6]])


def test_the_bytes_of_a_table_of_studies():
    assert prediction_csv.studies_csv(IMAGES, MEMBERS, 0.5).decode() == (
        "study,study_type,images,probability,prediction,label\n"
        f"{STUDY},XR_WRIST,2,0.65,1,1\n"
        "loose.png,,1,0.25,0,\n"
    )


def test_a_table_of_images_has_one_column_per_member():
    assert prediction_csv.images_csv(IMAGES, MEMBERS, 0.25).decode() == (
        "image,study,study_type,probability,prediction,label,member_1,member_2\n"
        f"{STUDY}image1.png,{STUDY},XR_WRIST,0.8,1,1,0.9,0.7\n"
        "loose.png,loose.png,,0.25,0,,0.25,0.25\n"
        f"{STUDY}image2.png,{STUDY},XR_WRIST,0.5,1,1,0.4,0.6\n"
    )


def test_a_submission_has_no_header_and_no_probability():
    images = [IMAGES[0], IMAGES[2]]
    written = prediction_csv.submission_csv(images, MEMBERS[[0, 2]], 0.5)
    assert written.decode() == f"{STUDY},1\n"


@pytest.mark.parametrize(
    "write", [prediction_csv.studies_csv, prediction_csv.images_csv]
)
def test_no_name_is_a_formula_to_a_spreadsheet_and_all_are_read_back(tmp_path, write):
    names = ["=1+1.png", "'=1.png", "@SUM(A1).png", "-2.png", "plain.png"]
    extra = {"+note": "=2", "z": "-1.5"}
    images = [
        replace(mura.parse(name, Path(name)), patient=name, extra=extra)
        for name in names
    ]
    file = tmp_path / "out.csv"
    file.write_bytes(write(images, np.full((5, 1), 0.25), 0.5))
    for line in file.read_text().splitlines():
        cells = line.split(",")
        assert not [cell for cell in cells if cell[:1] in "=@" and cell], line
        assert "-1.5" in cells or "'+note" in cells
    table = prediction_tables.read_table(file)
    assert table.names == table.studies == table.patients == names
    assert table.extra == {"+note": ["=2"] * 5, "z": ["-1.5"] * 5}


def test_a_submission_is_not_guarded_since_its_scorer_compares_names():
    study = "=data/valid/XR_WRIST/patient1/study1/"
    images = [mura.parse(f"{study}image1.png", Path())]
    written = prediction_csv.submission_csv(images, MEMBERS[:1], 0.5)
    assert written.decode() == f"{study},1\n"


def test_the_prediction_follows_from_the_digits_that_are_written():
    """Otherwise the table would show 0.5 as abnormal."""
    prob = np.array([[0.5 + 2e-11]])
    (_, row) = prediction_csv.studies_csv(IMAGES[:1], prob, 0.5).decode().splitlines()
    assert row.endswith(",0.5,0,1")


def test_further_columns_stand_at_the_end_and_are_read_back(tmp_path):
    """The patient's, where paths do not tell it, before those of the images."""
    first, loose, last = IMAGES
    images = [
        replace(first, extra={"sex": "F"}),
        replace(loose, patient="P1", extra={"age": "7"}),
        replace(last, extra={"sex": "F"}),
    ]
    file = tmp_path / "out.csv"
    file.write_bytes(prediction_csv.studies_csv(images, MEMBERS, 0.5))
    assert file.read_text() == (
        "study,study_type,images,probability,prediction,label,patient,sex,age\n"
        f"{STUDY},XR_WRIST,2,0.65,1,1,patient11185,F,\n"
        "loose.png,,1,0.25,0,,P1,,7\n"
    )
    table = prediction_tables.read_table(file)
    assert table.patients == ["patient11185", "P1"]
    assert table.extra == {"sex": ["F", ""], "age": ["", "7"]}
    file.write_bytes(prediction_csv.images_csv(images, MEMBERS, 0.5))
    assert file.read_text().splitlines()[2] == (
        "loose.png,loose.png,,0.25,0,,0.25,0.25,P1,,7"
    )
    table = prediction_tables.read_table(file)
    assert (table.members, table.patients[1]) == (2, "P1")
    assert table.extra == {"sex": ["F", "", "F"], "age": ["", "7", ""]}


@pytest.mark.parametrize(
    ("write", "level", "members"),
    [
        (prediction_csv.studies_csv, "study", 0),
        (prediction_csv.images_csv, "image", 2),
    ],
)
def test_what_is_written_is_read_back(tmp_path, write, level, members):
    file = tmp_path / "out.csv"
    file.write_bytes(write(IMAGES, MEMBERS, 0.5))
    table = prediction_tables.read_table(file)
    assert (table.file, table.level, table.members) == (file, level, members)
    if level == "study":
        assert table.names == table.studies == [STUDY, "loose.png"]
        assert table.images.tolist() == [2, 1]
        assert table.prob.tolist() == [0.65, 0.25]
        assert table.predictions.tolist() == [1, 0]
        assert table.labels.tolist() == [1, -1]
        assert table.lines == [2, 3]
    else:
        assert table.names == [image.path for image in IMAGES]
        assert table.studies == [STUDY, "loose.png", STUDY]
        assert table.images.tolist() == [1, 1, 1]
        assert table.study_types == ["XR_WRIST", "", "XR_WRIST"]


@pytest.mark.parametrize(
    "write", [prediction_csv.studies_csv, prediction_csv.images_csv]
)
def test_a_study_under_both_labels_is_refused(tmp_path, write):
    file = tmp_path / "out.csv"
    other = STUDY.replace("positive", "negative")
    views = [*IMAGES[:2], mura.parse(f"{other}image1.png", Path())]
    file.write_bytes(write(views, MEMBERS, 0.5))
    message = "out.csv: 1 study is in several folders"
    with pytest.raises(XenonError, match=message) as caught:
        evaluation_set.read_predictions(file)
    assert caught.value.details == (f"{STUDY} and {other}",)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("images", "0", "'0' is not a positive integer"),
        ("images", "x", "'x' is not a positive integer"),
        ("probability", "1.2", "'1.2' is not a number from 0 to 1"),
        ("probability", "nan", "'nan' is not a number from 0 to 1"),
        ("prediction", "2", "prediction '2' is neither 0 nor 1"),
        ("label", "yes", "label 'yes' is neither 0 nor 1"),
    ],
)
def test_an_invalid_cell_is_an_error_with_its_line(tmp_path, column, value, message):
    header, first, second = (
        prediction_csv.studies_csv(IMAGES, MEMBERS, 0.5).decode().splitlines()
    )
    cells = second.split(",")
    cells[header.split(",").index(column)] = value
    file = tmp_path / "out.csv"
    file.write_text("\n".join([header, first, ",".join(cells)]))
    with pytest.raises(XenonError, match=f"line 3: .*{message}"):
        prediction_tables.read_table(file)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_spreadsheets_may_separate_columns_by_others_than_commas(tmp_path, separator):
    file = tmp_path / "out.csv"
    lines = ["study,probability,label", "A,0.75,1", "B,0.25,0"]
    text = "\r\n".join(lines).replace(",", separator)
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    table = prediction_tables.read_table(file)
    assert (table.names, table.lines) == (["A", "B"], [2, 3])
    assert (table.prob.tolist(), table.labels.tolist()) == ([0.75, 0.25], [1, 0])


def test_a_decimal_comma_is_named(tmp_path):
    file = tmp_path / "out.csv"
    file.write_text("study;probability\nA;0,75\n")
    with pytest.raises(XenonError, match="'0,75' is not .* with a decimal point"):
        prediction_tables.read_table(file)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("study,prob", "lacks probability; it has 'study', 'prob': did you mean the "
                       "column 'probability' by 'prob'?"),
        ("Study,Probability", "did you mean the column 'study' by 'Study', and "
                              "'probability' by 'Probability'?"),
        ("case,score", "lacks study and probability; it has 'case', 'score'"),
        ("", "lacks study and probability; it has nothing"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_shown_its_columns(tmp_path, header, message):
    file = tmp_path / "out.csv"
    file.write_text(f"{header}\n")
    with pytest.raises(XenonError) as caught:
        prediction_tables.read_table(file)
    assert str(caught.value).endswith(message)
