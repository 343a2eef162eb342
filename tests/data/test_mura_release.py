"""MURA-v1.1 is recognized by its numbers, and nothing else is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import mura_tree

from xenon_mx.commands import pack
from xenon_mx.config import PackConfig
from xenon_mx.data import mura_release
from xenon_mx.data.mura_release import RELEASE, Amount
from xenon_mx.data.pack_meta import PackMeta, SplitMeta, TypeCounts

COMPLETE = ["MURA-v1.1, complete"]


def meta(**splits: dict[str, Amount]) -> PackMeta:
    """Return what a packed folder would say of some amounts."""
    return PackMeta(
        xenon=None,
        size=320,
        fit="stretch",
        encoding="jpg",
        quality=95,
        seed=0,
        holdout=0.0,
        source_sha256=None,
        study_types=(),
        weights={},
        pooled_weights=None,
        splits={
            name: SplitMeta(
                records=0,
                files={},
                counts={
                    study_type: TypeCounts(
                        images=amount.normal_images + amount.abnormal_images,
                        studies=amount.studies,
                        abnormal=amount.abnormal_images,
                        normal=amount.normal_images,
                        missing=0,
                        abnormal_studies=amount.abnormal_studies,
                    )
                    for study_type, amount in split.items()
                },
            )
            for name, split in splits.items()
        },
        skipped=(),
    )


def changed(split: str, study_type: str, **numbers: int) -> dict[str, Amount]:
    """Return the amounts of a split of MURA with some numbers added."""
    amount = RELEASE[split][study_type]
    new = {name: getattr(amount, name) + number for name, number in numbers.items()}
    return {**RELEASE[split], study_type: amount._replace(**new)}


def test_the_numbers_add_up_to_those_of_the_paper_and_of_the_lists() -> None:
    """The sums stand in the paper's table 1 and in the README beside the numbers."""
    sums = {
        name: [sum(n) for n in zip(*each.values())] for name, each in RELEASE.items()
    }
    assert sums == {
        "train": [8280, 5177, 21935, 14873],
        "valid": [661, 538, 1667, 1530],
    }
    assert {
        study_type: sum(RELEASE[split][study_type].studies for split in RELEASE)
        for study_type in RELEASE["train"]
    } == {
        "XR_ELBOW": 1912,
        "XR_FINGER": 2110,
        "XR_FOREARM": 1010,
        "XR_HAND": 2185,
        "XR_HUMERUS": 727,
        "XR_SHOULDER": 3015,
        "XR_WRIST": 3697,
    }
    images = [sum(sums[name][2:]) for name in ("train", "valid")]
    assert images == [36808, 3197]


def test_all_of_mura_is_complete() -> None:
    assert mura_release.compare(meta(**RELEASE)) == COMPLETE


def test_studies_that_are_held_out_are_those_of_the_train_split() -> None:
    holdout = {name: Amount(9, 8, 20, 19) for name in RELEASE["train"]}
    train = {
        name: Amount(*(a - b for a, b in zip(amount, holdout[name])))
        for name, amount in RELEASE["train"].items()
    }
    splits = {"train": train, "holdout": holdout, "valid": RELEASE["valid"]}
    assert mura_release.compare(meta(**splits)) == COMPLETE


def test_what_is_missing_and_what_is_more_is_told_by_type() -> None:
    train = changed("train", "XR_WRIST", abnormal_studies=-1, abnormal_images=-3)
    valid = changed("valid", "XR_HAND", normal_studies=2, normal_images=5)
    assert mura_release.compare(meta(train=train, valid=valid)) == [
        "train XR_WRIST: -1 abnormal studies (1,325 of 1,326), -3 abnormal images "
        "(3,984 of 3,987)",
        "valid XR_HAND: +2 normal studies (103 of 101), +5 normal images (276 of 271)",
        "MURA-v1.1, but not as it was published: 2 differences, listed above",
    ]


def test_a_split_that_is_not_there_or_another_is_said() -> None:
    assert mura_release.compare(meta(valid=RELEASE["valid"]))[0] == (
        "train: not there, but in MURA-v1.1"
    )
    own = {"XR_HAND": Amount(10, 10, 30, 30)}
    assert mura_release.compare(meta(train=RELEASE["train"], valid=own))[0] == (
        "valid: another split than MURA-v1.1"
    )


@pytest.mark.parametrize(
    "splits",
    [
        {"train": {"XR_HAND": Amount(1497, 521, 4059, 1484)}},  # one type of MURA
        {"train": {**RELEASE["train"], "XR_KNEE": Amount(9, 9, 9, 9)}},
        {"train": changed("train", "XR_HUMERUS", normal_studies=-60)},
        {"valid": {n: Amount(10, 10, 20, 20) for n in RELEASE["valid"]}},  # a demo
        {},
    ],
)
def test_a_data_set_of_ones_own_is_no_incomplete_mura(splits) -> None:
    assert mura_release.compare(meta(**splits)) == []


@pytest.mark.slow
def test_a_folder_with_the_numbers_of_mura_is_packed_and_recognized(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All 40,005 images, as links to one."""
    root = tmp_path / "bones"
    one = tmp_path / "one.png"
    cv2.imwrite(str(one), np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8))
    patient = 0
    for split, types in RELEASE.items():
        studies = []
        for study_type, amount in types.items():
            for label in (0, 1):
                count, images = amount[label], amount[2 + label]
                for number in range(count):
                    views = images // count + (number < images % count)
                    patient += 1
                    study = (split, study_type, patient, label, views)
                    studies.append(mura_tree.Study(*study))
        mura_tree.write_images(root, studies, lambda file, _: os.link(one, file))
        mura_tree.write_csvs(root, split, studies)
    packed = pack.pack(PackConfig(root, tmp_path / "a", size=32, holdout=0.1))
    assert mura_release.compare(packed.meta) == COMPLETE

    lost = sorted((root / "valid" / "XR_HAND").iterdir())[0]
    shutil.rmtree(lost)
    packed = pack.pack(PackConfig(root, tmp_path / "b", size=32, skip_bad=True))
    line, verdict = mura_release.compare(packed.meta)
    assert line.startswith("valid XR_HAND: -1 ")
    assert verdict.endswith("1 difference, listed above")
    (whole,) = (line for line in caplog.messages if "left out whole" in line)
    assert f"valid/XR_HAND/{lost.name}/study1_" in whole
