"""The tables of all folds as one: each study once, by the run that left it out.

Owns how tables and their records are joined, and the column `fold`. Must not know run
folders, nets or pages.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Sequence

from xenon_mx.config import THRESHOLD
from xenon_mx.errors import XenonError, os_error
from xenon_mx.evaluation.evaluation_set import read_predictions
from xenon_mx.evaluation.prediction_tables import PATIENT, STUDY_COLUMNS, parse_study
from xenon_mx.evaluation.provenance import (
    Counts,
    EnsembleSource,
    InputSource,
    Provenance,
    TrainingData,
)
from xenon_mx.evaluation.seen import BY_FOLDS, Seen
from xenon_mx.evaluation.study_type_metrics import StudyTypeMetrics, compute_by
from xenon_mx.runtime import spreadsheet

FOLD = "fold"  # the last column: the number of the fold, from 1


def join(tables: Sequence[Path]) -> bytes:
    """Return the rows of the folds' tables of studies, in the order of the folds.

    The digits are those of the tables. A table that lacks a column that another has
    gets empty cells, but the patients that its paths tell.

    Args:
        tables: The table of fold 1, 2, ..., as xenon-predict wrote them.

    Raises:
        XenonError: A table cannot be read, or a study is in two of them.
    """
    by_fold = [_read(table) for table in tables]
    rows = [row for of_fold in by_fold for row in of_fold]
    twice = [name for name, n in Counter(r["study"] for r in rows).items() if n > 1]
    if twice:
        raise XenonError(f"{tables[0].parent}: studies are in two folds", twice)
    columns = dict.fromkeys([*STUDY_COLUMNS, *(name for row in rows for name in row)])
    # A column of patients stands before all others that are added.
    names = [name for name in columns if name not in (*STUDY_COLUMNS, PATIENT)]
    further = [PATIENT, *names] if PATIENT in columns else names
    joined: list[list[object]] = [[*STUDY_COLUMNS, *further, FOLD]]
    for number, of_fold in enumerate(by_fold, 1):
        for row in of_fold:
            told = {PATIENT: parse_study(row["study"]).patient, **row}
            cells = [told.get(name, "") for name in (*STUDY_COLUMNS, *further)]
            joined.append([*cells, number])
    return spreadsheet.to_csv(joined).encode()


def _read(table: Path) -> list[dict[str, str]]:
    try:
        text = table.read_bytes().decode()
    except OSError as error:
        raise os_error(table, error) from error
    unguard = spreadsheet.unguard
    return [
        {unguard(name): unguard(cell) for name, cell in row.items()}
        for row in csv.DictReader(io.StringIO(text), strict=True)
    ]


def describe(
    folds: Sequence[Provenance],
    runs: Sequence[Path],
    data: TrainingData,
    splits: Sequence[str],
    command: Mapping[str, Any],
) -> Provenance:
    """Return the provenance of the joined table.

    Args:
        folds: That of the table of each fold.
        runs: The run folder of each fold.
        data: The data that were cut into folds.
        splits: The splits of the packed folder that hold them.
        command: The command and its settings that matter.
    """
    sources = [
        replace(run, name=folder.resolve().name, path=str(folder))
        for each, folder in zip(folds, runs)
        for run in each.ensemble.runs
    ]
    members = [
        replace(member, run=number)
        for number, each in enumerate(folds)
        for member in each.ensemble.members
    ]
    counts = [each.counts for each in folds]
    studies = sum(each.studies for each in counts)
    return replace(
        folds[-1],
        command=command,
        ensemble=EnsembleSource(tuple(sources), tuple(members), is_out_of_fold=True),
        data=data,
        inputs=InputSource({"rec": len(folds)}, data.fingerprint, " and ".join(splits)),
        counts=Counts(
            images=sum(each.images for each in counts),
            studies=studies,
            labelled=sum(each.labelled for each in counts),
        ),
        seen=Seen(BY_FOLDS, studies),
    )


def metrics_by_fold(table: Path, folds: int) -> list[StudyTypeMetrics]:
    """Compute the metrics of each fold and of all studies, with their intervals.

    Args:
        table: What `join` returned, in a file.
        folds: Their number.

    Returns:
        One entry per fold, whose name has the place of a study type; then `overall`.
    """
    names = [str(number) for number in range(1, folds + 1)]
    return compute_by(read_predictions(table), FOLD, names, THRESHOLD)
