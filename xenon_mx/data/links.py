"""The link file: which file and which identifiers a pseudonym stands for.

Owns its columns, writing and reading; must not know headers, labels or pixels.

It holds what the pseudonyms hide, so that only its owner can read it, and it is written
only where the user says.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Iterable, NamedTuple

from xenon_mx.errors import FileError, os_error
from xenon_mx.runtime import files, spreadsheet

# A path of Linux may hold any bytes; Python keeps those that are not UTF-8 as
# surrogates, and writes the same bytes again.
_ENCODING, _STRAY_BYTES = "utf-8", "surrogateescape"


class Link(NamedTuple):
    """A row of a link file. All but `image` and `file` is empty for a damaged file.

    Attributes:
        image: The image as lists, tables and maps name it, such as
            `XR_HAND/<patient>/<study>/<image>`.
        study: The study, as tables name it.
        patient: The patient's name.
        study_type: `XR_*`.
        body_part: As the header names it.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID.
        image_uid: SOPInstanceUID.
        accession: AccessionNumber.
        file: The absolute path.
    """

    image: str
    study: str
    patient: str
    study_type: str
    body_part: str
    study_uid: str
    series_uid: str
    image_uid: str
    accession: str
    file: str


def write(file: Path, links: Iterable[Link]) -> None:
    """Write a link file with mode 0600, whole or not at all, in the order of images.

    Raises:
        OSError: From the system.
    """
    files.write(file, content(links), files.SECRET)


def content(links: Iterable[Link]) -> bytes:
    """Return a link file's bytes."""
    table = spreadsheet.to_csv([Link._fields, *sorted(links)])
    return table.encode(_ENCODING, _STRAY_BYTES)


def is_link_file(file: Path) -> bool:
    """Return whether a file begins as link files do."""
    with file.open("rb") as stream:
        return stream.readline().decode("utf-8", "replace").strip() == ",".join(
            Link._fields
        )


def read(file: Path) -> dict[str, Path]:
    """Read the file of each image from a link file.

    Of an image that an archive exported twice, the first file is taken.

    Raises:
        FileError: It cannot be read, or is no link file.
    """
    try:
        with file.open(encoding=_ENCODING, errors=_STRAY_BYTES, newline="") as stream:
            rows = list(csv.reader(stream, strict=True))
    except OSError as error:
        raise os_error(file, error) from error
    except csv.Error as error:
        raise FileError(file, f"damaged: {error}") from error
    if not rows or tuple(rows[0]) != Link._fields:
        raise FileError(file, "no link file: name one that --link has written")
    found: dict[str, Path] = {}
    for row in rows[1:]:
        if len(row) != len(Link._fields):
            raise FileError(file, "damaged: a row is cut short")
        link = Link(*map(spreadsheet.unguard, row))
        found.setdefault(link.image, Path(link.file))
    return found
