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
from xenon_mx.evaluation import bootstrap, metrics, prediction_tables
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
    out.write_bytes(prediction_tables.studies_csv(images, MEMBERS, 0.5))
    by_image.write_bytes(prediction_tables.images_csv(images, MEMBERS, 0.5))
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
        ("", "was not written by xenon-predict"),
        ("a,b\n1,2\n", "was not written by xenon-predict"),
        (f"{STUDY},0\n", "was not written by xenon-predict"),  # a submission
        (HEADER.replace("images", "views"), "was not written by xenon-predict"),
        (HEADER, "contains no predictions"),
        (HEADER + f"{STUDY},XR_HAND,1,0.25,0,\n", "1 of 1 rows have no label"),
        (HEADER + GOOD + "a/b.png,,1,0.25,0,\n", "1 of 2 rows have no label"),
        (HEADER + GOOD + GOOD, "lists 1 study more than once, such as valid/XR_HAND"),
        (HEADER + GOOD + "x,y\n", "line 3: must have as many cells"),
        (HEADER + GOOD.replace("\n", ",9\n"), "line 2: must have as many cells"),
        (HEADER + GOOD.replace(",0\n", ",2\n"), "line 2: label '2' is neither"),
        (HEADER + GOOD.replace("0.25", "1.5"), "probability '1.5' is not a number"),
        (HEADER + GOOD.replace("0.25", "nan"), "probability 'nan' is not a number"),
        (HEADER + GOOD.replace("0.25", "high"), "probability 'high' is not a number"),
        (HEADER + "a/b/,XR_HAND,1,0.25,0,0\n", "line 2: 'a/b/' contains no patient"),
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
