"""Labels of an archive's images, from a table of labels.

Owns which images a row of the table is of, and what is refused; must not know files,
headers' elements or pixels. Errors name a row by its line in the table, and a study by
its name in all outputs: neither identifies a patient.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Callable, Iterable, Mapping, Sequence

from xenon_mx.data.archive import Archive, Entry
from xenon_mx.data.archive_files import path_below
from xenon_mx.data.labels import (
    ACCESSION,
    BODY_PART,
    IMAGE,
    STUDY,
    STUDY_TYPE,
    Label,
    Labels,
)
from xenon_mx.data.mura import Image
from xenon_mx.data.pseudonyms import Naming
from xenon_mx.errors import XenonError
from xenon_mx.runtime import text

_log = logging.getLogger(__name__)

_LONG = 5  # characters that two texts do not share by chance; chosen here


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


def _targets(archive: Archive, column: str) -> dict[str, dict[str, list[Entry]]]:
    """Return the images that each key names, by study, or by image for `image`."""
    keys: dict[str, Callable[[Entry], Iterable[str]]] = {
        STUDY: lambda entry: (entry.identity.study_uid,),
        ACCESSION: lambda entry: (entry.identity.accession,),
        IMAGE: lambda entry: (
            entry.identity.image_uid,
            *(
                path_below(archive.folder, file)
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
            f"the part in a column {STUDY_TYPE} or {BODY_PART}, or the study in a "
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
    repeated = [column for column in columns if _is_repeated(column, labelled)]
    if repeated:
        raise XenonError(
            f"{name}: further columns are written beside predictions, and "
            f"{text.counted(len(repeated), 'of them repeats', 'of them repeat')} "
            f"identifiers of the headers: remove {', '.join(map(repr, repeated))}, or "
            f"write identifiers with --keep-identifiers"
        )


def _is_repeated(column: str, labelled: Sequence[tuple[Entry, Label]]) -> bool:
    """Return whether a column repeats identifiers of the headers.

    A short value may be equal by chance: grade 2 of patient 2. So it must be equal in
    every row that has one.
    """
    filled = [(entry, label) for entry, label in labelled if label.extra[column]]
    equal = [
        label.extra[column]
        for entry, label in filled
        if label.extra[column] in _identifiers(entry)
    ]
    is_certain = any(len(value) >= _LONG for value in equal)
    return is_certain or 0 < len(equal) == len(filled)


def _identifiers(entry: Entry) -> tuple[str, ...]:
    header = entry.identity
    uids = (header.study_uid, header.series_uid, header.image_uid)
    return (header.patient_id, header.accession, *uids)
