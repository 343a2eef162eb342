"""CSVs with a header that a user writes: their rows by column, with line numbers.

Owns reading such a file, checking its columns, and which known column a misspelt one is
like; must not know what columns mean.

Errors name the table as the caller does and the line, which the user can look up, and
quote neither: both may hold identifiers of patients. A column that is like a known one
is quoted.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Iterable, Mapping, NamedTuple, Sequence

from xenon_mx.errors import FileError, os_error
from xenon_mx.runtime import text

_DELIMITERS = (",", ";", "\t")  # `;` is Excel's wherever numbers have a decimal comma
# Chosen here: `study_id` is like `study`, `patient_sex` is not like `patient`.
_SIMILARITY = 0.83
_MOST_SHOWN, _LONGEST_SHOWN = 8, 40  # columns, and characters of each; chosen here


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        line: The number of its last line in the file, from 1.
        values: The text of each column, without spaces around it.
    """

    line: int
    values: Mapping[str, str]


class Table(NamedTuple):
    """A table.

    Attributes:
        columns: The names of its columns, in order.
        rows: Its rows, without empty ones.
    """

    columns: Sequence[str]
    rows: Sequence[Row]


def read(file: Path, name: str, required: Iterable[str]) -> Table:
    """Read a CSV whose first line names its columns, in UTF-8.

    Commas, semicolons and tabs may separate columns, as the first line tells.

    Args:
        file: The file.
        name: What errors call it, such as `--labels`.
        required: The columns that must be there.

    Raises:
        FileError: The file cannot be read, is no such CSV, or lacks a column.
    """
    return parse(read_lines(file, name), name, required)


def read_lines(file: Path, name: str) -> list[str]:
    """Read the lines of a text in UTF-8; the arguments and errors are those of `read`.

    A parameter `name` is what errors call the file.
    """
    try:
        with file.open(encoding="utf-8-sig", errors="strict", newline="") as stream:
            return stream.readlines()
    except OSError as error:
        raise os_error(name, error) from None
    except UnicodeDecodeError:
        raise FileError(name, "is not in UTF-8: save it as CSV in UTF-8") from None


def parse(
    lines: Sequence[str],
    name: str,
    required: Iterable[str],
    columns: Sequence[str] | None = None,
) -> Table:
    """Parse the lines of a CSV.

    Args:
        lines: The lines, with their ends.
        name: What errors call the file.
        required: The columns that must be there.
        columns: The names of the columns, if the first line does not name them.

    Raises:
        FileError: They are no such CSV, or lack a column.
    """
    try:
        return _parse(lines, name, required, columns)
    except csv.Error as error:
        raise FileError(name, f"cannot be read as CSV: {error}") from None


def delimiter(first: str) -> str:
    """Return what separates the columns of a table, by its first line."""
    return max(_DELIMITERS, key=first.count)


def misspelt(columns: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """Return which columns are like a known one that is missing, and which that is."""
    known = list(known)
    missing = [name for name in known if name not in columns]
    near = {
        column: text.similar(column, missing, _SIMILARITY)
        for column in columns
        if column not in known
    }
    return {column: names[0] for column, names in near.items() if names}


def question(meant: Mapping[str, str]) -> str:
    """Return the question whether columns were misspelt; empty if there are none.

    Args:
        meant: What `misspelt` returned.
    """
    asked = [f"{name!r} by {column!r}" for column, name in meant.items()]
    return f"did you mean the column {', and '.join(asked)}?" if asked else ""


def in_words(columns: Sequence[str]) -> str:
    """Return the names of columns, cut where they are many or long."""
    shown = [text.shortened(name, _LONGEST_SHOWN) for name in columns[:_MOST_SHOWN]]
    more = len(columns) - len(shown)
    return ", ".join(map(repr, shown)) + (f" and {more:,} more" if more else "")


def _parse(
    lines: Sequence[str],
    name: str,
    required: Iterable[str],
    columns: Sequence[str] | None,
) -> Table:
    first = lines[0] if lines else ""
    reader = csv.reader(lines, delimiter=delimiter(first), strict=True)
    if columns is None:
        columns = [column.strip() for column in next(reader, [])]
    _check_columns(columns, name, required)
    rows = []
    for fields in reader:
        if not any(field.strip() for field in fields):
            continue
        if len(fields) != len(columns):
            raise FileError(
                name,
                f"line {reader.line_num} has {text.counted(len(fields), 'column')}, "
                f"and the first line {len(columns)}",
            )
        values = (field.strip() for field in fields)
        rows.append(Row(reader.line_num, dict(zip(columns, values))))
    return Table(columns, rows)


def _check_columns(columns: Sequence[str], name: str, required: Iterable[str]) -> None:
    missing = [column for column in required if column not in columns]
    if missing:
        listed = " and no ".join(missing)
        asked = question(misspelt(columns, missing))
        raise FileError(
            name,
            f"its first line must name its columns, and has no {listed}"
            + (f": {asked}" if asked else ""),
        )
    if "" in columns or len(set(columns)) < len(columns):
        raise FileError(name, "two columns have the same name, or one has none")
