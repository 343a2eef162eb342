"""Folds: each patient is left out once, and is in one part of a fold only."""

from __future__ import annotations

from pathlib import Path

import pytest

from xenon_mx.data import folds
from xenon_mx.data.mura import Image
from xenon_mx.errors import XenonError


def pool_of(patients, studies=2):
    """Images of patients, of whom every third has an abnormal study."""
    return [
        folds.Pooled(
            Image(
                path=f"{patient}/{study}",
                file=Path(),
                study=f"{patient}.{study}",
                study_type="XR_HAND",
                patient=f"P{patient}",
                label=int(patient % 3 == 0 and study == 0),
            ),
            "train",
            patient * studies + study,
        )
        for patient in range(patients)
        for study in range(studies)
    ]


def patients_of(listed):
    return {each.image.patient for each in listed}


@pytest.mark.parametrize(("patients", "count"), [(60, 5), (7, 7), (4, 2), (61, 4)])
def test_each_patient_is_left_out_once_and_has_one_use_in_a_fold(patients, count):
    pool = pool_of(patients)
    made = folds.assign(pool, count, seed=3)
    assert [fold.number for fold in made] == list(range(1, count + 1))
    left_out = [patient for fold in made for patient in patients_of(fold.left_out)]
    assert sorted(left_out) == sorted(patients_of(pool))
    for fold in made:
        parts = [fold.train, fold.tuning, fold.left_out]
        assert sorted(map(id, sum(parts, []))) == sorted(map(id, pool))
        names = [patients_of(part) for part in parts]
        assert sum(map(len, names)) == len(set.union(*names)) == patients
        others = len(names[0] | names[1])
        assert len(names[1]) == -(-others // 10)
        for part in parts:  # in the order of the pool, which is shuffled
            assert part == [each for each in pool if each in part]


def test_parts_have_the_same_size_and_prevalence():
    made = folds.assign(pool_of(60), 5, seed=0)
    assert [len(patients_of(fold.left_out)) for fold in made] == [12] * 5
    abnormal = [[e for e in fold.left_out if e.image.label] for fold in made]
    assert [len(patients_of(each)) for each in abnormal] == [4] * 5
    tuning = [patients_of(e for e in f.tuning if e.image.label) for f in made]
    assert all(1 <= len(each) <= 2 for each in tuning)  # of 5 patients


def test_they_follow_from_names_and_seed_and_from_no_order():
    pool = pool_of(40)
    parts = [patients_of(fold.left_out) for fold in folds.assign(pool, 4, seed=1)]
    again = folds.assign(pool[::-1], 4, seed=1)
    assert [patients_of(fold.left_out) for fold in again] == parts
    other = folds.assign(pool, 4, seed=2)
    assert [patients_of(fold.left_out) for fold in other] != parts


def test_an_unknown_patient_is_that_of_the_study():
    images = [
        Image(f"{n}", Path(), f"S{n // 2}", "XR_HAND", "", n // 2 % 2)
        for n in range(20)
    ]
    pool = [folds.Pooled(image, "train", n) for n, image in enumerate(images)]
    for fold in folds.assign(pool, 5, seed=0):
        assert len(fold.left_out) == 4
        assert len({each.image.study for each in fold.left_out}) == 2


@pytest.mark.parametrize(("patients", "count"), [(4, 5), (3, 2), (1, 2)])
def test_too_few_patients_are_refused_with_their_number(patients, count):
    with pytest.raises(XenonError, match=f"^{patients} .* few for --folds {count}"):
        folds.assign(pool_of(patients), count, seed=0)
