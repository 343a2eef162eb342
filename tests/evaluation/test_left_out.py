"""What a prediction left out, in words and in a record."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from xenon_mx.data import mura
from xenon_mx.evaluation.left_out import LeftOut, LeftOutImage

A, B = (f"valid/XR_HAND/patient{n}/study1_positive/" for n in (1, 2))
GOOD = [mura.parse(f"{A}image{n}.png", Path()) for n in (1, 2)]
BAD = [
    LeftOutImage(f"{A}image3.png", A, "the file is empty"),
    LeftOutImage(f"{B}image1.png", B, "not an image"),
    LeftOutImage("loose.png", "loose.png", "not an image"),
    LeftOutImage("f7xk", "", "not a DICOM file"),  # its header tells no study
]


def test_a_study_is_lost_if_none_of_its_images_was_predicted():
    assert LeftOut.of(BAD, GOOD).studies == (B, "loose.png")
    assert LeftOut.of([], GOOD) == LeftOut()


def test_each_image_and_each_study_is_named_and_the_counts_come_last():
    assert list(LeftOut.of(BAD, GOOD).lines(GOOD)) == [
        f"left out: {A}image3.png: the file is empty",
        f"left out: {B}image1.png: not an image",
        "left out: loose.png: not an image",
        "left out: f7xk: not a DICOM file",
        f"no prediction: {B}: none of its images can be read",
        f"predicted by 2 of 3 images: {A}",
        "left out 4 images: 2 studies have no prediction, and 1 study is predicted by "
        "the other images",
    ]
    (*_, last) = LeftOut.of(BAD[3:], GOOD).lines(GOOD)
    assert last == "left out 1 image"


def test_a_record_gives_the_same_back():
    left_out = LeftOut.of(BAD, GOOD)
    assert LeftOut.from_json(json.loads(json.dumps(asdict(left_out)))) == left_out
    assert LeftOut.from_json(None) == LeftOut()


@pytest.mark.parametrize("content", [[], {"images": []}, {"images": [{}]}, 5])
def test_what_is_no_record_is_an_error(content):
    with pytest.raises((KeyError, TypeError, ValueError)):
        LeftOut.from_json(content)
