"""The tables of predictions: one row per study, or one row per image.

Owns the columns, which `prediction_csv` writes, and reading them back; must not know
nets or metrics.

Columns are read by their names, in any order and with any of the separators of
`headed_csv`, so that tables of other programs are read as well: `study` (or `image`)
and `probability` are needed, all others may be missing. What is not in this module's
lists is kept as text, and written at the end.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np

from xenon_mx.data import headed_csv, mura
from xenon_mx.data.mura import Image, check_labels_of_folders
from xenon_mx.errors import ConfigError, XenonError, os_error
from xenon_mx.evaluation.studies import (
    UNLABELLED,
    format_probability,
    image_labels,
)
from xenon_mx.runtime import spreadsheet, text

_PREDICTION_COLUMNS = ["probability", "prediction", "label"]
STUDY_COLUMNS = ["study", "study_type", "images", *_PREDICTION_COLUMNS]
IMAGE_COLUMNS = ["image", "study", "study_type", *_PREDICTION_COLUMNS]
PATIENT = "patient"  # written only where a path does not tell it
MEMBER = "member_"  # followed by the member's number, from 1; only in tables of images
# At the end of a table of studies, where a decision was made about the ensemble. They
# are read as further columns, which follow from the prediction.
DECISION_COLUMNS = ["calibrated", "decision"]
_COLUMNS = {*STUDY_COLUMNS, *IMAGE_COLUMNS, PATIENT}
PLURAL = {"study": "studies", "image": "images"}  # of a table's level


def is_column(name: str) -> bool:
    """Return whether a column has a meaning here; no further column has its name."""
    return name in _COLUMNS or bool(re.fullmatch(rf"{MEMBER}\d+", name))


def count_phrase(number: int, level: str) -> str:
    """Return a number of studies or images in words, such as `1,199 studies`."""
    return text.counted(number, level, PLURAL[level])


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """A table of predictions, N rows in the order of the file.

    Attributes:
        file: The file that was read.
        level: What a row is: `study` or `image`.
        names: The study or the image of each row.
        studies: The study of each row.
        study_types: `XR_*` or another name, empty where unknown.
        patients: The patient of each row, empty where unknown.
        images: (N,) int: the number of images of each row; 1 in a table of images.
        prob: (N,) float64 probabilities.
        predictions: (N,) int: 1 abnormal, 0 normal; None if the table has none.
        labels: (N,) int: 1 abnormal, 0 normal, or `UNLABELLED`.
        lines: The line of the file of each row.
        members: The number of members' columns; 0 in a table of studies.
        extra: Further columns by name, as text.
    """

    file: Path
    level: str
    names: list[str]
    studies: list[str]
    study_types: list[str]
    patients: list[str]
    images: np.ndarray
    prob: np.ndarray
    predictions: np.ndarray | None
    labels: np.ndarray
    lines: list[int]
    members: int
    extra: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_unlabelled(self) -> bool:
        """Whether no row has a label."""
        return bool((self.labels == UNLABELLED).all())

    def check_threshold(self, threshold: float) -> None:
        """Check that the table's predictions, if it has any, follow from a threshold.

        Raises:
            ConfigError: The table was made with another threshold.
        """
        if self.predictions is None:
            return
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
    """Read a table of predictions, of xenon-predict or of another program.

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
    located = [(row, f"{file}: line {line}") for line, row in numbered]
    parsed = [_parse(row, level, where) for row, where in located]
    try:
        check_labels_of_folders(image.study for image in parsed)
    except XenonError as error:
        raise XenonError(f"{file}: {error}", error.details) from error
    predictions = None
    if "prediction" in rows[0]:
        predictions = np.array([_binary(row, "prediction", at) for row, at in located])
    return PredictionTable(
        file=file,
        level=level,
        names=names,
        studies=[image.study for image in parsed],
        study_types=[image.study_type for image in parsed],
        patients=[image.patient for image in parsed],
        images=np.array([_image_count(row, level, where) for row, where in located]),
        prob=np.array([_probability(row, where) for row, where in located]),
        predictions=predictions,
        labels=np.array(image_labels(parsed)),
        lines=list(lines),
        members=sum(name.startswith(MEMBER) and is_column(name) for name in rows[0]),
        extra={
            name: [row[name] for row in rows]
            for name in rows[0]
            if name and not is_column(name)
        },
    )


