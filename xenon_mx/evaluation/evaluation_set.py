"""What is evaluated: studies or images with labels and predictions.

Owns what of a table can be evaluated. Knows no figures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xenon_mx.config import THRESHOLD
from xenon_mx.data import mura
from xenon_mx.errors import XenonError
from xenon_mx.evaluation.prediction_tables import (
    UNLABELLED,
    PredictionTable,
    read_table,
)

OVERALL = "overall"  # what all cases together are called where study types are


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """N studies, or N images, with their labels and predictions.

    Attributes:
        labels: (N,) int: 1 abnormal, 0 normal.
        prob: (N,) float64, the probability of being abnormal.
        patients: Whose each case is. One name is one patient, under whatever study
            types it stands.
        study_types: `XR_*`, of each case.
        level: What a case is: `study` or `image`. The figures of images are no figures
            of studies, and are to be labelled.
        splits: The folder above each case's study type (`train`, `valid`), where known.

    Raises:
        ValueError: The columns differ in length, or hold other values than these.
    """

    labels: np.ndarray
    prob: np.ndarray
    patients: list[str]
    study_types: list[str]
    level: str = "study"
    splits: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        lengths = {len(self.labels), len(self.prob), len(self.patients)}
        if lengths != {len(self.study_types)}:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")
        if not np.isin(self.labels, (0, 1)).all():
            raise ValueError("labels are 0 and 1")
        # NaN first: older NumPys warn when it is compared.
        if np.isnan(self.prob).any() or ((self.prob < 0) | (self.prob > 1)).any():
            raise ValueError("probabilities lie from 0 to 1")

    def select(self, study_type: str) -> EvaluationSet:
        """Choose the cases of one study type; `overall` is all of them."""
        if study_type == OVERALL:
            return self
        chosen = [i for i, each in enumerate(self.study_types) if each == study_type]
        return EvaluationSet(
            self.labels[chosen],
            self.prob[chosen],
            [self.patients[i] for i in chosen],
            [study_type] * len(chosen),
            self.level,
            [self.splits[i] for i in chosen] if self.splits else [],
        )


def from_table(table: PredictionTable) -> EvaluationSet:
    """Take the rows of a table for what is evaluated; patients are read off the paths.

    Raises:
        XenonError: A row has no label, or its path names no patient.
    """
    unlabelled = int((table.labels == UNLABELLED).sum())
    if unlabelled:
        raise XenonError(
            f"{table.file}: {unlabelled} of {len(table.labels)} rows have no label to "
            f"compare with; predict studies whose folders end in _positive or "
            f"_negative"
        )
    patients, splits = [], []
    for row, study in enumerate(table.studies):
        image = mura.parse(f"{study.rstrip('/')}/image", Path())
        where = f"{table.file}: line {table.lines[row]}"
        if not image.patient:
            raise XenonError(
                f"{where}: no patient can be read off {study!r}: studies lie in "
                f"XR_<TYPE>/<patient>/<study>/"
            )
        if image.study_type != table.study_types[row]:
            raise XenonError(
                f"{where}: {study!r} is not of study type {table.study_types[row]!r}"
            )
        if image.label not in (None, table.labels[row]):
            raise XenonError(
                f"{where}: {study!r} contradicts its label {table.labels[row]}"
            )
        above, _, _ = study.rpartition(f"/{image.study_type}/{image.patient}/")
        patients.append(image.patient)
        splits.append(above.rpartition("/")[2])
    return EvaluationSet(
        table.labels, table.prob, patients, table.study_types, table.level, splits
    )


def read_predictions(csv: Path, threshold: float = THRESHOLD) -> EvaluationSet:
    """Read what xenon-predict wrote: OUT.csv (studies) or its `--images` (images).

    Args:
        csv: The table.
        threshold: The one that it was made with.

    Raises:
        XenonError: The file cannot be read, is no such table, lacks labels, was made
            with another threshold, or a path names no patient.
    """
    table = read_table(csv)
    table.check_threshold(threshold)
    return from_table(table)
