"""MURA's CSVs, which have no header: lists of images, and the labels of studies.

Owns reading their rows, and applying labels to images; must not know where images lie.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Sequence

import pandas as pd

from xenon_mx.data.mura import Image, study_tail
from xenon_mx.errors import XenonError
from xenon_mx.runtime import text

_log = logging.getLogger(__name__)


def read_rows(csv: Path, columns: int) -> list[tuple[str, ...]]:
    """Read a headerless CSV of text with an exact number of columns."""
    try:
        table = pd.read_csv(
            csv, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except pd.errors.EmptyDataError:
        raise XenonError(f"{csv}: the file is empty") from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        reason = str(error).strip()  # pandas ends some with a newline
        raise XenonError(f"{csv}: cannot be read as CSV: {reason}") from error
    if table.shape[1] != columns:
        raise XenonError(
            f"{csv}: expected {text.counted(columns, 'column')} without a header, got "
            f"{table.shape[1]}"
        )
    return list(table.itertuples(index=False, name=None))


def with_labels(
    images: Sequence[Image], labels: dict[str, int], csv: Path
) -> list[Image]:
    """Apply the CSV's labels; the folders' names must not contradict them."""
    studies = {study_tail(image.study): image.study for image in images}
    missing = sorted(study for tail, study in studies.items() if tail not in labels)
    if missing:
        counted = text.counted(len(missing), "study has", "studies have")
        raise XenonError(f"{csv}: {counted} no label in it", missing)
    unused = sorted(labels.keys() - studies.keys())
    if unused:
        _log.warning(
            "%s: %s no image, such as %s",
            csv,
            text.counted(len(unused), "labelled study has", "labelled studies have"),
            unused[0],
        )
    result = [replace(image, label=labels[study_tail(image.study)]) for image in images]
    contradictions = sorted(
        {
            f"{old.study} is {new.label} in the CSV"
            for old, new in zip(images, result)
            if old.label is not None and old.label != new.label
        }
    )
    if contradictions:
        counted = text.counted(
            len(contradictions), "label contradicts", "labels contradict"
        )
        raise XenonError(
            f"{csv}: {counted} the folder's _positive or _negative; correct the one "
            f"that is wrong",
            contradictions,
        )
    return result


def read_labels(csv: Path) -> dict[str, int]:
    """Read `study/,label` rows: label by the study's path from `XR_*` on."""
    labels: dict[str, int] = {}
    both = {}
    for number, (study, label) in enumerate(read_rows(csv, columns=2), 1):
        if label not in ("0", "1"):
            raise XenonError(f"{csv}:{number}: the label must be 0 or 1, not {label!r}")
        if labels.setdefault(study_tail(study), int(label)) != int(label):
            both[study_tail(study)] = f"{csv}:{number}: {study}"
    if both:
        counted = text.counted(len(both), "study has", "studies have")
        raise XenonError(f"{csv}: {counted} both labels", list(both.values()))
    return labels
