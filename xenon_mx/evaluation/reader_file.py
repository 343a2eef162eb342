"""What people read: the file of --readers.

Owns its two forms and its checks; must not know metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np

from xenon_mx.data import headed_csv
from xenon_mx.errors import FileError, XenonError
from xenon_mx.evaluation.prediction_tables import (
    PredictionTable,
    count_phrase,
    is_column,
)

UNREAD = -1  # in place of a reading; an empty cell of the file
_STUDY = "study"
# pandas writes a column of integers with gaps as 1.0 and 0.0.
_READINGS = {"": UNREAD, "0": 0, "1": 1, "0.0": 0, "1.0": 1}
# The annotation file of MURA's competition: without a header, a study and the readings
# of three radiologists (evaluate.py in stanfordmlgroup.github.io/competitions/mura).
_COMPETITION = (_STUDY, "reader_1", "reader_2", "reader_3")


@dataclass(frozen=True, eq=False)
class Readers:
    """What K readers say of the N studies of a table.

    Attributes:
        names: The readers.
        readings: (N, K) int: 1 abnormal, 0 normal, or `UNREAD`.
    """

    names: list[str]
    readings: np.ndarray

    def rows(self, rows: Sequence[int]) -> Readers:
        """Return what the readers say of some of the studies, by number from 0."""
        return Readers(self.names, self.readings[list(rows)])

    @property
    def unread(self) -> int:
        """The number of readings that are missing."""
        return int((self.readings == UNREAD).sum())


def read_readers(file: Path, table: PredictionTable) -> Readers:
    """Read what readers say of the studies of a table.

    The first line names the columns: `study` and one of each reader. Cells are 1, 0, or
    empty where a reader did not read a study; nobody has read a study without a line.
    The competition's annotation file has no such line, and three readers.

    Args:
        file: The file.
        table: The table of studies.

    Raises:
        XenonError: The file cannot be read or is no such file, has a study twice or one
            that the table lacks, or a reader without a reading; or the table is one of
            images.
    """
    if table.level != "study":
        raise XenonError(
            f"{table.file}: --readers needs a table of studies, not of images"
        )
    name = str(file)
    lines = headed_csv.read_lines(file, name)
    columns = _COMPETITION if _is_competition_file(lines) else None
    parsed = headed_csv.parse(lines, name, (_STUDY,), columns)
    readers = [column for column in parsed.columns if column != _STUDY]
    _check_readers(readers, name)
    cells = _rows_by_study(parsed.rows, name)
    _check_studies(cells, table, name)
    readings = np.full((len(table.names), len(readers)), UNREAD)
    for row, study in enumerate(table.names):
        values = cells.get(study.rstrip("/"))
        if values is not None:
            readings[row] = [_reading(values, reader, name) for reader in readers]
    for reader, count in zip(readers, (readings != UNREAD).sum(axis=0)):
        if not count:
            raise FileError(name, f"the reader {reader} has read none of the studies")
    return Readers(readers, readings)


def _is_competition_file(lines: Sequence[str]) -> bool:
    """Return whether the first line is a study with three readings, not a header."""
    first = lines[0] if lines else ""
    cells = [cell.strip() for cell in first.split(headed_csv.delimiter(first))]
    if len(cells) != len(_COMPETITION) or cells[0] == _STUDY:
        return False
    return all(cell in _READINGS for cell in cells[1:])


def _check_readers(readers: Sequence[str], name: str) -> None:
    if not readers:
        raise FileError(name, "names no reader: give each reader a column after study")
    for reader in readers:
        if is_column(reader):
            raise FileError(
                name,
                f"the column {reader} has another meaning in tables of predictions: "
                f"leave it out, or rename it if {reader} is a reader",
            )


def _rows_by_study(
    rows: Sequence[headed_csv.Row], name: str
) -> dict[str, headed_csv.Row]:
    """Return the row of each study, by its name without a slash at the end."""
    found: dict[str, headed_csv.Row] = {}
    for row in rows:
        study = row.values[_STUDY].rstrip("/")
        if not study:
            raise FileError(name, f"line {row.line} names no study")
        if study in found:
            raise FileError(
                name,
                f"lines {found[study].line} and {row.line} are of the same study: "
                f"give one line per study",
            )
        found[study] = row
    return found


def _check_studies(
    cells: Mapping[str, headed_csv.Row], table: PredictionTable, name: str
) -> None:
    """Check that the table has every study of the file."""
    known = {study.rstrip("/") for study in table.names}
    unknown = [study for study in cells if study not in known]
    if unknown:
        raise FileError(
            name,
            f"{count_phrase(len(unknown), 'study')} of {len(cells):,} "
            f"{'is' if len(unknown) == 1 else 'are'} not in {table.file}, such as "
            f"{unknown[0]} in line {cells[unknown[0]].line}",
        )


def _reading(row: headed_csv.Row, reader: str, name: str) -> int:
    value = row.values[reader]
    if value not in _READINGS:
        raise FileError(
            name,
            f"line {row.line}: {reader} is {value!r}, and must be 1 (abnormal), 0 "
            f"(normal) or empty (not read)",
        )
    return _READINGS[value]