def _read_rows(file: Path) -> tuple[str, list[tuple[int, dict[str, str]]]]:
    """Read the table's level, and its rows with their line numbers."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            separator = headed_csv.delimiter(stream.readline())
            stream.seek(0)
            reader = csv.DictReader(stream, delimiter=separator, strict=True)
            level = _level(file, list(reader.fieldnames or ()))
            numbered = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise os_error(file, error) from error
    except UnicodeDecodeError as error:
        raise XenonError(f"{file}: is not a CSV in UTF-8") from error
    except csv.Error as error:
        raise XenonError(f"{file}: damaged: {error}") from error
    for line, row in numbered:
        # DictReader fills a short row with None; the rest of a long row is under None.
        if None in row or None in row.values():
            raise XenonError(
                f"{file}: line {line}: must have as many cells as the first line"
            )
    unguard = spreadsheet.unguard
    return level, [
        (line, {unguard(name): unguard(cell) for name, cell in row.items()})
        for line, row in numbered
    ]


def _level(file: Path, header: Sequence[str]) -> str:
    """Return the level of the table with these columns."""
    level = "image" if "image" in header else "study"
    missing = [name for name in (level, "probability") if name not in header]
    if missing:
        meant = headed_csv.misspelt(header, missing)
        meant.update(
            (column, name)
            for column in header
            for name in text.begun(column, missing)
            if name not in meant.values()
        )
        named = headed_csv.in_words(header) or "nothing"
        asked = headed_csv.question(meant)
        raise XenonError(
            f"{file}: is not a table of predictions: its first line must name the "
            f"columns study (or image) and probability, and lacks "
            f"{' and '.join(missing)}; it has {named}" + (f": {asked}" if asked else "")
        )
    # pandas writes its index as a column without a name.
    counts = Counter(name for name in header if name)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise XenonError(
            f"{file}: its first line names the column {twice[0]} twice: rename one"
        )
    return level


def _parse(row: Mapping[str, str], level: str, where: str) -> Image:
    """Return what a row and, where it has no such column, its path tell of a study."""
    path = row[level]
    if not path:
        raise XenonError(f"{where}: names no {level}")
    study = row.get("study") or mura.parse(path, Path()).study
    told = parse_study(study)
    return Image(
        path=path,
        file=Path(),
        study=study,
        study_type=row.get("study_type", told.study_type),
        patient=row.get(PATIENT, told.patient),
        label=_label(row, where) if "label" in row else told.label,
    )


def parse_study(study: str) -> Image:
    """Return what the path of a study tells, as of an image in it."""
    return mura.parse(f"{study.rstrip('/')}/image", Path())


def _probability(row: Mapping[str, str], where: str) -> float:
    try:
        prob = float(row["probability"])
    except ValueError:
        prob = math.nan
    if not 0 <= prob <= 1:
        told = row["probability"]
        raise XenonError(
            f"{where}: probability {told!r} is not a number from 0 to 1"
            + (", with a decimal point" if "," in told else "")
        )
    return prob


def _image_count(row: Mapping[str, str], level: str, where: str) -> int:
    """Return the number of images of a row; 1 in a table of images."""
    count = row.get("images", "1") if level == "study" else "1"
    if not count.isdecimal() or int(count) < 1:
        raise XenonError(f"{where}: images {count!r} is not a positive integer")
    return int(count)


def _label(row: Mapping[str, str], where: str) -> int | None:
    return _binary(row, "label", where) if row["label"] else None


def _binary(row: Mapping[str, str], column: str, where: str) -> int:
    # pandas writes a column of integers with gaps as 1.0 and 0.0.
    value = row[column][:-2] if row[column] in ("0.0", "1.0") else row[column]
    if value not in ("0", "1"):
        raise XenonError(f"{where}: {column} {value!r} is neither 0 nor 1")
    return int(value)
