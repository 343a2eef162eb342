"""Estimates by study type and by subgroup: tables of the page, and rows of --figures.

Owns their columns; must not know how metrics are computed (`evaluation`) or the page.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple, Sequence

from xenon_mx.evaluation.estimates import Estimate
from xenon_mx.evaluation.evaluation_set import OVERALL, EvaluationSet
from xenon_mx.evaluation.prediction_tables import PLURAL
from xenon_mx.reporting.tables import Table, format_estimate


class MetricRow(NamedTuple):
    """An estimate, and which samples it is of: one row of `--figures`."""

    level: str
    study_type: str
    samples: int
    abnormal: int
    metric: str
    value: float
    low: float
    high: float
    subgroup: str = ""  # `sex=F`; empty for all
    patients: str = ""  # `unknown`; empty if the patients are known


def metric_rows(
    samples: EvaluationSet, by_type: Mapping[str, Sequence[Estimate]]
) -> list[MetricRow]:
    """Return the rows of the estimates of each study type."""
    rows = []
    for name, estimates in by_type.items():
        rows += _rows_of(samples.select(name), name, estimates)
    return rows


def subgroup_rows(
    samples: EvaluationSet, column: str, by_value: Mapping[str, Sequence[Estimate]]
) -> list[MetricRow]:
    """Return the rows of the estimates of each subgroup of a further column."""
    rows = []
    for value, estimates in by_value.items():
        chosen = samples.subgroup(column, value)
        rows += _rows_of(chosen, OVERALL, estimates, f"{column}={value}")
    return rows


def _rows_of(
    chosen: EvaluationSet,
    study_type: str,
    estimates: Sequence[Estimate],
    subgroup: str = "",
) -> list[MetricRow]:
    """Return a row for each estimate of the samples that were chosen."""
    labels = chosen.labels
    group = (chosen.level, study_type, len(labels), int(labels.sum()))
    patients = "" if chosen.patients_known else "unknown"
    return [MetricRow(*group, *each, subgroup, patients) for each in estimates]


def types_table(
    samples: EvaluationSet, by_type: Mapping[str, Sequence[Estimate]]
) -> Table:
    """Return the table of the estimates of each study type."""
    chosen = {name: samples.select(name) for name in by_type}
    return _estimates_table("study type", chosen, by_type)


def subgroup_table(
    samples: EvaluationSet, column: str, by_value: Mapping[str, Sequence[Estimate]]
) -> Table:
    """Return the table of the estimates of each subgroup of a further column."""
    chosen = {value: samples.subgroup(column, value) for value in by_value}
    return _estimates_table(column, chosen, by_value)


def _estimates_table(
    column: str,
    chosen: Mapping[str, EvaluationSet],
    estimates: Mapping[str, Sequence[Estimate]],
) -> Table:
    """Return the table of the estimates of each value of a column."""
    rows = []
    for name, values in estimates.items():
        labels = chosen[name].labels
        counts = (f"{len(labels):,}", f"{int(labels.sum()):,}")
        cells = (format_estimate(estimate, "\n") for estimate in values)
        rows.append((name or "none", *counts, *cells))
    first = next(iter(chosen))
    plural = PLURAL[chosen[first].level]
    names = [estimate.name for estimate in estimates[first]]
    caption = "Metrics with 95% intervals"
    if not chosen[first].patients_known:
        caption += " (patients unknown)"
    return Table(caption, (column, plural, "abnormal", *names), rows)
