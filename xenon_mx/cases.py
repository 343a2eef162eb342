"""What is evaluated: labelled predictions of studies or images, from a CSV.

Owns the tables of xenon-predict as they are read back. Knows no figures.
"""

from __future__ import annotations

import math
import os
import re
from csv import DictReader
from csv import Error as CsvError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np

from xenon_mx import mura
from xenon_mx.errors import XenonError

# How the two tables of xenon-predict begin.
_STUDIES = ["study", "study_type", "images", "probability", "prediction", "label"]
_IMAGES = ["image", "study", "study_type", "probability", "prediction", "label"]
# A case in one word, more than one of it.
PLURAL = {"study": "studies", "image": "images"}
_MEMBER = re.compile(r"member_\d+")


@dataclass(frozen=True, eq=False)
class Cases:
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

    def of(self, study_type: str) -> Cases:
        """Choose the cases of one study type."""
        chosen = [i for i, each in enumerate(self.study_types) if each == study_type]
        return Cases(
            self.labels[chosen],
            self.prob[chosen],
            [self.patients[i] for i in chosen],
            [study_type] * len(chosen),
            self.level,
            [self.splits[i] for i in chosen] if self.splits else [],
        )


@dataclass(frozen=True, eq=False)
class Predicted:
    """A table of xenon-predict's as it stands, N rows in order.

    Attributes:
        csv: Where it was read from.
        level: What a row is: `study` or `image`.
        names: The study or the image of each.
        studies: The study of each.
        study_types: `XR_*`, empty outside MURA's layout.
        prob: (N,) float64.
        called: (N,) int: what the table calls each, 1 abnormal.
        labels: (N,) int: 1, 0, or -1 where there is none.
        lines: On which line of the file each stands.
    """

    csv: Path
    level: str
    names: list[str]
    studies: list[str]
    study_types: list[str]
    prob: np.ndarray
    called: np.ndarray
    labels: np.ndarray
    lines: list[int]

    def cases(self) -> Cases:
        """Take the rows for what is evaluated; patients are read off the paths.

        Raises:
            XenonError: A row has no label, or its path names no patient.
        """
        unlabelled = int((self.labels < 0).sum())
        if unlabelled:
            raise XenonError(
                f"{self.csv}: {unlabelled} of {len(self.labels)} rows have no label to "
                f"compare with; predict studies whose folders end in _positive or "
                f"_negative"
            )
        patients, splits = [], []
        for row, study in enumerate(self.studies):
            image = mura.parse(f"{study}image", Path())
            where = f"{self.csv}: line {self.lines[row]}"
            if not image.patient:
                raise XenonError(
                    f"{where}: no patient can be read off {study!r}: studies lie in "
                    f"XR_<TYPE>/<patient>/<study>/"
                )
            if image.study_type != self.study_types[row]:
                raise XenonError(
                    f"{where}: {study!r} is not of study type {self.study_types[row]!r}"
                )
            if image.label not in (None, self.labels[row]):
                raise XenonError(
                    f"{where}: {study!r} contradicts its label {self.labels[row]}"
                )
            above, _, _ = study.rpartition(f"/{image.study_type}/{image.patient}/")
            patients.append(image.patient)
            splits.append(above.rpartition("/")[2])
        return Cases(
            self.labels, self.prob, patients, self.study_types, self.level, splits
        )


def read_predictions(csv: Path) -> Cases:
    """Read what xenon-predict wrote: OUT.csv (studies) or its `--images` (images).

    Raises:
        XenonError: The file cannot be read, is no such table, lacks labels, or a path
            names no patient.
    """
    return read_table(csv).cases()


def read_table(csv: Path) -> Predicted:
    """Read a table of xenon-predict's as it stands, with labels or without.

    Raises:
        XenonError: The file cannot be read, is no such table, or has no rows.
    """
    level, rows = _rows(csv)
    if not rows:
        raise XenonError(f"{csv}: holds no predictions, only the names of the columns")
    names = [row[level] for _, row in rows]
    if len(set(names)) < len(names):
        raise XenonError(f"{csv}: holds a {level} twice: give one prediction of each")
    return Predicted(
        csv,
        level,
        names,
        [row["study"] for _, row in rows],
        [row["study_type"] for _, row in rows],
        np.array([_probability(row, f"{csv}: line {line}") for line, row in rows]),
        np.array([_class(row, "prediction", f"{csv}: line {n}") for n, row in rows]),
        np.array(
            [
                _class(row, "label", f"{csv}: line {line}") if row["label"] else -1
                for line, row in rows
            ]
        ),
        [line for line, _ in rows],
    )


def _rows(csv: Path) -> tuple[str, list[tuple[int, dict[str, str]]]]:
    """Read what a row is, and the rows with the numbers of their lines."""
    try:
        with open(csv, newline="", encoding="utf-8-sig") as stream:
            reader = DictReader(stream, strict=True)
            level = _level(list(reader.fieldnames or ()))
            if not level:
                raise XenonError(
                    f"{csv}: is no table of xenon-predict's: its first line must begin "
                    f"{','.join(_STUDIES)} or {','.join(_IMAGES)}"
                )
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise XenonError(f"{csv}: {os.strerror(error.errno or 0).lower()}") from error
    except (UnicodeDecodeError, CsvError) as error:
        raise XenonError(f"{csv}: damaged: {error}") from error
    for line, row in rows:
        # DictReader fills a short row with None, and keeps a long one's rest under it.
        if None in row or None in row.values():
            raise XenonError(f"{csv}: line {line}: not as many columns as have names")
    return level, rows


def _level(header: Sequence[str]) -> str:
    """Tell the two tables apart by their columns; empty is neither."""
    if header == _STUDIES:
        return "study"
    members = header[len(_IMAGES) :]
    if header[: len(_IMAGES)] == _IMAGES and all(map(_MEMBER.fullmatch, members)):
        return "image"
    return ""


def _probability(row: Mapping[str, str], where: str) -> float:
    try:
        prob = float(row["probability"])
    except ValueError:
        prob = math.nan
    if not 0 <= prob <= 1:
        raise XenonError(
            f"{where}: probability {row['probability']!r} is no number from 0 to 1"
        )
    return prob


def _class(row: Mapping[str, str], column: str, where: str) -> int:
    if row[column] not in ("0", "1"):
        raise XenonError(f"{where}: {column} {row[column]!r} is neither 0 nor 1")
    return int(row[column])
