"""From images to studies: means, and the digits that decide a prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xenon_mx.data import mura
from xenon_mx.evaluation import prediction_csv, studies
from xenon_mx.evaluation.estimates import evaluate
from xenon_mx.evaluation.evaluation_set import read_predictions


def test_studies_follow_first_appearance_when_images_are_interleaved():
    by_study = studies.aggregate_studies(
        studies=["b", "a", "b", "a", "c"],
        study_types=["XR_B", "XR_A", "XR_B", "XR_A", ""],
        labels=[1, 0, 1, 0, studies.UNLABELLED],
        prob=np.arange(5.0) / 8,
    )
    assert by_study.names == ["b", "a", "c"]
    assert by_study.study_types == ["XR_B", "XR_A", ""]
    assert by_study.labels.tolist() == [1, 0, -1]
    assert by_study.images.tolist() == [2, 2, 1]
    np.testing.assert_array_equal(by_study.prob, [1 / 8, 2 / 8, 4 / 8])


def test_images_outside_muras_layout_are_studies_without_a_label():
    paths = ("XR_A/patient1/study1_positive/image1.png", "b.png", "c.png")
    images = [mura.parse(path, Path(path)) for path in paths]
    by_study = studies.aggregate_images(images, np.array([0.5, 0.25, 0.75]))
    assert by_study.names == ["XR_A/patient1/study1_positive/", "b.png", "c.png"]
    assert by_study.study_types == ["XR_A", "", ""]
    assert by_study.labels.tolist() == [1, -1, -1]
    assert by_study.prob.tolist() == [0.5, 0.25, 0.75]


def test_the_score_is_that_of_a_table_worked_by_hand():
    # 20 agree on 1, 15 on 0; 5 and 10 differ: pa = .7, pe = .5, kappa = .4
    labels = np.array([1] * 25 + [0] * 25)
    prob = np.array([0.9] * 20 + [0.1] * 5 + [0.9] * 10 + [0.1] * 15)
    kappa, auroc = studies.score(labels, prob, 0.5)
    assert kappa == pytest.approx(0.4)
    assert auroc == pytest.approx((20 / 25 + 15 / 25) / 2)


def test_the_nine_digits_of_the_table_decide(tmp_path):
    """A mean a little above .5 is normal, and a tie with .5, as in the table."""
    paths = [
        "valid/XR_A/patient1/study1_positive/image1.png",
        "valid/XR_A/patient2/study1_negative/image1.png",
        "valid/XR_A/patient3/study1_positive/image1.png",
    ]
    images = [mura.parse(path, Path(path)) for path in paths]
    prob = np.array([0.5 + 2e-11, 0.5, 0.9])
    assert studies.predict(prob, 0.5).tolist() == [0, 0, 1]
    by_study = studies.aggregate_images(images, prob)
    score = studies.score(by_study.labels, by_study.prob, 0.5)
    assert score.kappa == pytest.approx(0.4)  # pa = 2/3, pe = 4/9
    assert score.auroc == 0.75  # one pair in order, one tie
    table = tmp_path / "out.csv"
    table.write_bytes(prediction_csv.studies_csv(images, prob[:, None], 0.5))
    read = {e.name: e.value for e in evaluate(read_predictions(table), repeats=0)}
    assert (read["kappa"], read["AUROC"]) == pytest.approx(score)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.2, 0.3, 0.25),
        (0.0, 1e-12, 5e-13),
        (0.5, 0.500000001, 0.5),  # neighbours in nine digits
        (0.9, 1.0, 0.95),
    ],
)
def test_a_threshold_is_between_the_studies_that_it_separates(low, high, expected):
    found = studies.threshold_between(low, high)
    assert found == pytest.approx(expected, rel=1e-12)
    assert low <= found < high
