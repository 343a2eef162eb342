"""The metrics that xenon-predict prints are those of the table that it writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xenon_mx.data import mura
from xenon_mx.evaluation import estimates, prediction_csv, study_type_metrics
from xenon_mx.evaluation.evaluation_set import read_predictions


def draw(patients, seed=3):
    """Images of patients with one to three studies of two types, and probabilities."""
    random = np.random.RandomState(seed)
    images, prob = [], []
    for patient in range(patients):
        for number in range(1 + patient % 3):
            word = ("negative", "positive")[random.randint(2)]
            kind = ("XR_HAND", "XR_WRIST")[(patient + number) % 2]
            folder = f"valid/{kind}/patient{patient:05d}/study{number + 1}_{word}"
            for view in range(1 + number):
                images.append(mura.parse(f"{folder}/image{view}.png", Path()))
                prob.append(random.beta(2, 3) if word[0] == "n" else random.beta(3, 2))
    return images, np.array(prob)


def test_they_equal_the_estimates_of_the_written_table(tmp_path):
    images, prob = draw(40)
    table = tmp_path / "out.csv"
    table.write_bytes(prediction_csv.studies_csv(images, prob[:, None], 0.4))
    samples = read_predictions(table, 0.4)
    wanted = estimates.evaluate_by_study_type(samples, 0.4)
    computed = study_type_metrics.compute(images, prob, 0.4)
    assert [each.study_type for each in computed] == list(wanted)
    for each in computed:
        assert list(each.estimates.values()) == wanted[each.study_type]
        rows = samples.select(each.study_type)
        assert each.studies == len(rows.labels)
        assert each.abnormal == rows.labels.sum()
        assert each.called_abnormal == (rows.prob > 0.4).sum()
        assert each.patients == len(set(rows.patients))


def test_without_patients_their_number_is_unknown_and_studies_are_drawn():
    images, prob = draw(12)
    unknown = [replace(image, patient="") for image in images]
    overall = study_type_metrics.compute(unknown, prob, 0.5)[-1]
    assert overall.patients is None
    low, high = overall.estimates["AUROC"][2:]
    assert low < overall.auroc < high


@pytest.mark.parametrize("name", ["kappa", "auroc"])
def test_one_class_leaves_them_undefined(name):
    images, prob = draw(12)
    normal = [index for index, image in enumerate(images) if image.label == 0]
    chosen = [images[index] for index in normal]
    overall = study_type_metrics.compute(chosen, prob[normal], 0.5)[-1]
    assert np.isnan(getattr(overall, name))
