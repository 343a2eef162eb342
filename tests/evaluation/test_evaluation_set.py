"""Evaluation sets: what is read from the tables of xenon-predict."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from support import paths
from support.evaluation_sets import make_samples

from xenon_mx.data import mura
from xenon_mx.errors import XenonError
from xenon_mx.evaluation import bootstrap, estimates, metrics, prediction_csv
from xenon_mx.evaluation.evaluation_set import read_predictions

PATHS = (
    "MURA-v1.1/valid/XR_WRIST/patient11185/study1_positive/image1.png",
    "MURA-v1.1/valid/XR_WRIST/patient11185/study1_positive/image2.png",
    "MURA-v1.1/valid/XR_HAND/patient11185/study1_negative/image1.png",
    "train/XR_HAND/patient00007/study2_negative/image1.png",
)
MEMBERS = np.array([[0.9, 0.7], [0.6, 0.4], [0.25, 0.35], [0.1, 0.2]])


@pytest.fixture
def written(tmp_path):
    """Write the tables of four images as xenon-predict does: OUT.csv and --images."""
    images = [mura.parse(path, Path(path)) for path in PATHS]
    out, by_image = tmp_path / "out.csv", tmp_path / "images.csv"
    out.write_bytes(prediction_csv.studies_csv(images, MEMBERS, 0.5))
    by_image.write_bytes(prediction_csv.images_csv(images, MEMBERS, 0.5))
    return out, by_image


def test_studies_are_read_as_xenon_predict_writes_them(written):
    samples = read_predictions(written[0])
    assert samples.level == "study"
    np.testing.assert_array_equal(samples.labels, [1, 0, 0])
    np.testing.assert_allclose(samples.prob, [0.65, 0.3, 0.15])
    assert samples.prob.dtype == np.float64
    # one name is one patient, even with studies of hand and wrist
    assert samples.patients == ["patient11185", "patient11185", "patient00007"]
    assert samples.study_types == ["XR_WRIST", "XR_HAND", "XR_HAND"]
    assert samples.splits == ["valid", "valid", "train"]


def test_images_are_read_as_xenon_predict_writes_them(written):
    samples = read_predictions(written[1])
    assert samples.level == "image"
    np.testing.assert_array_equal(samples.labels, [1, 1, 0, 0])
    np.testing.assert_allclose(samples.prob, [0.8, 0.5, 0.3, 0.15])
    assert samples.patients == ["patient11185"] * 3 + ["patient00007"]
    assert samples.splits == ["valid"] * 3 + ["train"]


def test_a_patients_studies_are_drawn_together_whatever_their_study_type(written):
    samples = read_predictions(written[0])
    draws = bootstrap.bootstrap_metrics(
        labels=samples.labels,
        prob=samples.prob,
        patients=samples.patients,
        threshold=0.5,
        repeats=200,
        seed=0,
    )["sensitivity"]
    # One of the two patients has the only abnormal study: missing in 1/4 of the draws.
    assert set(draws[~np.isnan(draws)]) == {1.0}
    assert np.isnan(draws).mean() == pytest.approx(0.25, abs=0.1)


HEADER = "study,study_type,images,probability,prediction,label\n"
STUDY = "valid/XR_HAND/patient1/study1_negative/"
GOOD = f"{STUDY},XR_HAND,1,0.25,0,0\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "and lacks study and probability"),
        ("a,b\n1,2\n", "is not a table of predictions"),
        (f"{STUDY},0\n", "is not a table of predictions"),  # a submission
        (HEADER.replace("probability", "score"), "and lacks probability"),
        (HEADER.replace("images", "label"), "names the column label twice"),
        (HEADER, "contains no predictions"),
        (HEADER + f"{STUDY},XR_HAND,1,0.25,0,\n", "no label in 1 of 1 row"),
        (HEADER + GOOD + "a/b.png,,1,0.25,0,\n", "no label in 1 of 2 rows"),
        (HEADER + GOOD + GOOD, "lists 1 study more than once, such as valid/XR_HAND"),
        (HEADER + GOOD + "x,y\n", "line 3: must have as many cells"),
        (HEADER + GOOD.replace("\n", ",9\n"), "line 2: must have as many cells"),
        (HEADER + GOOD.replace(",0\n", ",2\n"), "line 2: label '2' is neither"),
        (HEADER + GOOD.replace("0.25", "1.5"), "probability '1.5' is not a number"),
        (HEADER + GOOD.replace("0.25", "nan"), "probability 'nan' is not a number"),
        (HEADER + GOOD.replace("0.25", "high"), "probability 'high' is not a number"),
        (HEADER + GOOD.replace(STUDY, ""), "line 2: names no study"),
        (HEADER + "a,overall,1,0.25,0,0\n", "line 2: 'overall' stands for all"),
        (HEADER + '"' + GOOD, "damaged"),
        (HEADER.encode() + b"\xff\xfe\n", "not a CSV in UTF-8"),
    ],
)
def test_other_files_than_labelled_predictions_are_errors(tmp_path, text, reason):
    csv = tmp_path / "x.csv"
    csv.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(XenonError, match=reason) as caught:
        read_predictions(csv)
    assert str(caught.value).startswith(str(csv))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_errors(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(XenonError, match=str(path)):
            read_predictions(path)


@pytest.mark.parametrize(
    ("labels", "prob", "patients"),
    [
        ([0, 1], [0.5], "ab"),
        ([0, 2], [0.5, 0.5], "ab"),
        ([0, 1], [0.5, math.nan], "ab"),
    ],
)
def test_invalid_samples_are_an_error(labels, prob, patients):
    with pytest.raises(ValueError, match="lengths|labels|probabilities"):
        make_samples(labels, prob, patients)


def test_the_example_of_the_docs_prints_every_metric(written, monkeypatch, capsys):
    page = (paths.ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    example = page.partition("```python\n")[2].partition("```")[0]
    written[0].rename(written[0].with_name("valid.csv"))
    monkeypatch.chdir(written[0].parent)
    exec(example, {})  # noqa: S102 - the page's own words
    printed = capsys.readouterr().out.splitlines()
    study_types = ("XR_HAND", "XR_WRIST", "overall")
    expected = [
        f"study {kind} {name}" for kind in study_types for name in metrics.METRICS
    ]
    assert all(map(str.startswith, printed, expected))
    first, second = printed[len(expected) :]
    assert first.startswith("1 of the 3 studies are in train/")
    assert "also chose the checkpoints" in second


def test_a_table_with_excels_byte_order_mark_is_read(written):
    plain = read_predictions(written[0])
    written[0].write_bytes(b"\xef\xbb\xbf" + written[0].read_bytes())
    marked = read_predictions(written[0])
    np.testing.assert_array_equal(marked.prob, plain.prob)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("study_type", "XR_ELBOW", "not of study type 'XR_ELBOW'"), ("label", "0", "its")],
)
def test_a_row_that_contradicts_its_path_is_an_error(written, column, value, message):
    header, first, *rest = written[0].read_text().splitlines()
    cells = first.split(",")
    cells[header.split(",").index(column)] = value
    written[0].write_text("\n".join([header, ",".join(cells), *rest]))
    with pytest.raises(XenonError, match=f"line 2: .*{message}"):
        read_predictions(written[0])


def test_the_columns_are_read_by_name_in_any_order(written):
    """Beside columns that have no name, as pandas writes its index."""
    header, *lines = [line.split(",") for line in written[1].read_text().splitlines()]
    order = [5, 2, 0, 7, 3, 1, 4, 6]
    rows = [["", *(cells[i] for i in order)] for cells in [header, *lines]]
    other = written[1].with_name("other.csv")
    other.write_text("\n".join(map(",".join, rows)))
    ours, theirs = read_predictions(written[1]), read_predictions(other)
    for name in ("patients", "study_types", "splits", "level", "columns"):
        assert getattr(ours, name) == getattr(theirs, name)
    np.testing.assert_array_equal(ours.prob, theirs.prob)
    np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_a_table_of_another_program_needs_three_columns(tmp_path):
    """Without patients, each study counts as one, which is said."""
    csv = tmp_path / "theirs.csv"
    csv.write_text("probability,label,study\n0.9,1.0,a\n0.2,0.0,b\n0.7,0,c\n")
    samples = read_predictions(csv)
    assert samples.labels.tolist() == [1, 0, 0]
    assert samples.study_types == ["", "", ""]
    assert len(set(samples.patients)) == 3
    assert not samples.patients_known
    assert read_predictions(csv, threshold=0.8).labels.tolist() == [1, 0, 0]


def test_of_muras_names_the_paths_tell_what_no_column_does(tmp_path):
    csv = tmp_path / "theirs.csv"
    csv.write_text(f"study,probability\nMURA-v1.1/{STUDY},0.1\n")
    samples = read_predictions(csv)
    assert (samples.labels.tolist(), samples.patients) == ([0], ["patient1"])
    assert (samples.study_types, samples.splits) == (["XR_HAND"], ["valid"])
    assert samples.patients_known


def test_a_column_of_patients_is_the_patient_and_not_the_path(tmp_path):
    csv = tmp_path / "theirs.csv"
    csv.write_text(f"study,probability,label,patient\n{STUDY},0.1,0,P1\nx,0.1,0,P1\n")
    samples = read_predictions(csv)
    assert samples.patients == ["P1", "P1"]
    assert samples.patients_known
    csv.write_text(f"study,probability,label,patient\n{STUDY},0.1,0,P1\nP1,0.1,0,\n")
    samples = read_predictions(csv)
    assert len(set(samples.patients)) == 2
    assert not samples.patients_known


def test_further_columns_are_kept_as_text_and_are_subgroups(tmp_path):
    csv = tmp_path / "theirs.csv"
    rows = [f"s{i},{i / 10},{i % 2},{'FM'[i % 3 == 0]},{i},x" for i in range(10)]
    head = "study,probability,label,sex,age,site"
    csv.write_text("\n".join([head, *rows]))
    samples = read_predictions(csv)
    assert samples.columns["age"] == [str(i) for i in range(10)]
    assert estimates.subgroup_columns(samples) == ["sex", "age"]
    found = estimates.evaluate_by_subgroup(samples, "sex", repeats=0)
    assert list(found) == ["F", "M"]
    men = [i for i in range(10) if i % 3 == 0]
    whole = make_samples([i % 2 for i in men], [i / 10 for i in men])
    expected = estimates.evaluate(whole, repeats=0)
    np.testing.assert_equal(found["M"], expected)
    assert samples.subgroup("sex", "M").columns["age"] == ["0", "3", "6", "9"]
