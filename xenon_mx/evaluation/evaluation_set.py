"""What is evaluated: labelled studies or images with their probabilities.

Owns the conditions under which a table can be evaluated; must not know metrics.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from xenon_mx.config import THRESHOLD
from xenon_mx.data import mura
from xenon_mx.errors import XenonError
from xenon_mx.evaluation.prediction_tables import PredictionTable, read_table
from xenon_mx.evaluation.studies import UNLABELLED

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

    Raises:
        ValueError: The columns differ in length, or contain other values.
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
            raise ValueError("labels must be 0 or 1")
        # NaN first: older versions of NumPy warn when NaN is compared.
        if np.isnan(self.prob).any() or ((self.prob < 0) | (self.prob > 1)).any():
            raise ValueError("probabilities must be from 0 to 1")

    def select(self, study_type: str) -> EvaluationSet:
        """Return the samples of one study type; `overall` returns all."""
        if study_type == OVERALL:
            return self
        rows = [i for i, name in enumerate(self.study_types) if name == study_type]
        return EvaluationSet(
            labels=self.labels[rows],
            prob=self.prob[rows],
            patients=[self.patients[i] for i in rows],
            study_types=[study_type] * len(rows),
            level=self.level,
            splits=[self.splits[i] for i in rows] if self.splits else [],
        )


def from_table(table: PredictionTable) -> EvaluationSet:
    """Build the evaluation set of a table; the patients are parsed from the paths.

    Raises:
        XenonError: A row has no label, its path contains no patient, or its study type
            or label contradicts its path.
    """
    unlabelled = int((table.labels == UNLABELLED).sum())
    if unlabelled:
        raise XenonError(
            f"{table.file}: {unlabelled} of {len(table.labels)} rows have no label: "
            f"predict studies whose folders end in _positive or _negative"
        )
    patients, splits = [], []
    for row, study in enumerate(table.studies):
        image = _parse_study(table, row)
        root, _, _ = study.rpartition(f"/{image.study_type}/{image.patient}/")
        patients.append(image.patient)
        splits.append(root.rpartition("/")[2])
    return EvaluationSet(
        labels=table.labels,
        prob=table.prob,
        patients=patients,
        study_types=table.study_types,
        level=table.level,
        splits=splits,
    )


def _parse_study(table: PredictionTable, row: int) -> mura.Image:
    """Parse the path of a row's study, and check the row's other columns against it."""
    study = table.studies[row]
    image = mura.parse(f"{study.rstrip('/')}/image", Path())
    where = f"{table.file}: line {table.lines[row]}"
    if not image.patient:
        raise XenonError(
            f"{where}: {study!r} contains no patient: studies must be in "
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
    return image


def read_predictions(csv: Path, threshold: float = THRESHOLD) -> EvaluationSet:
    """Read a table of xenon-predict: OUT.csv (studies) or its `--images` (images).

    Args:
        csv: The table.
        threshold: The threshold of its predictions.

    Raises:
        XenonError: The file cannot be read, is not such a table, lacks labels, was made
            with another threshold, or a path contains no patient.
    """
    table = read_table(csv)
    table.check_threshold(threshold)
    return from_table(table)
