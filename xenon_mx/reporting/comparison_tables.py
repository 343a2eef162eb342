"""Differences between two predictions as tables, sentences, and rows of --figures.

Owns their columns and words; must not know how differences are computed (`evaluation`),
whose they are, or the page.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

from xenon_mx.evaluation.comparison import (
    LOWER_IS_BETTER,
    Difference,
    is_non_inferior,
)
from xenon_mx.evaluation.estimates import REPEATS, Estimate
from xenon_mx.evaluation.evaluation_set import EvaluationSet
from xenon_mx.reporting.estimate_tables import MetricRow
from xenon_mx.reporting.tables import format_cell, format_p, six_digits

SMALLEST_P = 2 / (REPEATS + 1)  # of `comparison.two_sided_p`


class Names(NamedTuple):
    """What the two predictions are called, and the header of their difference."""

    first: str
    second: str
    difference: str

    @property
    def formula(self) -> str:
        """Return what the difference is."""
        return f"{self.first} - {self.second}"


def header(
    names: Names, margin: float | None, with_holm: bool = False
) -> tuple[str, ...]:
    """Return the columns of `cells`."""
    columns = [names.first, names.second, names.difference, "p"]
    if with_holm:
        columns.append("p (Holm)")
    if margin is not None:
        columns.append(f"non-inferior ({margin:g})")
    return tuple(columns)


def cells(
    difference: Difference, margin: float | None, with_holm: bool = False
) -> tuple[str, ...]:
    """Return both values, their difference with its interval, and what p shows."""
    found = [
        format_cell(difference.first),
        format_cell(difference.second),
        format_cell(as_estimate(difference)),
        format_p(difference.p),
    ]
    if with_holm:
        is_corrected = not math.isnan(difference.holm) or math.isnan(difference.p)
        found.append(format_p(difference.holm) if is_corrected else "")
    if margin is not None:
        answer = is_non_inferior(difference, margin)
        found.append({True: "yes", False: "not shown", None: "undefined"}[answer])
    return tuple(found)


def as_estimate(difference: Difference) -> Estimate:
    """Return a difference with its interval."""
    return Estimate(difference.name, difference.value, difference.low, difference.high)


def method(names: Names) -> str:
    """Return how the differences and their p-values are computed, in sentences."""
    return (
        f"The differences, {names.formula}, are computed on {REPEATS:,} draws of "
        f"the patients, the same for both, with 95% intervals and a two-sided p; with "
        f"so many draws, no p is below {SMALLEST_P:.3f}. p is of one metric alone: of "
        f"several metrics, one may be below 0.05 by chance."
    )


def non_inferiority(names: Names, margin: float, metrics: Sequence[str]) -> str:
    """Return what the column of non-inferiority says, in sentences."""
    lower = [name for name in metrics if name in LOWER_IS_BETTER]
    reverse = "".join(f" ({name}: below {margin:g})" for name in lower)
    return (
        f"Non-inferior: if {names.first} is worse than {names.second} at all, then by "
        f"less than the margin of {margin:g}. The whole 95% interval of the "
        f"difference is above {-margin:g}{reverse}: a one-sided test at 2.5%. “Not "
        f"shown” does not mean worse, since there may be too few patients. A margin "
        f"counts only if it was chosen before the results were seen."
    )


def base_row(samples: EvaluationSet, study_type: str) -> MetricRow:
    """Return a row of --figures of some samples, without a metric."""
    labels = samples.labels
    return MetricRow(
        samples.level,
        study_type,
        len(labels),
        int(labels.sum()),
        *("", math.nan, math.nan, math.nan),
        patients="" if samples.patients_known else "unknown",
    )


def with_estimate(row: MetricRow, estimate: Estimate) -> MetricRow:
    """Return the row of an estimate of the same samples."""
    name, value, low, high = estimate
    return row._replace(metric=name, value=value, low=low, high=high)


def with_difference(
    row: MetricRow, difference: Difference, margin: float | None
) -> MetricRow:
    """Return the row of a difference of the same samples."""
    answer = None if margin is None else is_non_inferior(difference, margin)
    name = f"difference in {difference.name}"
    return with_estimate(row, as_estimate(difference)._replace(name=name))._replace(
        p=six_digits(difference.p),
        p_holm=six_digits(difference.holm),
        non_inferior="" if answer is None else str(int(answer)),
    )
