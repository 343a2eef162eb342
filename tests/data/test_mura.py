"""MURA's layout: studies and labels in paths, splits by patient, class weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xenon_mx.data import mura
from xenon_mx.errors import XenonError

WRIST = "MURA-v1.1/train/XR_WRIST/patient00001/study1_positive/image1.png"


def image(
    patient: str = "patient00001",
    study_type: str = "XR_HAND",
    label: int = 0,
    number: int = 1,
) -> mura.Image:
    study = f"MURA-v1.1/train/{study_type}/{patient}/study1/"
    path = f"{study}image{number}.png"
    return mura.Image(path, Path(path), study, study_type, patient, label)


def test_parse_mura_path_gives_study_type_patient_and_label() -> None:
    parsed = mura.parse(WRIST, Path("here.png"))

    assert parsed == mura.Image(
        path=WRIST,
        file=Path("here.png"),
        study="MURA-v1.1/train/XR_WRIST/patient00001/study1_positive/",
        study_type="XR_WRIST",
        patient="patient00001",
        label=1,
    )


@pytest.mark.parametrize(
    ("folder", "label"),
    [("study1_positive", 1), ("study2_negative", 0), ("study1", None)],
)
def test_parse_study_folder_gives_its_label(folder: str, label: int | None) -> None:
    path = f"MURA-v1.1/test/XR_HAND/patient00001/{folder}/image1.png"
    assert mura.parse(path, Path(path)).label == label


def test_parse_unknown_study_type_is_read_from_the_path() -> None:
    parsed = mura.parse("a/train/XR_KNEE_2/p/s_negative/1.png", Path())
    assert (parsed.study_type, parsed.patient) == ("XR_KNEE_2", "p")


def test_parse_root_named_like_a_study_type_takes_the_inner_one() -> None:
    parsed = mura.parse("XR_all/train/XR_HAND/p1/study1_positive/image1.png", Path())
    assert (parsed.study_type, parsed.patient) == ("XR_HAND", "p1")


@pytest.mark.parametrize(
    "path",
    [
        "scan.png",
        "XR_HAND/p1/image1.png",
        "a/b/c/d/e.png",
        "train/XR_HAND.old/p1/study1_positive/image1.png",
        "train/MY_XR_HAND/p1/study1_positive/image1.png",
    ],
)
def test_parse_outside_the_layout_is_a_study_by_itself(path: str) -> None:
    assert mura.parse(path, Path(path)) == mura.Image(
        path, Path(path), path, "", "", None
    )


STUDY = "MURA-v1.1/train/XR_HAND/p1/study1"


@pytest.mark.parametrize(
    "studies",
    [
        [f"{STUDY}_positive/", f"{STUDY}_negative/"],
        [f"{STUDY}_positive/", f"{STUDY}/"],
        # The name of the data set and the split are no part of a study's name.
        [f"{STUDY}_positive", "cleaned/valid/XR_HAND/p1/study1_negative/"],
    ],
)
def test_a_study_under_both_labels_is_refused(studies: list[str]) -> None:
    others = ["a/XR_HAND/p2/study1_positive/", "a/XR_HAND/p3/study1_negative/"]
    with pytest.raises(XenonError, match="^1 study is in several folders") as caught:
        mura.check_labels_of_folders([*studies, *others, *studies])
    assert caught.value.details == (f"{studies[0]} and {studies[1]}",)


@pytest.mark.parametrize(
    "studies",
    [
        [f"{STUDY}_positive/", f"{STUDY}_positive"],
        [f"{STUDY}_positive/", "b/XR_HAND/p1/study1_positive/"],
        [f"{STUDY}_positive/", f"{STUDY.replace('p1', 'p2')}_negative/"],
        [f"{STUDY}_positive/", f"{STUDY.replace('HAND', 'WRIST')}_negative/"],
        [f"{STUDY}_positive/", f"{STUDY}_negative_positive/"],
        ["scan_positive/", "scan_negative/", "XR_HAND_positive", "XR_HAND_negative"],
    ],
)
def test_studies_under_one_label_each_are_accepted(studies: list[str]) -> None:
    mura.check_labels_of_folders(studies)


def patients_of(images: list[mura.Image]) -> set[str]:
    return {i.patient for i in images}


def images_of_patients(count: int, **fields: Any) -> list[mura.Image]:
    return [image(f"patient{i:05d}", **fields) for i in range(count)]


def test_hold_out_again_is_the_same_and_another_seed_is_not() -> None:
    images = images_of_patients(200)
    first = mura.hold_out(images, 0.2, seed=0)

    assert mura.hold_out(images, 0.2, seed=0) == first
    assert patients_of(mura.hold_out(images[::-1], 0.2, 0)[1]) == patients_of(first[1])
    assert mura.hold_out(images, 0.2, seed=1) != first


def test_hold_out_added_patients_move_no_other_patient() -> None:
    before = patients_of(mura.hold_out(images_of_patients(100), 0.3, seed=0)[1])
    after = patients_of(mura.hold_out(images_of_patients(200), 0.3, seed=0)[1])

    assert before == after & patients_of(images_of_patients(100))


def test_hold_out_share_is_met_on_average() -> None:
    # A binomial of 5000 with p 0.1 has a standard deviation of 21 patients.
    holdout = len(mura.hold_out(images_of_patients(5000), 0.1, seed=0)[1])
    assert abs(holdout - 500) < 4 * 21.3


def test_hold_out_larger_share_keeps_those_of_the_smaller() -> None:
    small, large = (
        patients_of(mura.hold_out(images_of_patients(100), share, seed=0)[1])
        for share in (0.1, 0.4)
    )
    assert small < large


def test_hold_out_patient_under_several_types_stays_together() -> None:
    images = images_of_patients(40, study_type="XR_HAND") + images_of_patients(
        40, study_type="XR_WRIST"
    )
    holdout = mura.hold_out(images, 0.5, seed=0)[1]
    hand, wrist = (
        patients_of([i for i in holdout if i.study_type == study_type])
        for study_type in ("XR_HAND", "XR_WRIST")
    )
    assert hand == wrist != set()


def test_shuffled_is_a_permutation_that_depends_on_seed_and_key() -> None:
    words = [f"word{i}" for i in range(50)]
    order = mura.shuffled(words, str, seed=3)

    assert sorted(order) == sorted(words)
    assert order != words
    assert mura.shuffled(reversed(words), str, seed=3) == order
    assert mura.shuffled(words, str, seed=4) != order


def test_shuffled_order_is_the_same_on_every_machine() -> None:
    # Computed by: printf '0\0a' | sha256sum, and so on for b and c.
    assert mura.shuffled("abc", str, seed=0) == ["c", "a", "b"]


# MURA-v1.1's training images (pengshiqi/MURA) and the paper's two formulas:
# type: (abnormal, normal, w_T1, w_T0)
MURA_WEIGHTS = {
    "XR_ELBOW": (2006, 2925, 0.5932, 0.4068),
    "XR_FINGER": (1968, 3138, 0.6146, 0.3854),
    "XR_FOREARM": (661, 1164, 0.6378, 0.3622),
    "XR_HAND": (1484, 4059, 0.7323, 0.2677),
    "XR_HUMERUS": (599, 673, 0.5291, 0.4709),
    "XR_SHOULDER": (4168, 4211, 0.5026, 0.4974),
    "XR_WRIST": (3987, 5765, 0.5912, 0.4088),
}


@pytest.fixture(scope="module")
def all_of_mura() -> list[mura.Image]:
    return [
        image(study_type=study_type, label=label, number=number)
        for study_type, (abnormal, normal, *_) in MURA_WEIGHTS.items()
        for label, count in ((1, abnormal), (0, normal))
        for number in range(count)
    ]


def test_weights_of_mura_are_the_papers(all_of_mura: list[mura.Image]) -> None:
    counts = mura.count(all_of_mura)

    assert list(counts) == sorted(MURA_WEIGHTS)
    for study_type, (abnormal, normal, of_abnormal, of_normal) in MURA_WEIGHTS.items():
        count = counts[study_type]
        assert (count.abnormal, count.normal) == (abnormal, normal)
        assert count.images == abnormal + normal
        assert tuple(round(w, 4) for w in count.weights) == (of_normal, of_abnormal)
        assert sum(count.weights) == pytest.approx(1)


def test_weights_of_mura_pooled_are_those_of_all_images(
    all_of_mura: list[mura.Image],
) -> None:
    pooled = mura.count_all(all_of_mura)
    assert pooled.images == 36808
    assert tuple(round(w, 4) for w in pooled.weights) == (0.4041, 0.5959)


def test_weights_of_one_class_are_0_for_it() -> None:
    assert mura.count_all(images_of_patients(3, label=1)).weights == (1.0, 0.0)
    assert mura.count_all(images_of_patients(3, label=0)).weights == (0.0, 1.0)


def test_count_studies_counts_folders_and_not_images() -> None:
    images = [image(number=1), image(number=2), image("patient00002")]
    assert mura.count_all(images) == mura.Counts(3, 2, 0, 3)
