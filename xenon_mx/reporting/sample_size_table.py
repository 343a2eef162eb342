"""How many patients intervals need: a table of the page, and rows of --figures.

Owns their words; must not know how they are computed (`evaluation.sample_size`).
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

from xenon_mx.evaluation.evaluation_set import OVERALL, EvaluationSet
from xenon_mx.evaluation.prediction_tables import count_phrase
from xenon_mx.evaluation.sample_size import MARGINS, SampleSize, sample_sizes
from xenon_mx.reporting.comparison_tables import base_row
from xenon_mx.reporting.estimate_tables import MetricRow
from xenon_mx.reporting.tables import Table
from xenon_mx.runtime.text import counted


class SampleSizes(NamedTuple):
    """How many patients intervals need.

    Attributes:
        about: What is assumed, in sentences.
        table: A row per metric.
        rows: The rows of --figures.
    """

    about: str
    table: Table
    rows: list[MetricRow]


def summarize(samples: EvaluationSet, threshold: float) -> SampleSizes:
    """Compute how many patients intervals would need, from the spread of these.

    Args:
        samples: Studies or images.
        threshold: A sample is called abnormal if its probability is strictly above.
    """
    sizes = sample_sizes(samples, threshold)
    patients = counted(len(set(samples.patients)), "patient")
    count = count_phrase(len(samples.labels), samples.level)
    return SampleSizes(
        f"Projected from the spread over {patients}: the width of an "
        f"interval falls with the square root of the number of patients. This holds "
        f"for patients like these, with as many abnormal studies and as many studies "
        f"per patient ({count} of {patients}). It is rough where these are "
        f"few.",
        _table(sizes),
        list(_rows(samples, sizes)),
    )


def _table(sizes: Sequence[SampleSize]) -> Table:
    return Table(
        "Patients that a 95% interval of a given width needs",
        ("metric", "interval now", *(f"for ±{margin:g}" for margin in MARGINS)),
        [
            (
                size.metric,
                "undefined" if math.isnan(size.margin) else f"±{size.margin:.3f}",
                *(_patients(size.patients[margin]) for margin in MARGINS),
            )
            for size in sizes
        ],
    )


def _patients(number: int | None) -> str:
    return "undefined" if number is None else f"{number:,}"


def _rows(samples: EvaluationSet, sizes: Sequence[SampleSize]) -> list[MetricRow]:
    row = base_row(samples, OVERALL)
    return [
        row._replace(
            metric=f"patients for {size.metric} within {margin:g}",
            value=math.nan if number is None else float(number),
        )
        for size in sizes
        for margin, number in size.patients.items()
    ]
