"""Readers beside an ensemble: counts by hand, and what is left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, recall_score
from support.evaluation_sets import make_samples, noisy_samples

from xenon_mx.evaluation.comparison import compare
from xenon_mx.evaluation.reader_file import UNREAD, Readers
from xenon_mx.evaluation.readers import (
    METRICS,
    compare_by_label,
    compare_by_others,
    compare_by_study_type,
    is_label_of,
    majority,
)

NONE = UNREAD


def noisy_readers(samples, errors, seed, unread=0.0):
    """Build readers who are wrong, and who do not read, with some probability."""
    random = np.random.RandomState(seed)
    count = len(samples.labels)
    columns = []
    for share in errors:
        wrong = random.rand(count) < share
        reading = np.where(wrong, 1 - samples.labels, samples.labels)
        columns.append(np.where(random.rand(count) < unread, UNREAD, reading))
    names = [f"reader {i}" for i in range(len(errors))]
    return Readers(names, np.array(columns).T)


def test_a_reader_and_the_ensemble_worked_by_hand():
    samples = make_samples([1, 1, 0, 0, 1, 0], [0.9, 0.2, 0.1, 0.2, 0.9, 0.9])
    readers = Readers(["x"], np.array([[1], [1], [0], [1], [NONE], [NONE]]))
    (found,) = compare_by_label(samples, readers, 0.5)
    assert (found.studies, found.patients, found.unread) == (4, 4, 2)
    assert (found.alone, found.tied) == (0, 0)
    assert [each.name for each in found.differences] == list(METRICS)
    kappa, sensitivity, specificity = found.differences
    # of the four studies that x read: the ensemble finds 1 of 2 and 2 of 2, x 2 and 1
    assert (sensitivity.first.value, sensitivity.second.value) == (0.5, 1)
    assert (specificity.first.value, specificity.second.value) == (1, 0.5)
    assert (kappa.first.value, kappa.second.value) == (0.5, 0.5)
    assert sensitivity.value == -0.5
    assert math.isnan(sensitivity.p)  # fewer than five patients


def test_values_are_scikit_learns_over_what_was_read():
    samples = noisy_samples(200, seed=1, patients=90)
    readers = noisy_readers(samples, (0.1, 0.25, 0.3), seed=2, unread=0.2)
    for column, found in enumerate(compare_by_label(samples, readers, 0.4)):
        readings = readers.readings[:, column]
        rows = readings != UNREAD
        assert found.studies == rows.sum() == 200 - found.unread
        labels = samples.labels[rows]
        for calls, which in (
            ((samples.prob > 0.4).astype(int)[rows], "first"),
            (readings[rows], "second"),
        ):
            values = [getattr(each, which).value for each in found.differences]
            assert values == pytest.approx(
                [
                    cohen_kappa_score(labels, calls),
                    recall_score(labels, calls),
                    recall_score(labels, calls, pos_label=0),
                ]
            )
        assert all(each.low < each.value < each.high for each in found.differences)


def test_the_majority_is_of_those_who_read():
    readings = [[1, 1, 0], [1, 0, NONE], [NONE, 0, NONE], [NONE] * 3, [1, 1, 1]]
    assert majority(np.array(readings)).tolist() == [1, -1, 0, -1, 1]


def test_a_reader_has_no_part_in_the_majority_of_the_others():
    # x, y, z; of x the others agree on studies 0 and 1, are tied on 2, and read not 3
    readings = np.array(
        [[0, 1, 1], [1, 0, 0], [1, 0, 1], [1, NONE, NONE], [NONE, 1, 1]]
    )
    samples = make_samples([1, 0, 1, 1, 1], [0.9, 0.1, 0.9, 0.9, 0.9])
    x, y, z = compare_by_others(samples, Readers(["x", "y", "z"], readings), 0.5)
    assert (x.studies, x.tied, x.alone, x.unread) == (2, 1, 1, 1)
    # against 1 and 0, x says 0 and 1: worse than chance, as it must be without itself
    assert x.differences[0].second.value == -1
    assert x.differences[0].first.value == 1
    # of y: x and z are tied on 0 and 1, agree on 2; on 4 there is z alone
    assert (y.studies, y.tied, y.alone, y.unread) == (2, 2, 0, 1)
    # of z: x and y are tied on 0, 1 and 2; on 4 there is y alone
    assert (z.studies, z.tied, z.alone, z.unread) == (1, 3, 0, 1)


def test_against_the_others_is_against_their_majority_as_a_label():
    samples = noisy_samples(150, seed=3, patients=60)
    readers = noisy_readers(samples, (0.1, 0.2, 0.2, 0.15), seed=4, unread=0.1)
    found = compare_by_others(samples, readers, 0.5)[1]
    others = np.delete(readers.readings, 1, axis=1)
    ones, zeros = (others == 1).sum(axis=1), (others == 0).sum(axis=1)
    rows = np.flatnonzero((readers.readings[:, 1] != UNREAD) & (ones != zeros))
    people = [samples.patients[row] for row in rows]
    labels = (ones > zeros)[rows].astype(int)
    ensemble = make_samples(labels, samples.prob[rows], people)
    person = make_samples(labels, readers.readings[rows, 1], people)
    assert found.differences == compare(ensemble, person, (0.5, 0.5), names=METRICS)
    assert found.studies + found.unread + found.alone + found.tied == 150


def test_one_reader_has_no_others():
    samples = noisy_samples(30, seed=5)
    assert compare_by_others(samples, noisy_readers(samples, (0.1,), 6), 0.5) == []


def test_a_reader_who_is_the_ensemble_differs_by_0():
    samples = noisy_samples(60, seed=7)
    calls = (samples.prob > 0.5).astype(int)
    (found,) = compare_by_label(samples, Readers(["x"], calls[:, None]), 0.5)
    for each in found.differences:
        assert each.value == 0
        assert math.isnan(each.low)


def test_of_one_class_there_is_no_kappa():
    samples = make_samples([1] * 20, np.linspace(0, 1, 20))
    (found,) = compare_by_label(samples, Readers(["x"], np.ones((20, 1), int)), 0.5)
    kappa, sensitivity, specificity = found.differences
    assert math.isnan(kappa.value)
    assert math.isnan(specificity.value)
    assert sensitivity.value == pytest.approx(0.5 - 1)


def test_labels_that_are_the_majority_of_the_readers_are_recognized():
    samples = noisy_samples(60, seed=8)
    readers = noisy_readers(samples, (0.2, 0.2, 0.2), seed=9)
    assert not is_label_of(samples, readers)
    decided = make_samples(majority(readers.readings), samples.prob)
    assert is_label_of(decided, readers)
    # of two readers, or of readers who always agree, nothing is known
    assert not is_label_of(decided, Readers(["x", "y"], readers.readings[:, :2]))
    agree = np.repeat(samples.labels[:, None], 3, axis=1)
    assert not is_label_of(samples, Readers(["x", "y", "z"], agree))


def test_study_types_are_compared_alone():
    types = ["XR_WRIST"] * 40 + ["XR_HAND"] * 40
    noisy = noisy_samples(80, seed=10)
    samples = make_samples(noisy.labels, noisy.prob, noisy.patients, types)
    readers = noisy_readers(samples, (0.2, 0.3), seed=11, unread=0.1)
    readers.readings[40:, 0] = UNREAD  # who has read no hand
    found = compare_by_study_type(samples, readers, 0.5)
    assert list(found) == ["XR_HAND", "XR_WRIST", "overall"]
    assert found["overall"] == compare_by_label(samples, readers, 0.5)
    wrists = samples.select("XR_WRIST"), readers.rows(range(40))
    assert found["XR_WRIST"] == compare_by_label(*wrists, 0.5)
    hands = found["XR_HAND"][0]
    assert (hands.studies, hands.unread) == (0, 40)
    assert all(math.isnan(each.value) for each in hands.differences)
