"""The file of readers: its two forms, and what is wrong with others."""

from __future__ import annotations

import pytest
from support.tables import study_name, table, write_rows

from xenon_mx.errors import XenonError
from xenon_mx.evaluation.prediction_tables import read_table
from xenon_mx.evaluation.reader_file import UNREAD, read_readers

NAMES = [study_name(i, i % 2) for i in range(4)]


@pytest.fixture
def studies(tmp_path):
    return table(tmp_path / "a.csv", NAMES, [0.1, 0.9, 0.2, 0.8])


def write(tmp_path, *rows):
    return write_rows(tmp_path / "readers.csv", *rows)


def test_columns_are_readers_and_cells_may_be_empty(tmp_path, studies):
    file = write(
        tmp_path,
        ("Dr. Ada", "study", "Bob"),
        (0, NAMES[3].rstrip("/"), ""),  # another order, without the slash
        ("1.0", NAMES[0], "0.0"),  # as pandas writes a column with gaps
        ("", NAMES[1], 1),
    )
    readers = read_readers(file, studies)
    assert readers.names == ["Dr. Ada", "Bob"]
    assert readers.readings.tolist() == [
        [1, 0],
        [UNREAD, 1],
        [UNREAD, UNREAD],  # without a line
        [0, UNREAD],
    ]
    assert readers.unread == 4
    assert readers.rows([3, 0]).readings.tolist() == [[0, UNREAD], [1, 0]]


def test_the_competitions_annotation_file_has_three_readers(tmp_path, studies):
    file = write(tmp_path, *[(name, 1, 0, i % 2) for i, name in enumerate(NAMES)])
    readers = read_readers(file, studies)
    assert readers.names == ["reader_1", "reader_2", "reader_3"]
    assert readers.readings.tolist() == [[1, 0, 0], [1, 0, 1], [1, 0, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "its first line must name its columns, and has no study"),
        ([("study", "x", "x")], "two columns have the same name"),
        ([("study",), (NAMES[0],)], "names no reader: give each reader a column"),
        ([(NAMES[0], 1)], "its first line must name its columns, and has no study"),
        ([("study", "label"), (NAMES[0], 1)], "the column label has another meaning"),
        ([("study", "x"), (NAMES[0], 2)], "line 2: x is '2', and must be 1 (abnormal)"),
        ([("study", "x"), (NAMES[0], "nan")], "line 2: x is 'nan', and must be 1"),
        ([("study", "x"), (NAMES[0], "abnormal")], "line 2: x is 'abnormal', and"),
        ([("study", "x"), (NAMES[0], 1, 0)], "line 2 has 3 columns, and the first"),
        ([("study", "x"), ("", 1)], "line 2 names no study"),
        (
            [("study", "x"), (NAMES[0], 1), (NAMES[0].rstrip("/"), 0)],
            "lines 2 and 3 are of the same study: give one line per study",
        ),
        (
            [("study", "x"), (NAMES[0], 1), ("other/study", 0)],
            "1 study of 2 is not in ",
        ),
        (
            [("study", "x"), ("other/study2", 1), ("other/study", 0), (NAMES[1], 0)],
            "such as other/study2 in line 2",
        ),
        (
            [("study", "x", "y"), (NAMES[0], 1, "")],
            "the reader y has read none of the studies",
        ),
    ],
)
def test_another_file_is_one_clear_error(tmp_path, studies, rows, message):
    file = write(tmp_path, *rows)
    with pytest.raises(XenonError) as caught:
        read_readers(file, studies)
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_one_in_another_encoding(tmp_path, studies):
    with pytest.raises(XenonError, match=r"none\.csv: No such file"):
        read_readers(tmp_path / "none.csv", studies)
    (tmp_path / "latin.csv").write_bytes("study,Müller\n".encode("latin-1"))
    with pytest.raises(XenonError, match=r"latin\.csv: is not in UTF-8"):
        read_readers(tmp_path / "latin.csv", studies)


def test_readers_read_studies_not_images(tmp_path):
    file = write_rows(tmp_path / "i.csv", ("image", "probability"), ("a/b.png", 0.5))
    with pytest.raises(XenonError, match="needs a table of studies, not of images"):
        read_readers(tmp_path / "readers.csv", read_table(file))
