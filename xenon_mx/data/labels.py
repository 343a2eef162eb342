"""A table of labels for an archive's studies or images.

Owns the table's columns and how its rows are joined with an archive; must not know
headers' elements or pixels.

The table names studies by identifiers, as a report system exports them, so that no row
is quoted: errors name a row by its line, and a study by its name in all outputs.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Iterable, Mapping, NamedTuple, Sequence

from xenon_mx.data import body_parts, headed_csv
from xenon_mx.data.archive import Archive, Entry
from xenon_mx.data.body_parts import UNKNOWN, BodyParts
from xenon_mx.data.mura import Image
from xenon_mx.data.pseudonyms import Naming
from xenon_mx.errors import FileError, XenonError
from xenon_mx.runtime import text

_log = logging.getLogger(__name__)

STUDY, ACCESSION, IMAGE = "study", "accession", "image"
_LABEL = "label"
_STUDY_TYPE, _BODY_PART = "study_type", "body_part"
_NOT_EXTRA = (_LABEL, STUDY, ACCESSION, IMAGE, _STUDY_TYPE, _BODY_PART)
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
        raise FileError(
            name,
            f"its first line must have one of the columns {STUDY}, {ACCESSION} and "
            f"{IMAGE}, which say what a label is of",
        )
    part = _only(table.columns, (_STUDY_TYPE, _BODY_PART), name)
    rows = [_label(row, column, part, parts or BodyParts(), name) for row in table.rows]
    if not rows:
        raise FileError(name, "it has no labels")
    return Labels(name, column, rows)


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
    value = _VALUES.get(row.values[_LABEL].lower())
    if value is None:
        raise FileError(
            name, f"the label in line {row.line} must be 0, 1, normal or abnormal"
        )
    if not row.values[column]:
        raise FileError(name, f"line {row.line} has no {column}")
    study_type = _study_type(row, part, parts, name) if part else ""
    extra = {key: row.values[key] for key in row.values if key not in _NOT_EXTRA}
    return Label(row.line, row.values[column], study_type, value, extra)


def _study_type(row: headed_csv.Row, column: str, parts: BodyParts, name: str) -> str:
    """Return the study type that a row tells, empty if it tells none."""
    told = row.values[column]
    study_type = parts.study_type([told]) if column == _BODY_PART else told.upper()
    if not told:
        return ""
    is_unknown = column == _BODY_PART and study_type == UNKNOWN
    if body_parts.is_study_type(study_type) and not is_unknown:
        return study_type
    raise FileError(
        name,
        f"the {column} in line {row.line} is unknown: expected a study type such as "
        f"XR_HAND in a column {_STUDY_TYPE}, or a body part that xenon or "
        f"--body-parts knows in a column {_BODY_PART}",
    )


def join(
    archive: Archive, labels: Labels, naming: Naming, skip_unlabelled: bool = False
) -> list[Image]:
    """Return the images of an archive with their labels and the table's columns.

    Args:
        archive: The archive.
        labels: Its labels. A label of a study is that of all its images.
        naming: How the archive names studies.
        skip_unlabelled: Whether to leave out images without a label, and labels without
            an image, and only count them.

    Returns:
        The images that have a label, in the archive's order.

    Raises:
        XenonError: A label names several studies; labels contradict each other; a
            column repeats identifiers; or, without `skip_unlabelled`, images have no
            label or labels no images. The error lists all of them.
    """
    targets = _targets(archive, labels.column)
    matches = [(label, _matching(label, targets)) for label in labels.rows]
    _check_unambiguous(matches, labels.name)
    by_image = {
        id(entry): label
        for label, groups in matches
        for group in groups.values()
        for entry in group
    }
    _check_consistent(matches, labels.name)
    labelled = [
        (entry, by_image[id(entry)])
        for entry in archive.entries
        if id(entry) in by_image
    ]
    if not labelled:
        raise XenonError(
            f"{labels.name}: none of its labels is of an image in the folder; is the "
            f"column {labels.column} what it is in the headers?"
        )
    _check_studies_agree(labelled, labels.name)
    without = [entry for entry in archive.entries if id(entry) not in by_image]
    unused = [label for label, groups in matches if not groups]
    _check_complete(without, unused, labels, naming, skip_unlabelled)
    if not naming.keeps_identifiers:
        _check_no_identifiers(labelled, labels.name)
    return [
        replace(
            entry.image, label=label.value, extra={**entry.image.extra, **label.extra}
        )
        for entry, label in labelled
    ]


# What a key of the table names: the images of each study, or each image.
_Groups = Mapping[str, Sequence[Entry]]


def _targets(archive: Archive, column: str) -> dict[str, dict[str, list[Entry]]]:
    """Return the images that each key names, by study, or by image for `image`."""
    keys: dict[str, Callable[[Entry], Iterable[str]]] = {
        STUDY: lambda entry: (entry.identity.study_uid,),
        ACCESSION: lambda entry: (entry.identity.accession,),
        IMAGE: lambda entry: (
            entry.identity.image_uid,
            *(
                file.relative_to(archive.folder).as_posix()
                for file in (entry.image.file, *entry.copies)
            ),
        ),
    }
    studies: dict[str, list[Entry]] = {}
    for entry in archive.entries:
        studies.setdefault(entry.image.study, []).append(entry)
    targets: dict[str, dict[str, list[Entry]]] = {}
    for entry in archive.entries:
        name = entry.image.path if column == IMAGE else entry.image.study
        group = [entry] if column == IMAGE else studies[name]
        for key in filter(None, keys[column](entry)):
            targets.setdefault(key, {})[name] = group
    return targets


def _matching(
    label: Label, targets: Mapping[str, Mapping[str, list[Entry]]]
) -> dict[str, list[Entry]]:
    """Return what a label is of: its key's, of its study type if it tells one."""
    groups = targets.get(label.key, {})
    return {
        name: group
        for name, group in groups.items()
        if label.study_type in ("", group[0].image.study_type)
    }


