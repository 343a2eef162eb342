"""The metrics over studies that follow a prediction: of each study type, and of all.

Owns how predicted images become an evaluation set, and what is counted beside the
metrics. Must not know files, nets or terminals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

import numpy as np

from xenon_mx.data.mura import Image
from xenon_mx.evaluation import estimates, studies
from xenon_mx.evaluation.estimates import Estimate
from xenon_mx.evaluation.evaluation_set import (
    OVERALL,
    EvaluationSet,
    patient_or_study,
)


@dataclass(frozen=True)
class StudyTypeMetrics:
    """The metrics of one study type, or of all.

    Attributes:
        study_type: Its name, or `overall`.
        studies: Number of studies.
        patients: Number of patients; None if a study's patient is not known.
        abnormal: Number of abnormal studies, by their labels.
        called_abnormal: Number of studies called abnormal.
        estimates: Name of a metric to its estimate; NaN is undefined.
    """

    study_type: str
    studies: int
    patients: int | None
    abnormal: int
    called_abnormal: int
    estimates: Mapping[str, Estimate]

    @property
    def kappa(self) -> float:
        """Cohen's kappa; NaN if undefined."""
        return self.estimates["kappa"].value

    @property
    def auroc(self) -> float:
        """The area under the ROC curve; NaN if undefined."""
        return self.estimates["AUROC"].value


def compute(
    images: Sequence[Image], prob: np.ndarray, threshold: float
) -> list[StudyTypeMetrics]:
    """Compute the metrics of each study type, sorted by name, and of all studies.

    They are those of `xenon-report`: computed from the digits of the table, with
    intervals over patients.

    Args:
        images: The N images, all of them labelled.
        prob: (N,) probabilities, 0 to 1.
        threshold: A study is called abnormal if its probability is strictly above.
    """
    samples = _evaluation_set(images, prob)
    by_type = estimates.evaluate_by_study_type(samples, threshold)
    return [
        _count(name, samples.select(name), values, threshold)
        for name, values in by_type.items()
    ]


def compute_by(
    samples: EvaluationSet, column: str, names: Sequence[str], threshold: float
) -> list[StudyTypeMetrics]:
    """Compute the metrics of some values of a further column, then of all studies.

    Args:
        samples: Studies.
        column: The column.
        names: Its values, each of which has the place of a study type in the result.
        threshold: A study is called abnormal if its probability is strictly above.
    """
    sets = {name: samples.subgroup(column, name) for name in names}
    sets[OVERALL] = samples
    return [
        _count(name, each, estimates.evaluate(each, threshold), threshold)
        for name, each in sets.items()
    ]


def _evaluation_set(images: Sequence[Image], prob: np.ndarray) -> EvaluationSet:
    by_study = studies.aggregate_images(images, prob)
    patients = {image.study: image.patient for image in images}
    return EvaluationSet(
        labels=by_study.labels,
        prob=studies.rounded(by_study.prob),
        patients=[
            patient_or_study(patients[name], name) for name in map(str, by_study.names)
        ],
        study_types=by_study.study_types,
        patients_known=all(patients.values()),
    )


def _count(
    name: str, samples: EvaluationSet, values: Sequence[Estimate], threshold: float
) -> StudyTypeMetrics:
    return StudyTypeMetrics(
        study_type=name,
        studies=len(samples.labels),
        patients=len(set(samples.patients)) if samples.patients_known else None,
        abnormal=int(samples.labels.sum()),
        called_abnormal=int((samples.prob > threshold).sum()),
        estimates={estimate.name: estimate for estimate in values},
    )
