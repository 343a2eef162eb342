"""Readers beside an ensemble: on the same studies, against the same reference.

Owns the two references (the label, and the majority of the other readers) and which
studies count; must not know files or pages.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from xenon_mx.config import THRESHOLD
from xenon_mx.evaluation import comparison
from xenon_mx.evaluation.comparison import Difference
from xenon_mx.evaluation.evaluation_set import OVERALL, EvaluationSet
from xenon_mx.evaluation.reader_file import UNREAD, Readers

METRICS = ("kappa", "sensitivity", "specificity")  # a reader has no probabilities
_NO_MAJORITY = -1
# Fewer readers than this have no majority that differs from a single reader's.
_FEWEST_OF_A_MAJORITY = 3


class ReaderComparison(NamedTuple):
    """An ensemble and a reader on the studies that the reader read.

    Attributes:
        reader: The name of the reader.
        studies: Number of studies that count.
        abnormal: How many of them the reference calls abnormal.
        patients: Number of their patients.
        unread: Number of studies that the reader did not read.
        alone: Number of studies that the reader read, and no other reader did.
        tied: Number of studies that the reader read, and on which the others are tied.
        differences: Of each of `METRICS`: the ensemble's, the reader's, and the
            ensemble's minus the reader's.
    """

    reader: str
    studies: int
    abnormal: int
    patients: int
    unread: int
    alone: int
    tied: int
    differences: list[Difference]


def compare_by_label(
    samples: EvaluationSet, readers: Readers, threshold: float
) -> list[ReaderComparison]:
    """Compare an ensemble with each reader, against the labels.

    Args:
        samples: The N studies, with the ensemble's probabilities.
        readers: What the readers say of them.
        threshold: A study is called abnormal if its probability is strictly above.
    """
    return [
        _compare(samples, readers, reader, samples.labels, threshold)
        for reader in range(len(readers.names))
    ]


def compare_by_study_type(
    samples: EvaluationSet, readers: Readers, threshold: float
) -> dict[str, list[ReaderComparison]]:
    """Compare an ensemble with each reader by study type, against the labels.

    The arguments are those of `compare_by_label`.

    Returns:
        The comparisons of each study type, sorted by name, then those of `overall`.
    """
    found = {}
    for name in sorted(set(samples.study_types)):
        rows = [i for i, each in enumerate(samples.study_types) if each == name]
        of_type = samples.rows(rows), readers.rows(rows)
        found[name] = compare_by_label(*of_type, threshold)
    return {**found, OVERALL: compare_by_label(samples, readers, threshold)}


def compare_by_others(
    samples: EvaluationSet, readers: Readers, threshold: float
) -> list[ReaderComparison]:
    """Compare an ensemble with each reader, against the majority of the other readers.

    The reader takes no part in the reference. A study on which the others are tied is
    left out, as is one that no other reader read; both are counted.

    Returns:
        The arguments and the comparisons are those of `compare_by_label`; with one
        reader, there are none.
    """
    count = len(readers.names)
    if count == 1:
        return []
    return [
        _compare(
            samples,
            readers,
            reader,
            majority(np.delete(readers.readings, reader, axis=1)),
            threshold,
        )
        for reader in range(count)
    ]


def majority(readings: np.ndarray) -> np.ndarray:
    """Return the majority of (N, K) readings: (N,) 1, 0, or -1 if there is none.

    There is none where as many read abnormal as normal, or where nobody read.
    """
    abnormal, normal = ((readings == value).sum(axis=1) for value in (1, 0))
    decided = np.where(abnormal > normal, 1, 0)
    return np.where(abnormal == normal, _NO_MAJORITY, decided)


def is_label_of(samples: EvaluationSet, readers: Readers) -> bool:
    """Return whether the labels seem to be the majority of these readers.

    They do if they equal the majority of three readers or more wherever there is one,
    and the readers disagree somewhere. A reader is then measured against a label that
    the same reading helped to decide.
    """
    readings = readers.readings
    has_majority = (readings != UNREAD).sum(axis=1) >= _FEWEST_OF_A_MAJORITY
    decided = majority(readings)
    has_majority &= decided != _NO_MAJORITY
    disagree = (readings == 0).any(axis=1) & (readings == 1).any(axis=1)
    is_equal = samples.labels == decided
    return bool(is_equal[has_majority].all() and (disagree & has_majority).any())


def _compare(
    samples: EvaluationSet,
    readers: Readers,
    reader: int,
    reference: np.ndarray,
    threshold: float,
) -> ReaderComparison:
    """Compare the ensemble with a reader, against a (N,) reference of 1, 0, or -1."""
    readings = readers.readings[:, reader]
    is_read = readings != UNREAD
    (rows,) = np.nonzero(is_read & (reference != _NO_MAJORITY))
    chosen = samples.rows([int(row) for row in rows])
    ensemble = replace(chosen, labels=reference[rows])
    person = replace(ensemble, prob=readings[rows].astype(np.float64))
    others = np.delete(readers.readings, reader, axis=1)
    is_alone = (others == UNREAD).all(axis=1)
    is_left_out = is_read & (reference == _NO_MAJORITY)
    return ReaderComparison(
        reader=readers.names[reader],
        studies=len(rows),
        abnormal=int(reference[rows].sum()),
        patients=len(set(ensemble.patients)),
        unread=int((~is_read).sum()),
        alone=int((is_left_out & is_alone).sum()),
        tied=int((is_left_out & ~is_alone).sum()),
        differences=comparison.compare(
            ensemble, person, (threshold, THRESHOLD), names=METRICS
        ),
    )
