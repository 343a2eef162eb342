"""Two tables of predictions of the same samples, row by row.

Owns the conditions under which two tables may be compared, and how their differences
are listed; must not know metrics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Iterator, Sequence

import numpy as np

from xenon_mx.errors import XenonError, os_error
from xenon_mx.evaluation.evaluation_set import EvaluationSet, from_table
from xenon_mx.evaluation.prediction_tables import (
    PLURAL,
    PredictionTable,
    count_phrase,
)

_EXAMPLES = 3  # chosen here: what is named of each kind of difference


@dataclass(frozen=True, eq=False)
class Pair:
    """Two predictions, A and B, of the same N samples in the same order.

    Attributes:
        names: The study or the image of each sample.
        first: The samples with the probabilities of A.
        second: The samples with the probabilities of B; all else is that of `first`.
        thresholds: Of A and of B: called abnormal if the probability is above.
    """

    names: list[str]
    first: EvaluationSet
    second: EvaluationSet
    thresholds: tuple[float, float]

    @property
    def predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the predictions of A and of B, each (N,) bool: True is abnormal."""
        return (
            self.first.prob > self.thresholds[0],
            self.second.prob > self.thresholds[1],
        )

    def disagreements(self) -> list[int]:
        """Return the samples that A and B predict differently.

        The most confident first: those for which the distances of both probabilities
        from their thresholds have the largest sum.
        """
        predictions = self.predictions
        (rows,) = np.nonzero(predictions[0] != predictions[1])
        distance = np.abs(self.first.prob - self.thresholds[0])
        distance += np.abs(self.second.prob - self.thresholds[1])
        order = np.argsort(-distance[rows], kind="stable")
        return [int(row) for row in rows[order]]


def pair_tables(
    first: PredictionTable, second: PredictionTable, thresholds: tuple[float, float]
) -> Pair:
    """Pair the rows of two tables by the names of their samples.

    Patients, where only one of the tables tells them, are those of that table; study
    types and further columns are those of the first table.

    Args:
        first: The table of A.
        second: The table of B, whose rows may be in another order.
        thresholds: Of A and of B.

    Raises:
        XenonError: They are the same table, one is of images and the other of studies,
            a row has no label, or they differ in samples, labels or patients.
    """
    _check_two_tables(first, second)
    ours, theirs = from_table(first), from_table(second)
    row_of = _rows_by_name(second)
    _raise_if_any(first, second, list(_missing(first, second)))
    order = [row_of[name] for name in _rows_by_name(first)]
    patients = ours.patients
    if theirs.patients_known and not ours.patients_known:
        patients = [theirs.patients[row] for row in order]
    known = ours.patients_known or theirs.patients_known
    ours = replace(ours, patients=patients, patients_known=known)
    _raise_if_any(first, second, list(_contradictions(first, second, order)))
    return Pair(first.names, ours, replace(ours, prob=theirs.prob[order]), thresholds)


def _check_two_tables(first: PredictionTable, second: PredictionTable) -> None:
    """Check that the tables are two, and of the same level."""
    try:
        is_same = first.file.samefile(second.file)
        is_same = is_same or first.file.read_bytes() == second.file.read_bytes()
    except OSError as error:
        raise os_error(second.file, error) from error
    if is_same:
        raise XenonError(
            f"{second.file}: is the same table as {first.file}: give the table of "
            f"another ensemble for the same {PLURAL[first.level]}"
        )
    if first.level != second.level:
        raise XenonError(
            f"{second.file}: is a table of {PLURAL[second.level]}, and {first.file} "
            f"one of {PLURAL[first.level]}: compare two tables of the same kind"
        )


def _rows_by_name(table: PredictionTable) -> dict[str, int]:
    """Return the row of each sample, by its name without a slash at the end."""
    rows: dict[str, int] = {}
    for row, name in enumerate(table.names):
        key = name.rstrip("/")
        if key in rows:
            raise XenonError(
                f"{table.file}: line {table.lines[row]}: lists {name} for the second "
                f"time: give one prediction per {table.level}"
            )
        rows[key] = row
    return rows


def _missing(first: PredictionTable, second: PredictionTable) -> Iterator[str]:
    """Yield which samples are in one table only, in words."""
    ours, theirs = _rows_by_name(first), _rows_by_name(second)
    for table, mine, other in ((first, ours, theirs), (second, theirs, ours)):
        only = [table.names[row] for name, row in mine.items() if name not in other]
        if only:
            verb = "is" if len(only) == 1 else "are"
            count = count_phrase(len(only), table.level)
            yield _listed(f"{count} {verb} in {table.file} only", only)


def _contradictions(
    first: PredictionTable, second: PredictionTable, order: Sequence[int]
) -> Iterator[str]:
    """Yield which samples have another label or patient in the other table."""
    rows = list(enumerate(order))
    labels = [(i, j) for i, j in rows if first.labels[i] != second.labels[j]]
    patients = [
        (i, j)
        for i, j in rows
        if first.patients[i]
        and second.patients[j]
        and first.patients[i] != second.patients[j]
    ]
    told: list[tuple[str, list[tuple[int, int]], Callable[[int, int], str]]] = [
        ("label", labels, lambda i, j: f" ({first.labels[i]} and {second.labels[j]})"),
        ("patient", patients, lambda i, j: ""),
    ]
    for what, differing, cells in told:
        if differing:
            verb = "has another" if len(differing) == 1 else "have other"
            noun = what if len(differing) == 1 else f"{what}s"
            count = count_phrase(len(differing), first.level)
            examples = [f"{first.names[i]}{cells(i, j)}" for i, j in differing]
            yield _listed(f"{count} {verb} {noun} in {second.file}", examples)


def _listed(fact: str, examples: Sequence[str]) -> str:
    rest = len(examples) - _EXAMPLES
    shown = ", ".join(examples[:_EXAMPLES])
    return f"{fact}: {shown}{f', and {rest:,} more' if rest > 0 else ''}"


def _raise_if_any(
    first: PredictionTable, second: PredictionTable, differences: list[str]
) -> None:
    if not differences:
        return
    raise XenonError(
        f"{first.file} and {second.file} cannot be compared: they are not of the same "
        f"{PLURAL[first.level]} with the same labels and patients",
        differences,
    )
