"""Which estimates look like leakage."""

from __future__ import annotations

import numpy as np
from support.evaluation_sets import from_outcomes, make_samples

from xenon_mx.evaluation import published
from xenon_mx.evaluation.estimates import evaluate_by_study_type
from xenon_mx.evaluation.leakage import leakage_warnings

PARTS = [name for name in published.REPRODUCTIONS if name != "overall"]


def public_valid(kappas):
    """Build MURA's public validation set, predicted with about these kappas."""
    parts = []
    for name in PARTS:
        normal, abnormal, _ = published.REPRODUCTIONS[name]
        # If a share m of each class is predicted wrong, kappa is about 1 - 2 m.
        wrong = (1 - kappas[name]) / 2
        fn, fp = round(abnormal * wrong), round(normal * wrong)
        parts.append(from_outcomes(abnormal - fn, fn, fp, normal - fp))
    return make_samples(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.prob for part in parts]),
        None,
        [name for name, part in zip(PARTS, parts) for _ in part.labels],
    )


PLAUSIBLE = {
    "XR_ELBOW": 0.75,
    "XR_FINGER": 0.61,
    "XR_FOREARM": 0.71,
    "XR_HAND": 0.55,
    "XR_HUMERUS": 0.78,
    "XR_SHOULDER": 0.58,
    "XR_WRIST": 0.75,
}


def warnings(samples, **more):
    return leakage_warnings(samples, evaluate_by_study_type(samples), **more)


def test_plausible_kappas_on_muras_validation_set_are_no_leakage():
    assert warnings(public_valid(PLAUSIBLE)) == []


def test_the_papers_kappas_of_hand_and_wrist_there_look_like_leakage():
    lines = warnings(public_valid({**PLAUSIBLE, "XR_HAND": 0.85, "XR_WRIST": 0.93}))
    assert [line.split(":")[0] for line in lines] == ["XR_HAND", "XR_WRIST"]
    assert all("looks like leakage" in line for line in lines)


def test_kappas_of_1_there_look_like_leakage_in_all_study_types():
    lines = warnings(public_valid(dict.fromkeys(PARTS, 1.0)))
    assert [line.split(":")[0] for line in lines] == [*PARTS, "overall"]


def test_a_copy_that_lacks_a_few_studies_is_still_muras_validation_set():
    """Otherwise one unreadable image would suppress the warning."""
    whole = public_valid(dict.fromkeys(PARTS, 0.95))
    kept = np.ones(len(whole.labels), bool)
    for name in PARTS:
        kept[whole.study_types.index(name)] = False
    study_types = [kind for kind, keep in zip(whole.study_types, kept) if keep]
    fewer = make_samples(whole.labels[kept], whole.prob[kept], None, study_types)
    assert len(fewer.labels) == 1199 - 7
    assert [line.split(":")[0] for line in warnings(fewer)] == [*PARTS, "overall"]


def test_other_data_with_such_kappas_is_no_leakage():
    assert warnings(from_outcomes(tp=60, fn=0, fp=0, tn=101)) == []
    hands = from_outcomes(tp=66, fn=0, fp=0, tn=101)
    images = make_samples(hands.labels, hands.prob, level="image")
    assert warnings(images) == []
    assert len(warnings(hands)) == 1


def test_a_validation_set_that_chose_the_checkpoints_is_named():
    samples = make_samples([0, 1], [0.2, 0.9], splits=["valid", "valid"])
    (line,) = warnings(samples, validated_on="valid")
    assert "chose the checkpoints" in line
    assert warnings(samples, validated_on="holdout") == []
    (line,) = warnings(samples)
    assert line.startswith("if the run was validated on valid")
    unknown = make_samples([0, 1], [0.2, 0.9], splits=["", ""])
    (line,) = warnings(unknown, validated_on="valid")
    assert "do not show whether these studies are from it" in line
    other = make_samples([0, 1], [0.2, 0.9], splits=["test", "test"])
    assert warnings(other, validated_on="valid") == []


def test_studies_of_the_training_folder_are_named():
    samples = make_samples(
        [0, 1, 1], [0.2, 0.9, 0.9], splits=["train", "valid", "train"]
    )
    (line,) = warnings(samples, validated_on="holdout")
    assert line.startswith("2 of the 3 studies are in train/")
