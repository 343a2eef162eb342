"""Studies that are known again by hashes, without their names."""

from __future__ import annotations

import json

import pytest

from xenon_mx.evaluation.hashed_names import HashedNames

STUDY = "MURA-v1.1/valid/XR_HAND/patient11185/study1_positive/"


def test_studies_and_patients_are_counted():
    names = HashedNames.of({STUDY: "patient11185", "b": "patient2"})
    elsewhere = STUDY.replace("MURA-v1.1/valid", "copy/test")
    pairs = [(elsewhere, "patient11185")] * 3  # three images
    pairs += [("new", "patient2"), ("other", "patient3"), ("unknown", "")]
    assert names.count(pairs) == (1, 1)


def test_neither_names_nor_anything_comparable_is_kept():
    first, second = (HashedNames.of({STUDY: "patient11185"}) for _ in range(2))
    assert "11185" not in json.dumps(first.to_json())
    assert not first.studies & second.studies


def test_it_is_read_back():
    names = HashedNames.of({STUDY: "patient11185"})
    assert HashedNames.from_json(json.loads(json.dumps(names.to_json()))) == names
    with pytest.raises(TypeError):
        HashedNames.from_json({**names.to_json(), "salt": 1})
