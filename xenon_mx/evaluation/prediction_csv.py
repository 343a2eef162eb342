"""The tables of predictions as CSVs: one row per study, or one row per image.

Owns how their rows are made of images and probabilities. The columns are those of
`prediction_tables`, which reads the tables back; must not know nets or metrics.
"""

from __future__ import annotations

import csv
import io
from typing import Iterable, Sequence

import numpy as np

from xenon_mx.data import mura
from xenon_mx.data.mura import Image
from xenon_mx.errors import XenonError
from xenon_mx.evaluation.decision import Decision
from xenon_mx.evaluation.prediction_tables import (
    DECISION_COLUMNS,
    IMAGE_COLUMNS,
    MEMBER,
    PATIENT,
    STUDY_COLUMNS,
)
from xenon_mx.evaluation.studies import (
    UNLABELLED,
    aggregate_images,
    format_probability,
    image_labels,
    predict,
)
from xenon_mx.runtime import spreadsheet


def studies_csv(
    images: Sequence[Image],
    members: np.ndarray,
    threshold: float,
    decision: Decision | None = None,
) -> bytes:
    """Return the table of studies.

    The further columns of a study are those of its first image: at the end, in the
    order in which the images first have them. Those of a decision follow. A table of
    images has none of them: a decision is about means over the images of a study, and
    single images spread more.

    Args:
        images: The N images.
        members: (N, M) probabilities, one column per member.
        threshold: A study is called abnormal if its probability is strictly above.
        decision: What was decided about the ensemble, if it was.
    """
    names, cells = _further_columns(images)
    first: dict[str, list[str]] = {}
    for image, values in zip(images, cells):
        first.setdefault(image.study, values)
    rows = [
        [*row, *first[str(row[0])]] for row in _study_rows(images, members, threshold)
    ]
    header: list[object] = [*STUDY_COLUMNS, *names]
    if decision is not None:
        prob = aggregate_images(images, members.mean(axis=1)).prob
        header += DECISION_COLUMNS
        calibrated = map(format_probability, decision.calibrate(prob))
        rows = [
            [*row, *cells]
            for row, *cells in zip(rows, calibrated, decision.decide(prob))
        ]
    return spreadsheet.to_csv([header, *rows]).encode()


def check_columns(images: Sequence[Image]) -> None:
    """Check that no image has a further column that a decision writes.

    Raises:
        XenonError: One has.
    """
    taken = {name for image in images for name in image.extra} & {*DECISION_COLUMNS}
    if taken:
        name = min(taken)
        raise XenonError(
            f"the manifest has a column {name}, and xenon-predict writes one of that "
            f"name, since a decision was made about the run: rename it in the manifest"
        )


def images_csv(images: Sequence[Image], members: np.ndarray, threshold: float) -> bytes:
    """Return the table of images; the arguments are those of `studies_csv`."""
    columns = [f"{MEMBER}{i + 1}" for i in range(members.shape[1])]
    prob = np.array([values.mean() for values in members])
    predictions = _prediction_cells(prob, image_labels(images), threshold)
    names, further = _further_columns(images)
    rows: list[list[object]] = [[*IMAGE_COLUMNS, *columns, *names]]
    for image, values, prediction, more in zip(images, members, predictions, further):
        rows.append(
            [image.path, image.study, image.study_type]
            + prediction
            + [format_probability(value) for value in values]
            + more
        )
    return spreadsheet.to_csv(rows).encode()


def submission_csv(
    images: Sequence[Image], members: np.ndarray, threshold: float
) -> bytes:
    """Return the MURA competition's table: study and prediction, without a header.

    Its scorer compares names to the letter, so that no cell is guarded.
    """
    out = io.StringIO()
    rows = _study_rows(images, members, threshold)
    csv.writer(out, lineterminator="\n").writerows([row[0], row[4]] for row in rows)
    return out.getvalue().encode()


def _further_columns(images: Sequence[Image]) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns at the end, and the cells of each image.

    Where every path tells the patient, as in MURA, there is no column of patients.
    """
    extra = list(dict.fromkeys(name for image in images for name in image.extra))
    cells = [[image.extra.get(name, "") for name in extra] for image in images]
    if all(mura.parse(i.path, i.file).patient == i.patient for i in images):
        return extra, cells
    rows = [[image.patient, *values] for image, values in zip(images, cells)]
    return [PATIENT, *extra], rows


def _study_rows(
    images: Sequence[Image], members: np.ndarray, threshold: float
) -> list[list[object]]:
    studies = aggregate_images(images, members.mean(axis=1))
    cells = _prediction_cells(studies.prob, studies.labels, threshold)
    columns = zip(studies.names, studies.study_types, studies.images, cells)
    return [
        [name, study_type, count, *rest] for name, study_type, count, rest in columns
    ]


def _prediction_cells(
    prob: np.ndarray, labels: Iterable[int], threshold: float
) -> list[list[object]]:
    """Return the cells of probability, prediction and label of each row."""
    return [
        [format_probability(value), prediction, "" if label == UNLABELLED else label]
        for value, prediction, label in zip(prob, predict(prob, threshold), labels)
    ]
