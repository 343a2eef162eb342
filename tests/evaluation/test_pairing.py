"""Two tables row by row, and every reason why they cannot be compared."""

from __future__ import annotations

import numpy as np
import pytest
from support.tables import study_name, table, write_rows, write_table

from xenon_mx.errors import XenonError
from xenon_mx.evaluation.pairing import pair_tables
from xenon_mx.evaluation.prediction_tables import read_table

LABELS = [1, 0, 1, 0, 1, 0]
NAMES = [study_name(i, label) for i, label in enumerate(LABELS)]
PROB = [0.9, 0.2, 0.4, 0.6, 0.8, 0.1]
HALF = (0.5, 0.5)


def test_rows_are_paired_by_name_in_the_order_of_the_first(tmp_path):
    first = table(tmp_path / "a.csv", NAMES, PROB)
    order = [3, 0, 5, 1, 4, 2]
    names = [NAMES[i].rstrip("/") for i in order]  # as another program writes them
    second = table(tmp_path / "b.csv", names, [PROB[i] / 2 for i in order])
    pair = pair_tables(first, second, (0.5, 0.3))
    assert pair.names == NAMES
    assert pair.thresholds == (0.5, 0.3)
    np.testing.assert_allclose(pair.first.prob, PROB)
    np.testing.assert_allclose(pair.second.prob, np.array(PROB) / 2)
    for samples in (pair.first, pair.second):
        assert samples.labels.tolist() == LABELS
        assert samples.patients == [f"patient{i:05d}" for i in range(6)]
        assert samples.study_types == ["XR_HAND"] * 6


def test_patients_are_those_of_the_table_that_tells_them(tmp_path):
    names, columns = ["a", "b", "c"], {"label": [1, 0, 1]}
    people = ["x", "y", "x"]
    without = table(tmp_path / "a.csv", names, [0.1, 0.2, 0.3], **columns)
    told = table(
        tmp_path / "b.csv", names[::-1], [0.1, 0.3, 0.2], **columns, patient=people
    )
    for first, second in ((without, told), (told, without)):
        pair = pair_tables(first, second, HALF)
        assert pair.first.patients == pair.second.patients == people
        assert pair.first.patients_known
        assert pair.second.patients_known
    other = table(tmp_path / "c.csv", names, [0.5] * 3, **columns)
    assert not pair_tables(without, other, HALF).first.patients_known


def test_images_are_paired_too(tmp_path):
    rows = [(f"{name}image1.png", p) for name, p in zip(NAMES, PROB)]
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    write_rows(files[0], ("image", "probability"), *rows)
    write_rows(files[1], ("image", "probability"), *[(n, p / 2) for n, p in rows[::-1]])
    pair = pair_tables(*map(read_table, files), HALF)
    assert pair.first.level == pair.second.level == "image"
    np.testing.assert_allclose(pair.second.prob, np.array(PROB) / 2)


def test_disagreements_are_sorted_by_the_distances_from_both_thresholds(tmp_path):
    first = table(tmp_path / "a.csv", NAMES, [0.9, 0.17, 0.55, 0.6, 0.8, 0.1])
    second = table(tmp_path / "b.csv", NAMES, [0.8, 0.45, 0.1, 0.39, 0.2, 0.6])
    pair = pair_tables(first, second, (0.5, 0.4))
    # .9/.8 agree; distances: .17/.45 -> .38, .55/.1 -> .35, .6/.39 -> .11,
    # .8/.2 -> .5, .1/.6 -> .6
    assert pair.disagreements() == [5, 4, 1, 2, 3]
    predictions = [[int(p) for p in each] for each in pair.predictions]
    assert predictions == [[1, 0, 1, 1, 1, 0], [1, 1, 0, 0, 0, 1]]


# --- what cannot be compared ---------------------------------------------------------


def refusal(*tables):
    with pytest.raises(XenonError) as caught:
        pair_tables(*tables, HALF)
    assert "\n" not in str(caught.value)
    return str(caught.value), caught.value.details


def test_other_studies_are_listed(tmp_path):
    more = [study_name(i, 1) for i in range(10, 15)]
    first = table(tmp_path / "a.csv", NAMES + more, PROB + [0.5] * 5)
    second = table(tmp_path / "b.csv", [*NAMES, study_name(99, 0)], [*PROB, 0.5])
    message, details = refusal(first, second)
    assert message.startswith(f"{first.file} and {second.file} cannot be compared: ")
    assert list(details) == [
        f"5 studies are in {first.file} only: {', '.join(more[:3])}, and 2 more",
        f"1 study is in {second.file} only: {study_name(99, 0)}",
    ]


def test_other_labels_and_patients_are_listed(tmp_path):
    names, prob, people = ["a", "b", "c"], [0.1, 0.2, 0.3], ["x", "y", "z"]
    first = table(tmp_path / "a.csv", names, prob, label=[1, 0, 1], patient=people)
    second = table(
        tmp_path / "b.csv", names, prob, label=[0, 0, 0], patient=["x", "y", "w"]
    )
    _, details = refusal(first, second)
    assert list(details) == [
        f"2 studies have other labels in {second.file}: a (1 and 0), c (1 and 0)",
        f"1 study has another patient in {second.file}: c",
    ]


def test_images_beside_studies(tmp_path):
    first = table(tmp_path / "a.csv", NAMES, PROB)
    rows = [(f"{name}image1.png", p) for name, p in zip(NAMES, PROB)]
    second = read_table(write_rows(tmp_path / "b.csv", ("image", "probability"), *rows))
    message, _ = refusal(first, second)
    assert message == (
        f"{second.file}: is a table of images, and {first.file} one of studies: "
        f"compare two tables of the same kind"
    )


def test_the_same_table_twice(tmp_path):
    first = table(tmp_path / "a.csv", NAMES, PROB)
    copy = table(tmp_path / "copy.csv", NAMES, PROB)
    (tmp_path / "link.csv").symlink_to("a.csv")
    for other in (first, copy, read_table(tmp_path / "link.csv")):
        message, _ = refusal(first, other)
        assert f"{other.file}: is the same table as {first.file}" in message


def test_without_labels(tmp_path):
    first = table(tmp_path / "a.csv", ["a", "b"], [0.1, 0.2], label=[1, 0])
    second = table(tmp_path / "b.csv", ["a", "b"], [0.1, 0.2])
    assert refusal(first, second)[0].startswith(
        f"{second.file}: no label in 2 of 2 rows"
    )


def test_a_name_twice_but_for_a_slash(tmp_path):
    first = table(tmp_path / "a.csv", ["a", "b"], [0.1, 0.2], label=[1, 0])
    second = table(tmp_path / "b.csv", ["a", "a/"], [0.1, 0.2], label=[1, 1])
    assert "line 3: lists a/ for the second time" in refusal(first, second)[0]


def test_nan_is_refused_where_a_table_is_read(tmp_path):
    file = write_table(tmp_path / "b.csv", NAMES, [*PROB[:5], "nan"])
    with pytest.raises(XenonError, match="line 7: probability 'nan' is not a number"):
        read_table(file)
