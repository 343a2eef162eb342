"""A manifest: a CSV with a header that tells what each image is.

    image,study,patient,study_type,label,split,scanner
    films/0001.png,S17,P4,XR_HAND,1,train,A

Owns its columns, the rules for those that are missing, and reading it. The same
form stands in a packed folder, where it tells what each record is. Must not know pixels
or records.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Mapping, Sequence

from xenon_mx.data import body_parts, contradictions, headed_csv, labels, listed_files
from xenon_mx.data.mura import Image, is_study_type
from xenon_mx.errors import XenonError, os_error
from xenon_mx.runtime import spreadsheet, text

IMAGE = "image"
SPLITS = ("train", "valid", "holdout", "calibration")

_COLUMNS = (IMAGE, "study", "patient", "study_type", "label", "split")
_PACKED = _COLUMNS[:-1]  # in a packed folder, whose files are the splits
_MOST_HEADER = 1 << 16  # bytes; chosen here


@dataclass(frozen=True)
class Manifest:
    """The images of a manifest.

    Attributes:
        images: In the order of the rows.
        splits: The split of each image; None without such a column.
        columns: The names of its columns.
        rule: How the images were found, see `roots`.
        folder: The folder that their paths are relative to.
    """

    images: list[Image]
    splits: list[str] | None
    columns: Sequence[str]
    rule: str
    folder: Path

    @property
    def patients_known(self) -> bool:
        """Whether it tells patients; else each study counts as a patient of its own."""
        return "patient" in self.columns


def is_manifest(file: Path) -> bool:
    """Return whether a file is a CSV with a header that names a column `image`."""
    if file.suffix.lower() != ".csv" or not file.is_file():
        return False
    return IMAGE in _first_columns(file)


def check_manifest(file: Path) -> None:
    """Check that a file is a manifest.

    Raises:
        XenonError: It is not; the error shows the columns that its first line names.
    """
    if is_manifest(file):
        return
    if file.suffix.lower() != ".csv":
        raise XenonError(f"{file}: is no manifest, which is a file named .csv")
    check_not_misspelt(file)
    named = headed_csv.in_words(_first_columns(file)) or "nothing"
    raise XenonError(
        f"{file}: is no manifest, whose first line names columns, one of them "
        f"{IMAGE!r}, and not {named}; for MURA's CSVs give their folder"
    )


def check_not_misspelt(file: Path) -> None:
    """Check that a CSV is no manifest with a misspelt column `image`.

    Raises:
        XenonError: It is.
    """
    columns = _first_columns(file)
    meant = headed_csv.misspelt(columns, [IMAGE])
    if meant:
        raise XenonError(
            f"{file}: its first line has the columns {headed_csv.in_words(columns)}: "
            f"{headed_csv.question(meant)}"
        )


def read_manifest(file: Path, root: Path | None = None) -> Manifest:
    """Read a manifest, and find its images.

    Args:
        file: The CSV.
        root: The folder that the paths are relative to. None tries the CSV's folder,
            its parent and the working directory, see `roots`.

    Raises:
        XenonError: The file cannot be read, a cell is invalid, rows contradict each
            other, or none of the images exists.
    """
    rows = _read_rows(file)
    columns = list(rows[0])
    paths = [row[IMAGE] for row in rows]
    files, found = listed_files.locate(file, paths, root)
    listed = [_image(row, path) for row, path in zip(rows, files)]
    splits = [row["split"] for row in rows] if "split" in columns else None
    contradictions.check(file, listed, splits)
    return Manifest(
        images=listed,
        splits=splits,
        columns=columns,
        rule=found.rule,
        folder=found.base,
    )


def to_csv(images: Sequence[Image]) -> bytes:
    """Return the manifest of a packed split: a row per record, in their order."""
    further = dict.fromkeys(name for image in images for name in image.extra)
    table: list[list[object]] = [[*_PACKED, *further]]
    for image in images:
        label = "" if image.label is None else image.label
        known = [image.path, image.study, image.patient, image.study_type, label]
        table.append([*known, *(image.extra.get(name, "") for name in further)])
    return spreadsheet.to_csv(table).encode()


def from_packed(data: bytes, file: Path) -> list[Image]:
    """Return the images of a packed split.

    Args:
        data: What `to_csv` returned.
        file: The file that each image is read from.

    Raises:
        ValueError: The data are something else.
    """
    rows = list(csv.DictReader(io.StringIO(data.decode()), strict=True))
    if any(set(_PACKED) - row.keys() or None in row.values() for row in rows):
        raise ValueError("columns are missing")
    return [_image(_unguarded(row), file) for row in rows]


# --- rows ---


def _first_columns(file: Path) -> list[str]:
    """Return the columns that the first line of a CSV names."""
    try:
        with open(file, "rb") as stream:
            start = stream.read(_MOST_HEADER)
    except OSError as error:
        raise os_error(file, error) from error
    line = start.decode("utf-8-sig", "replace").split("\n", 1)[0]
    return _header(line, headed_csv.delimiter(line))


def _header(line: str, separator: str) -> list[str]:
    """Return the names of the columns, those that are known in lower case."""
    cells = next(csv.reader([line.strip("\r\n")], delimiter=separator), [])
    names = [cell.strip() for cell in cells]
    return [name.lower() if name.lower() in _COLUMNS else name for name in names]


def _read_rows(file: Path) -> list[dict[str, str]]:
    """Read the rows, with stripped cells; check each cell by itself."""
    try:
        content = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise os_error(file, error) from error
    except UnicodeDecodeError as error:
        raise XenonError(f"{file}: is not a CSV in UTF-8") from error
    first = content.split("\n", 1)[0]
    separator = headed_csv.delimiter(first)
    names = _header(first, separator)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or "" in names:
        what = (
            f"{twice[0]!r} twice" if twice and twice[0] else "a column without a name"
        )
        raise XenonError(f"{file}: its header has {what}")
    meant = headed_csv.misspelt(names, _COLUMNS)
    if meant:
        it = "it" if len(meant) == 1 else "them"
        raise XenonError(
            f"{file}: {headed_csv.question(meant)} Then rename {it}; else give {it} "
            f"a name that is less alike"
        )
    try:
        parsed = list(
            csv.reader(io.StringIO(content), delimiter=separator, strict=True)
        )
    except csv.Error as error:
        raise XenonError(f"{file}: cannot be read as CSV: {error}") from error
    numbered = [(n, cells) for n, cells in enumerate(parsed[1:], 2) if any(cells)]
    uneven = [f"row {n}" for n, cells in numbered if len(cells) != len(names)]
    if uneven:
        raise XenonError(
            f"{file}: {text.counted(len(uneven), 'row has', 'rows have')} more or "
            f"fewer cells than the header",
            uneven,
        )
    if not numbered:
        raise XenonError(f"{file}: lists no images, only the names of columns")
    rows = [
        _unguarded(dict(zip(names, (cell.strip() for cell in cells))))
        for _, cells in numbered
    ]
    _check_cells(file, rows, [n for n, _ in numbered])
    return rows


def _unguarded(row: Mapping[str, str]) -> dict[str, str]:
    """Return a row as it was before xenon wrote it for spreadsheets."""
    unguard = spreadsheet.unguard
    return {unguard(name): unguard(cell) for name, cell in row.items()}


def _check_cells(
    file: Path, rows: Sequence[Mapping[str, str]], numbers: Sequence[int]
) -> None:
    """Check each cell by itself; one error lists all that are invalid."""
    bad = [
        (f"row {number}", reason)
        for number, row in zip(numbers, rows)
        for reason in _reasons(row)
    ]
    if bad:
        counted = text.counted(len(bad), "invalid cell")
        raise XenonError(f"{file}: {counted}", text.summarised(bad, "row"))


def _reasons(row: Mapping[str, str]) -> Iterable[str]:
    """Yield what is wrong with a row's cells."""
    for name in (IMAGE, "study", "patient", "split"):
        if row.get(name) == "":
            yield f"no {name}: fill the cell" + (
                "" if name == IMAGE else ", or remove the column"
            )
    if row.get("label") and labels.value(row["label"]) is None:
        yield f"the label must be 0, 1, normal or abnormal, not {row['label']!r}"
    if row.get("split") and row["split"] not in SPLITS:
        yield f"the split must be {', '.join(SPLITS)}, not {row['split']!r}"
    study_type = row.get("study_type")
    if study_type and not is_study_type(study_type):
        yield f"the study type must be named like XR_WRIST, not {study_type!r}"


def _image(row: Mapping[str, str], file: Path) -> Image:
    """Return the image of a row; what is missing follows the rules of the docs."""
    study = row.get("study") or row[IMAGE]
    return Image(
        path=row[IMAGE],
        file=file,
        study=study,
        study_type=row.get("study_type") or body_parts.UNKNOWN,
        patient=row.get("patient", ""),
        label=labels.value(row.get("label", "")),
        extra={name: cell for name, cell in row.items() if name not in _COLUMNS},
    )
