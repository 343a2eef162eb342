"""Groups of patients: disjoint, complete, and with both classes."""

from __future__ import annotations

import numpy as np

from xenon_mx.evaluation import cross_fitting


def _draw(count=200, patients=60, seed=0):
    random = np.random.RandomState(seed)
    names = [f"p{number}" for number in random.randint(0, patients, count)]
    return random.randint(0, 2, count), names


def test_every_sample_is_judged_once_and_never_beside_its_own_patient():
    labels, patients = _draw()
    names, judged = np.array(patients), np.zeros(len(labels), int)
    splits = list(cross_fitting.splits(labels, patients))
    assert len(splits) == cross_fitting.GROUPS
    for others, own in splits:
        assert not set(names[others]) & set(names[own])
        assert (others ^ own).all()
        judged += own
    assert (judged == 1).all()


def test_every_group_has_its_share_of_patients_with_an_abnormal_study():
    labels = np.repeat([1, 0], [25, 75])
    for _, own in cross_fitting.splits(labels, [str(i) for i in range(100)]):
        assert own.sum() == 10
        assert labels[own].sum() in (2, 3)


def test_two_patients_of_a_class_are_never_in_one_group():
    labels = np.array([1, 1, 0, 0, 0, 0])
    for seed in range(50):
        for others, _ in cross_fitting.splits(labels, list("abcdef"), seed):
            assert set(labels[others]) == {0, 1}


def test_the_order_of_the_samples_does_not_matter():
    labels, patients = _draw()
    order = np.random.RandomState(1).permutation(len(labels))
    shuffled = cross_fitting.splits(labels[order], [patients[i] for i in order])
    for (_, own), (_, moved) in zip(cross_fitting.splits(labels, patients), shuffled):
        assert (own[order] == moved).all()


def test_another_seed_gives_other_groups():
    labels, patients = _draw()
    first, second = (
        np.stack([own for _, own in cross_fitting.splits(labels, patients, seed)])
        for seed in (0, 1)
    )
    assert (first != second).any()
