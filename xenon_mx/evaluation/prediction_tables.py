"""The tables of xenon-predict: one row per study, or one row per image.

Owns the columns, as they are written and read back; must not know nets or metrics.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Mapping, Sequence

import numpy as np

from xenon_mx.data.mura import Image, check_labels_of_folders
from xenon_mx.errors import ConfigError, XenonError, os_error
from xenon_mx.evaluation.studies import (
    UNLABELLED,
    aggregate_images,
    format_probability,
    image_labels,
    predict,
)

_PREDICTION_COLUMNS = ["probability", "prediction", "label"]
_STUDY_COLUMNS = ["study", "study_type", "images", *_PREDICTION_COLUMNS]
_IMAGE_COLUMNS = ["image", "study", "study_type", *_PREDICTION_COLUMNS]
_MEMBER = "member_"  # followed by the member's number, from 1; only in tables of images
PLURAL = {"study": "studies", "image": "images"}  # of a table's level


def count_phrase(number: int, level: str) -> str:
    """Return a number of studies or images in words, such as `1,199 studies`."""
    return f"{number:,} {level if number == 1 else PLURAL[level]}"


def studies_csv(
    images: Sequence[Image], members: np.ndarray, threshold: float
) -> bytes:
    """Return the table of studies.

    Args:
        images: The N images.
        members: (N, M) probabilities, one column per member.
        threshold: A study is predicted abnormal if its probability is strictly above.
    """
    return _csv([_STUDY_COLUMNS, *_study_rows(images, members, threshold)])


def images_csv(images: Sequence[Image], members: np.ndarray, threshold: float) -> bytes:
    """Return the table of images; the arguments are those of `studies_csv`."""
    columns = [f"{_MEMBER}{i + 1}" for i in range(members.shape[1])]
    prob = np.array([values.mean() for values in members])
    labels = image_labels(images)
    cells = _prediction_cells(prob, labels, threshold)
    rows: list[list[object]] = [[*_IMAGE_COLUMNS, *columns]]
    for image, values, prediction in zip(images, members, cells):
        rows.append(
            [image.path, image.study, image.study_type]
            + prediction
            + [format_probability(value) for value in values]
        )
    return _csv(rows)


def submission_csv(
    images: Sequence[Image], members: np.ndarray, threshold: float
) -> bytes:
    """Return the MURA competition's table: study and prediction, without a header."""
    return _csv([row[0], row[4]] for row in _study_rows(images, members, threshold))


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


