"""Contradictions between the rows of a manifest, or of the labels of an archive.

Owns what must be the same in all rows of a study or a patient; must not know columns or
files.
"""

from __future__ import annotations

from typing import Sequence

from xenon_mx.data.mura import Image
from xenon_mx.errors import XenonError
from xenon_mx.runtime import text


def check(table: object, images: Sequence[Image], splits: Sequence[str] | None) -> None:
    """Check that a study and a patient are the same in all rows; list all that are not.

    Args:
        table: What errors call the table of the rows.
        images: The image of each row.
        splits: The split of each row; None if it tells none.

    Raises:
        XenonError: A study has two patients, types, labels or splits, or a patient has
            two splits. (That an image is listed once is checked with its path.)
    """
    studies = [image.study for image in images]
    patients = [image.patient_or_study for image in images]
    found = [
        *_contradictions("study", studies, "patients", patients),
        *_contradictions("study", studies, "types", [i.study_type for i in images]),
        *_contradictions("study", studies, "labels", [i.label for i in images]),
    ]
    if splits is not None:
        found += _contradictions("study", studies, "splits", splits)
        found += _contradictions("patient", patients, "splits", splits)
    if found:
        raise XenonError(
            f"{table}: {text.counted(len(found), 'contradiction')} between its rows",
            found,
        )


def _contradictions(
    kind: str, names: Sequence[str], what: str, values: Sequence[object]
) -> list[str]:
    """Return in words which names have more than one value."""
    seen: dict[str, dict[object, None]] = {}
    for name, value in zip(names, values):
        seen.setdefault(name, {})[value] = None
    return [
        f"{kind} {name}: {what} {', '.join(str(value) for value in of_name)}"
        for name, of_name in seen.items()
        if len(of_name) > 1
    ]
