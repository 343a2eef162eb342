"""A table of labels for an archive's studies or images.

Owns the table's columns and the forms of a label, in manifests too; must not know
archives: `labelling` joins them.

The table names studies by identifiers, as a report system exports them, so that no row
is quoted: errors name a row by its line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, NamedTuple, Sequence

from xenon_mx.data import body_parts, headed_csv
from xenon_mx.data.body_parts import UNKNOWN, BodyParts
from xenon_mx.errors import FileError

STUDY, ACCESSION, IMAGE = "study", "accession", "image"
_LABEL = "label"
STUDY_TYPE, BODY_PART = "study_type", "body_part"
_NOT_EXTRA = (_LABEL, STUDY, ACCESSION, IMAGE, STUDY_TYPE, BODY_PART)
# The glossary's words are as good as its numbers.
_VALUES = {"0": 0, "1": 1, "normal": 0, "abnormal": 1}


@dataclass(frozen=True, repr=False)
class Label:
    """A row of the table.

    Attributes:
        line: The number of its line in the table, from 1.
        key: What names the study or image.
        study_type: The study's type, if the row tells it, else empty.
        value: 1 abnormal, 0 normal.
        extra: Further columns.
    """

    line: int
    key: str
    study_type: str
    value: int
    extra: Mapping[str, str]


class Labels(NamedTuple):
    """A table of labels.

    Attributes:
        name: What errors call it.
        column: What its rows name: `study`, `accession` or `image`.
        rows: Its rows.
    """

    name: str
    column: str
    rows: Sequence[Label]


def read(file: Path, parts: BodyParts | None = None, name: str = "--labels") -> Labels:
    """Read a table of labels, a CSV with a header.

    Args:
        file: The table. Its columns are `label` (0 or normal, 1 or abnormal) and one of
            `study` (StudyInstanceUID), `accession` (AccessionNumber) and `image`
            (SOPInstanceUID, or the path below the archive's folder). `study_type`
            (`XR_*`) or `body_part` may tell the parts under one UID apart. Any further
            column is kept.
        parts: The study types of `body_part`; None is xenon's own table.
        name: What errors call the table.

    Raises:
        FileError: It cannot be read, lacks a column, or has a wrong label.
    """
    table = headed_csv.read(file, name, (_LABEL,))
    column = _only(table.columns, (STUDY, ACCESSION, IMAGE), name)
    if column is None:
        names = (STUDY, ACCESSION, IMAGE)
        asked = headed_csv.question(headed_csv.misspelt(table.columns, names))
        raise FileError(
            name,
            f"its first line must have one of the columns {STUDY}, {ACCESSION} and "
            f"{IMAGE}, which say what a label is of" + (f": {asked}" if asked else ""),
        )
    part = _only(table.columns, (STUDY_TYPE, BODY_PART), name)
    rows = [_label(row, column, part, parts or BodyParts(), name) for row in table.rows]
    if not rows:
        raise FileError(name, "it has no labels")
    return Labels(name, column, rows)


def value(cell: str) -> int | None:
    """Return the label that a cell tells, 1 abnormal or 0 normal; None if none."""
    return _VALUES.get(cell.lower())


def _only(columns: Sequence[str], names: Sequence[str], table: str) -> str | None:
    """Return which one of some columns a table has."""
    found = [name for name in names if name in columns]
    if len(found) > 1:
        raise FileError(
            table, f"has the columns {' and '.join(found)}: keep one of them"
        )
    return found[0] if found else None


def _label(
    row: headed_csv.Row, column: str, part: str | None, parts: BodyParts, name: str
) -> Label:
    told = value(row.values[_LABEL])
    if told is None:
        raise FileError(
            name, f"the label in line {row.line} must be 0, 1, normal or abnormal"
        )
    if not row.values[column]:
        raise FileError(name, f"line {row.line} has no {column}")
    study_type = _study_type(row, part, parts, name) if part else ""
    extra = {key: row.values[key] for key in row.values if key not in _NOT_EXTRA}
    return Label(row.line, row.values[column], study_type, told, extra)


def _study_type(row: headed_csv.Row, column: str, parts: BodyParts, name: str) -> str:
    """Return the study type that a row tells, empty if it tells none."""
    told = row.values[column]
    study_type = parts.study_type([told]) if column == BODY_PART else told.upper()
    if not told:
        return ""
    is_unknown = column == BODY_PART and study_type == UNKNOWN
    if body_parts.is_study_type(study_type) and not is_unknown:
        return study_type
    raise FileError(
        name,
        f"the {column} in line {row.line} is unknown: expected a study type such as "
        f"XR_HAND in a column {STUDY_TYPE}, or a body part that xenon or "
        f"--body-parts knows in a column {BODY_PART}",
    )
