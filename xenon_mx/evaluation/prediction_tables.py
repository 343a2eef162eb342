"""The tables of xenon-predict: a row a study, or a row an image.

Owns their columns and digits, as they are written and as they are read back. Knows no
nets and no figures.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Mapping, Sequence

import numpy as np

from xenon_mx.data.mura import Image
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.evaluation import metrics

_VERDICT = ["probability", "prediction", "label"]
_STUDIES = ["study", "study_type", "images", *_VERDICT]
_IMAGES = ["image", "study", "study_type", *_VERDICT]
_MEMBER = "member_"  # and its number, from 1: the columns behind those of an image
# A row in one word, more than one of it.
PLURAL = {"study": "studies", "image": "images"}
UNLABELLED = -1  # in place of a label; an empty cell of the file


def count_phrase(number: int, level: str) -> str:
    """Say how many rows of a kind there are, such as `1,199 studies`."""
    return f"{number:,} {level if number == 1 else PLURAL[level]}"


def round_probability(prob: np.ndarray) -> np.ndarray:
    """Round probabilities to the digits that tables have, (N,) float64.

    What is called abnormal is decided on these: a reader of the table has no others.
    """
    return np.array([float(_digits(value)) for value in prob], dtype=np.float64)


def studies_csv(
    images: Sequence[Image], members: np.ndarray, threshold: float
) -> bytes:
    """Write the table of studies.

    Args:
        images: The N images.
        members: (N, M) probabilities, a column a member.
        threshold: Abnormal if strictly above.
    """
    return _csv([_STUDIES, *_study_rows(images, members, threshold)])


def images_csv(images: Sequence[Image], members: np.ndarray, threshold: float) -> bytes:
    """Write the table of images; the arguments are those of `studies_csv`."""
    columns = [f"{_MEMBER}{i + 1}" for i in range(members.shape[1])]
    rows: list[list[object]] = [[*_IMAGES, *columns]]
    for image, values in zip(images, members):
        rows.append(
            [image.path, image.study, image.study_type]
            + _verdict(values.mean(), threshold, image.label)
            + [_digits(value) for value in values]
        )
    return _csv(rows)


def submission_csv(
    images: Sequence[Image], members: np.ndarray, threshold: float
) -> bytes:
    """Write what the MURA competition takes: study and prediction, without a header."""
    return _csv([row[0], row[4]] for row in _study_rows(images, members, threshold))


def _study_rows(
    images: Sequence[Image], members: np.ndarray, threshold: float
) -> list[list[object]]:
    studies, means = metrics.study_means(
        [image.study for image in images], members.mean(axis=1)
    )
    first = {image.study: image for image in reversed(images)}
    views = Counter(image.study for image in images)
    rows: list[list[object]] = []
    for study, prob in zip(map(str, studies), means):
        verdict = _verdict(prob, threshold, first[study].label)
        rows.append([study, first[study].study_type, views[study], *verdict])
    return rows


def _verdict(prob: float, threshold: float, label: int | None) -> list[object]:
    digits = _digits(prob)
    called = int(float(digits) > threshold)
    return [digits, called, "" if label is None else label]


def _digits(prob: float) -> str:
    """Nine significant digits: enough to recompute the loss to 1e-6."""
    return f"{prob:.9g}"


def _csv(rows: Iterable[Sequence[object]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode()


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """A table of xenon-predict's as it stands, N rows in order.

    Attributes:
        file: Where it was read from.
        level: What a row is: `study` or `image`.
        names: The study or the image of each.
        studies: The study of each.
        study_types: `XR_*`, empty outside MURA's layout.
        images: (N,) int: how many images each row is of.
        prob: (N,) float64.
        called: (N,) int: what the table calls each, 1 abnormal.
        labels: (N,) int: 1, 0, or `UNLABELLED`.
        lines: On which line of the file each stands.
        members: How many members' probabilities stand beside; 0 in a table of studies.
    """

    file: Path
    level: str
    names: list[str]
    studies: list[str]
    study_types: list[str]
    images: np.ndarray
    prob: np.ndarray
    called: np.ndarray
    labels: np.ndarray
    lines: list[int]
    members: int

    @property
    def is_unlabelled(self) -> bool:
        """Whether no row has a label."""
        return bool((self.labels == UNLABELLED).all())

    def check_threshold(self, threshold: float) -> None:
        """Stop if what the table calls its rows is not what a threshold would.

        Raises:
            ConfigError: It was made with another one.
        """
        (wrong,) = np.nonzero(self.called != (self.prob > threshold))
        if len(wrong):
            first = int(wrong[0])
            raise ConfigError(
                "--threshold",
                f"{self.file}, line {self.lines[first]}, calls a probability of "
                f"{self.prob[first]:.9g} {self.called[first]}, which {threshold:g} "
                f"does not: give the one it was made with",
            )


def read_table(file: Path) -> PredictionTable:
    """Read a table of xenon-predict's as it stands, with labels or without.

    Raises:
        XenonError: The file cannot be read, is no such table, or has no rows.
    """
    level, numbered = _rows(file)
    if not numbered:
        raise XenonError(f"{file}: holds no predictions, only the names of the columns")
    lines, rows = zip(*numbered)
    names = [row[level] for row in rows]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise XenonError(
            f"{file}: holds {count_phrase(len(twice), level)} twice, such as "
            f"{twice[0]}: give one prediction of each"
        )
    where = [f"{file}: line {line}" for line in lines]
    return PredictionTable(
        file,
        level,
        names,
        [row["study"] for row in rows],
        [row["study_type"] for row in rows],
        np.array([_count(row, place) for row, place in zip(rows, where)]),
        np.array([_probability(row, place) for row, place in zip(rows, where)]),
        np.array([_class(row, "prediction", place) for row, place in zip(rows, where)]),
        np.array([_label(row, place) for row, place in zip(rows, where)]),
        list(lines),
        sum(name.startswith(_MEMBER) for name in rows[0]),
    )


def _rows(file: Path) -> tuple[str, list[tuple[int, dict[str, str]]]]:
    """Read what a row is, and the rows with the numbers of their lines."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            level = _level(list(reader.fieldnames or ()))
            if not level:
                raise XenonError(
                    f"{file}: is no table of xenon-predict's: its first line must "
                    f"begin {','.join(_STUDIES)} or {','.join(_IMAGES)}"
                )
            rows = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise XenonError(f"{file}: {os.strerror(error.errno or 0).lower()}") from error
    except UnicodeDecodeError as error:
        raise XenonError(f"{file}: is no CSV in UTF-8") from error
    except csv.Error as error:
        raise XenonError(f"{file}: damaged: {error}") from error
    for line, row in rows:
        # DictReader fills a short row with None, and keeps a long one's rest under it.
        if None in row or None in row.values():
            raise XenonError(f"{file}: line {line}: not as many columns as have names")
    return level, rows


def _level(header: Sequence[str]) -> str:
    """Tell the two tables apart by their columns; empty is neither."""
    if header == _STUDIES:
        return "study"
    members = header[len(_IMAGES) :]
    numbered = [f"{_MEMBER}{i + 1}" for i in range(len(members))]
    if header == [*_IMAGES, *numbered]:
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


def _count(row: Mapping[str, str], where: str) -> int:
    """How many images a row is of: one, if it is not of a study."""
    count = row.get("images", "1")
    if not count.isdecimal() or int(count) < 1:
        raise XenonError(f"{where}: images {count!r} is no number of images")
    return int(count)


def _label(row: Mapping[str, str], where: str) -> int:
    return _class(row, "label", where) if row["label"] else UNLABELLED


def _class(row: Mapping[str, str], column: str, where: str) -> int:
    if row[column] not in ("0", "1"):
        raise XenonError(f"{where}: {column} {row[column]!r} is neither 0 nor 1")
    return int(row[column])
