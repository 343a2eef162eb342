"""Estimates by study type and by subgroup: tables of the page, and rows of --figures.

Owns their columns; must not know how metrics are computed (`evaluation`) or the page.
A page shows three tables of a few metrics each instead of one of all, which no sheet of
paper and no small screen has room for.
"""

from __future__ import annotations

from typing import Iterator, Mapping, NamedTuple, Sequence

from xenon_mx.evaluation.estimates import Estimate
from xenon_mx.evaluation.evaluation_set import OVERALL, EvaluationSet
from xenon_mx.evaluation.prediction_tables import PLURAL
from xenon_mx.reporting.tables import Table, format_cell

# The metrics of the first and of the third table; the second has PPV and NPV.
_AT_THRESHOLD = ("kappa", "sensitivity", "specificity", "accuracy", "F1")
_OF_PROBABILITIES = (
    *("AUROC", "average precision"),
    *("Brier score", "calibration error"),
)


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
    of: str = ""  # whose metric it is; empty for PREDICTIONS
    against: str = ""  # whose metric is subtracted in a difference
    reference: str = ""  # `other readers`; empty for the labels
    p: str = ""  # of a difference
    p_holm: str = ""  # the same, corrected for the number of study types
    non_inferior: str = ""  # 1 or 0, with --margin


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


def types_tables(
    samples: EvaluationSet,
    by_type: Mapping[str, Sequence[Estimate]],
    threshold: float,
) -> list[Table]:
    """Return the tables of the estimates of each study type, and of all of them."""
    chosen = {name: samples.select(name) for name in by_type}
    return list(_tables("study type", chosen, by_type, threshold))


def subgroup_tables(
    samples: EvaluationSet,
    column: str,
    by_value: Mapping[str, Sequence[Estimate]],
    threshold: float,
) -> list[Table]:
    """Return the tables of the estimates of each subgroup of a further column."""
    chosen = {value: samples.subgroup(column, value) for value in by_value}
    return list(_tables(column, chosen, by_value, threshold))


def _tables(
    column: str,
    chosen: Mapping[str, EvaluationSet],
    estimates: Mapping[str, Sequence[Estimate]],
    threshold: float,
) -> Iterator[Table]:
    """Yield the tables of the estimates of each value of a column."""
    first = next(iter(chosen))
    names = [estimate.name for estimate in estimates[first]]
    values = [name for name in names if name.startswith(("PPV", "NPV"))]
    plural = PLURAL[chosen[first].level]
    labelled = (plural, f"abnormal {plural}")
    predicted = (plural, "called abnormal", "prevalence")
    for title, counts, metrics in (
        (f"Predictions at a threshold of {threshold:g}", labelled, _AT_THRESHOLD),
        ("Predictive values", predicted, values),
        ("Probabilities", labelled, _OF_PROBABILITIES),
    ):
        unknown = "" if chosen[first].patients_known else " (patients unknown)"
        yield Table(
            f"{title}, with 95% intervals{unknown}",
            (column, *counts, *metrics),
            [
                (
                    name or "none",
                    *(_count(chosen[name], count, threshold) for count in counts),
                    *_cells(estimates[name], metrics),
                )
                for name in estimates
            ],
        )


def _cells(estimates: Sequence[Estimate], metrics: Sequence[str]) -> Iterator[str]:
    """Yield the cells of some metrics, each interval below its value."""
    by_name = {estimate.name: estimate for estimate in estimates}
    return (format_cell(by_name[name]) for name in metrics)


def _count(samples: EvaluationSet, name: str, threshold: float) -> str:
    """Return what a column of this name counts."""
    total, abnormal = len(samples.labels), int(samples.labels.sum())
    if name == "prevalence":
        return f"{abnormal / total:.1%}"
    if name == "called abnormal":
        return f"{int((samples.prob > threshold).sum()):,}"
    return f"{abnormal if name.startswith('abnormal') else total:,}"