def _check_unambiguous(
    matches: Iterable[tuple[Label, Mapping[str, list[Entry]]]], name: str
) -> None:
    several = [
        f"line {label.line}: {', '.join(sorted(groups))}"
        for label, groups in matches
        if len(groups) > 1
    ]
    if several:
        raise XenonError(
            f"{name}: {text.counted(len(several), 'label')} of several studies: name "
            f"the part in a column {_STUDY_TYPE} or {_BODY_PART}, or the study in a "
            f"column {STUDY}",
            several,
        )


def _check_consistent(
    matches: Iterable[tuple[Label, Mapping[str, list[Entry]]]], name: str
) -> None:
    """Check that rows of the same study or image say the same."""
    first: dict[str, Label] = {}
    contradictions = []
    for label, groups in matches:
        for target in groups:
            other = first.setdefault(target, label)
            if (other.value, other.extra) != (label.value, label.extra):
                contradictions.append(f"lines {other.line} and {label.line}: {target}")
    if contradictions:
        raise XenonError(
            f"{name}: {text.counted(len(contradictions), 'row')} that contradict an "
            f"earlier one about the same study or image: keep the right one",
            contradictions,
        )


def _check_studies_agree(labelled: Iterable[tuple[Entry, Label]], name: str) -> None:
    """Check that a study has one label, where each image has its own."""
    first: dict[str, Label] = {}
    contradictions: dict[str, str] = {}
    for entry, label in labelled:
        other = first.setdefault(entry.image.study, label)
        if other.value != label.value:
            lines = "lines {} and {}".format(*sorted((other.line, label.line)))
            contradictions.setdefault(entry.image.study, lines)
    if contradictions:
        studies = text.counted(len(contradictions), "study", "studies")
        raise XenonError(
            f"{name}: {studies} with both labels; a study has one label, that of all "
            f"its images",
            [f"{lines}: {study}" for study, lines in contradictions.items()],
        )


def _check_complete(
    without: Sequence[Entry],
    unused: Sequence[Label],
    labels: Labels,
    naming: Naming,
    skip: bool,
) -> None:
    """Check that all images have labels and all labels images, or count the others."""
    if not without and not unused:
        return
    is_of_images = labels.column == IMAGE
    names = [e.image.path if is_of_images else e.image.study for e in without]
    unlabelled = list(dict.fromkeys(names))
    noun = ("image", "images") if is_of_images else ("study", "studies")
    summary = (
        f"{labels.name}: {text.counted(len(unlabelled), *noun)} without a label, and "
        f"{text.counted(len(unused), 'label')} without {noun[0]} in the folder"
    )
    if skip:
        _log.warning("%s: left out", summary)
        return
    keeps = naming.keeps_identifiers
    raise XenonError(
        f"{summary}; complete the table, or leave them out with --skip-unlabelled",
        [
            *(f"without a label: {name}" for name in unlabelled),
            *(
                f"without {noun[0]}: line {label.line}"
                + (f", {text.one_line(label.key)}" if keeps else "")
                for label in unused
            ),
        ],
    )


def _check_no_identifiers(labelled: Sequence[tuple[Entry, Label]], name: str) -> None:
    """Check that no further column repeats identifiers, which would be written."""
    columns = labelled[0][1].extra
    repeated = [
        column
        for column in columns
        if any(label.extra[column] for _, label in labelled)
        and all(label.extra[column] in _identifiers(entry) for entry, label in labelled)
    ]
    if repeated:
        raise XenonError(
            f"{name}: further columns are written beside predictions, and "
            f"{text.counted(len(repeated), 'of them repeats', 'of them repeat')} "
            f"identifiers of the headers: remove {', '.join(map(repr, repeated))}, or "
            f"write identifiers with --keep-identifiers"
        )


def _identifiers(entry: Entry) -> frozenset[str]:
    header = entry.identity
    return frozenset(
        (
            *(header.patient_id, header.accession),
            *(header.study_uid, header.series_uid, header.image_uid),
            "",  # in a row without an identifier
        )
    )
