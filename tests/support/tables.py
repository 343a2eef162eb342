"""Tables of predictions and of readings, as files."""

from __future__ import annotations

import csv

from xenon_mx.evaluation.prediction_tables import read_table


def study_name(number, label, study_type="XR_HAND", patient=None):
    """Return the path of a study as MURA has it; by default of its own patient."""
    patient = number if patient is None else patient
    outcome = ("negative", "positive")[label]
    return f"MURA-v1.1/valid/{study_type}/patient{patient:05d}/study{number}_{outcome}/"


def write_rows(file, *rows):
    """Write rows as a CSV, and return the file."""
    with open(file, "w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)
    return file


def write_table(file, names, prob, **columns):
    """Write a table of studies with its further columns, and return the file."""
    rows = zip(names, prob, *columns.values())
    return write_rows(file, ("study", "probability", *columns), *rows)


def table(file, names, prob, **columns):
    """Write a table of studies, and read it."""
    return read_table(write_table(file, names, prob, **columns))
