"""What is evaluated: labelled studies or images with their probabilities.

Owns the conditions under which a table can be evaluated; must not know metrics.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np

from xenon_mx.config import THRESHOLD
from xenon_mx.errors import XenonError
from xenon_mx.evaluation.prediction_tables import (
    PredictionTable,
    parse_study,
    read_table,
)
from xenon_mx.evaluation.studies import UNLABELLED
from xenon_mx.runtime import text
from xenon_mx.settings import AnyPath

OVERALL = "overall"  # in place of a study type: the samples of all study types


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """N samples, studies or images, with their labels and probabilities.

    Attributes:
        labels: (N,) int: 1 abnormal, 0 normal.
        prob: (N,) float64, the probability of being abnormal.
        patients: The patient of each sample. One name is one patient, even if it
            appears under several study types.
        study_types: The study type of each sample, `XR_*`.
        level: What a sample is: `study` or `image`. The metrics of images are not
            comparable with those of studies.
        splits: The folder above each sample's study type (`train`, `valid`), where
            known.
        patients_known: Whether the patients are known of all samples. Where one is
            not, its study counts as a patient, and intervals may be too narrow.
        columns: Further columns of the table by name, as text.

    Raises:
        ValueError: The columns differ in length, or contain other values.
    """

    labels: np.ndarray
    prob: np.ndarray
    patients: list[str]
    study_types: list[str]
    level: str = "study"
    splits: list[str] = field(default_factory=list)
    patients_known: bool = True
    columns: Mapping[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {len(self.labels), len(self.prob), len(self.patients)}
        lengths |= {len(values) for values in self.columns.values()}
        if lengths != {len(self.study_types)}:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")
        if not np.isin(self.labels, (0, 1)).all():
            raise ValueError("labels must be 0 or 1")
        # NaN first: older versions of NumPy warn when NaN is compared.
        if np.isnan(self.prob).any() or ((self.prob < 0) | (self.prob > 1)).any():
            raise ValueError("probabilities must be from 0 to 1")

    def select(self, study_type: str) -> EvaluationSet:
        """Return the samples of one study type; `overall` returns all."""
        if study_type == OVERALL:
            return self
        return self._where(self.study_types, study_type)

    def subgroup(self, column: str, value: str) -> EvaluationSet:
        """Return the samples that have a value in a further column."""
        return self._where(self.columns[column], value)

    def _where(self, cells: Sequence[str], value: str) -> EvaluationSet:
        return self.rows([i for i, cell in enumerate(cells) if cell == value])

    def rows(self, rows: Sequence[int]) -> EvaluationSet:
        """Return some of the samples, by their numbers from 0."""

        def chosen(values: Sequence[str]) -> list[str]:
            return [values[i] for i in rows] if values else []

        return replace(
            self,
            labels=self.labels[rows],
            prob=self.prob[rows],
            patients=chosen(self.patients),
            study_types=chosen(self.study_types),
            splits=chosen(self.splits),
            columns={name: chosen(cells) for name, cells in self.columns.items()},
        )


def patient_or_study(patient: str, study: str) -> str:
    """Return a patient, or what stands for the unknown patient of a study."""
    return patient or f"\0{study}"  # no patient's name begins with a zero byte


def from_table(table: PredictionTable) -> EvaluationSet:
    """Build the evaluation set of a table.

    A study whose patient neither a column nor its path tells counts as a patient.

    Raises:
        XenonError: A row has no label, or its study type or label contradicts its path.
    """
    unlabelled = int((table.labels == UNLABELLED).sum())
    if unlabelled:
        raise XenonError(
            f"{table.file}: no label in {unlabelled:,} of "
            f"{text.counted(len(table.labels), 'row')}: fill in the column label, or "
            f"predict studies whose folders end in _positive or _negative"
        )
    if OVERALL in table.study_types:
        raise XenonError(
            f"{table.file}: line {table.lines[table.study_types.index(OVERALL)]}: "
            f"{OVERALL!r} stands for all study types: name this one otherwise"
        )
    for row in range(len(table.studies)):
        _check_path(table, row)
    known = zip(table.patients, table.studies)
    return EvaluationSet(
        labels=table.labels,
        prob=table.prob,
        patients=[patient_or_study(*pair) for pair in known],
        study_types=table.study_types,
        level=table.level,
        splits=[_split(study) for study in table.studies],
        patients_known=all(table.patients),
        columns=table.extra,
    )


def _split(study: str) -> str:
    """Return the folder above the study type in the path of a study; empty if none."""
    image = parse_study(study)
    if not image.study_type:
        return ""
    root, _, _ = study.rpartition(f"/{image.study_type}/{image.patient}/")
    return root.rpartition("/")[2]


def _check_path(table: PredictionTable, row: int) -> None:
    """Check the columns of a row against the path of its study."""
    study = table.studies[row]
    told = parse_study(study)
    where = f"{table.file}: line {table.lines[row]}"
    if told.study_type not in ("", table.study_types[row]):
        raise XenonError(
            f"{where}: {study!r} is not of study type {table.study_types[row]!r}"
        )
    if told.label not in (None, table.labels[row]):
        raise XenonError(
            f"{where}: {study!r} contradicts its label {table.labels[row]}"
        )


def read_predictions(csv: AnyPath, threshold: float = THRESHOLD) -> EvaluationSet:
    """Read a labelled table of predictions, of studies or of images.

    Args:
        csv: The table: OUT.csv of xenon-predict, its `--images`, or a table of another
            program with the columns `study` (or `image`), `probability` and `label`.
        threshold: The threshold of its predictions.

    Raises:
        XenonError: The file cannot be read, is not such a table, lacks labels, or was
            made with another threshold.
    """
    table = read_table(Path(csv))
    table.check_threshold(threshold)
    return from_table(table)