def _csv(rows: Iterable[Sequence[object]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """A table written by xenon-predict, N rows in the order of the file.

    Attributes:
        file: The file that was read.
        level: What a row is: `study` or `image`.
        names: The study or the image of each row.
        studies: The study of each row.
        study_types: `XR_*`, empty outside MURA's layout.
        images: (N,) int: the number of images of each row; 1 in a table of images.
        prob: (N,) float64 probabilities.
        predictions: (N,) int: 1 abnormal, 0 normal.
        labels: (N,) int: 1 abnormal, 0 normal, or `UNLABELLED`.
        lines: The line of the file of each row.
        members: The number of members' columns; 0 in a table of studies.
    """

    file: Path
    level: str
    names: list[str]
    studies: list[str]
    study_types: list[str]
    images: np.ndarray
    prob: np.ndarray
    predictions: np.ndarray
    labels: np.ndarray
    lines: list[int]
    members: int

    @property
    def is_unlabelled(self) -> bool:
        """Whether no row has a label."""
        return bool((self.labels == UNLABELLED).all())

    def check_threshold(self, threshold: float) -> None:
        """Check that the table's predictions follow from a threshold.

        Raises:
            ConfigError: The table was made with another threshold.
        """
        (wrong,) = np.nonzero(self.predictions != (self.prob > threshold))
        if len(wrong):
            row = int(wrong[0])
            raise ConfigError(
                "--threshold",
                f"{self.file}, line {self.lines[row]}: the prediction for probability "
                f"{format_probability(self.prob[row])} is {self.predictions[row]}, "
                f"which contradicts a threshold of {threshold:g}: give the threshold "
                f"that the table was made with",
            )


def read_table(file: Path) -> PredictionTable:
    """Read a table written by xenon-predict, with or without labels.

    Raises:
        XenonError: The file cannot be read, is not such a table, has no rows, lists a
            study or an image twice, or a study under both labels.
    """
    level, numbered = _read_rows(file)
    if not numbered:
        raise XenonError(f"{file}: contains no predictions, only the column names")
    lines, rows = zip(*numbered)
    names = [row[level] for row in rows]
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    if duplicates:
        raise XenonError(
            f"{file}: lists {count_phrase(len(duplicates), level)} more than once, "
            f"such as {duplicates[0]}: give one prediction per {level}"
        )
    try:
        check_labels_of_folders(row["study"] for row in rows)
    except XenonError as error:
        raise XenonError(f"{file}: {error}", error.details) from error
    located = [(row, f"{file}: line {line}") for line, row in numbered]
    return PredictionTable(
        file=file,
        level=level,
        names=names,
        studies=[row["study"] for row in rows],
        study_types=[row["study_type"] for row in rows],
        images=np.array([_image_count(row, where) for row, where in located]),
        prob=np.array([_probability(row, where) for row, where in located]),
        predictions=np.array(
            [_binary(row, "prediction", where) for row, where in located]
        ),
        labels=np.array([_label(row, where) for row, where in located]),
        lines=list(lines),
        members=sum(name.startswith(_MEMBER) for name in rows[0]),
    )


def _read_rows(file: Path) -> tuple[str, list[tuple[int, dict[str, str]]]]:
    """Read the table's level, and its rows with their line numbers."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            level = _level(list(reader.fieldnames or ()))
            if not level:
                raise XenonError(
                    f"{file}: was not written by xenon-predict: its first line must "
                    f"begin with {','.join(_STUDY_COLUMNS)} or "
                    f"{','.join(_IMAGE_COLUMNS)}"
                )
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise os_error(file, error) from error
    except UnicodeDecodeError as error:
        raise XenonError(f"{file}: is not a CSV in UTF-8") from error
    except csv.Error as error:
        raise XenonError(f"{file}: damaged: {error}") from error
    for line, row in rows:
        # DictReader fills a short row with None; the rest of a long row is under None.
        if None in row or None in row.values():
            raise XenonError(
                f"{file}: line {line}: must have as many cells as the first line"
            )
    return level, rows


def _level(header: Sequence[str]) -> str:
    """Return the level of the table with these columns; empty if it is neither."""
    if header == _STUDY_COLUMNS:
        return "study"
    members = header[len(_IMAGE_COLUMNS) :]
    numbered = [f"{_MEMBER}{i + 1}" for i in range(len(members))]
    if header == [*_IMAGE_COLUMNS, *numbered]:
        return "image"
    return ""


def _probability(row: Mapping[str, str], where: str) -> float:
    try:
        prob = float(row["probability"])
    except ValueError:
        prob = math.nan
    if not 0 <= prob <= 1:
        raise XenonError(
            f"{where}: probability {row['probability']!r} is not a number from 0 to 1"
        )
    return prob


def _image_count(row: Mapping[str, str], where: str) -> int:
    """Return the number of images of a row; 1 in a table of images."""
    count = row.get("images", "1")
    if not count.isdecimal() or int(count) < 1:
        raise XenonError(f"{where}: images {count!r} is not a positive integer")
    return int(count)


def _label(row: Mapping[str, str], where: str) -> int:
    return _binary(row, "label", where) if row["label"] else UNLABELLED


def _binary(row: Mapping[str, str], column: str, where: str) -> int:
    if row[column] not in ("0", "1"):
        raise XenonError(f"{where}: {column} {row[column]!r} is neither 0 nor 1")
    return int(row[column])
