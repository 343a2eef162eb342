"""DeLong's and McNemar's test of two predictions: a table, and rows of --figures.

Owns the words on what these tests assume: independent samples. Must not know how they
are computed (`evaluation`), or the page.
"""

from __future__ import annotations

from typing import Iterator, NamedTuple

from xenon_mx.evaluation import comparison
from xenon_mx.evaluation.comparison import McNemar
from xenon_mx.evaluation.delong import DeLong, delong
from xenon_mx.evaluation.estimates import Estimate
from xenon_mx.evaluation.evaluation_set import OVERALL
from xenon_mx.evaluation.pairing import Pair
from xenon_mx.evaluation.prediction_tables import PLURAL, count_phrase
from xenon_mx.reporting import comparison_tables
from xenon_mx.reporting.estimate_tables import MetricRow
from xenon_mx.reporting.tables import (
    Table,
    format_cell,
    format_p,
    six_digits,
)
from xenon_mx.runtime.text import counted, format_number


class IndependentTests(NamedTuple):
    """The tests of two predictions that assume independent samples."""

    areas: DeLong
    predictions: McNemar

    @property
    def area(self) -> Estimate:
        """Return the difference in AUROC with DeLong's interval."""
        areas = self.areas
        return Estimate("AUROC", areas.first - areas.second, areas.low, areas.high)


def compute(pair: Pair) -> IndependentTests:
    """Compute both tests."""
    return IndependentTests(
        delong(pair.first.labels, pair.first.prob, pair.second.prob),
        comparison.mcnemar(pair.first.labels, *pair.predictions),
    )


def table(pair: Pair, tests: IndependentTests) -> Table:
    """Return the table of both tests."""
    plural, (areas, predictions) = PLURAL[pair.first.level], tests
    return Table(
        f"Tests that assume independent {plural}",
        ("test", "of", "A - B", "p"),
        [
            ("DeLong's test", "AUROC", format_cell(tests.area), format_p(areas.p)),
            (
                "McNemar's exact test",
                f"accuracy: {predictions.first_only:,} {plural} correct by A only, "
                f"{predictions.second_only:,} by B only",
                format_number(_accuracy(pair, predictions)),
                format_p(predictions.p),
            ),
        ],
    )


def _accuracy(pair: Pair, mcnemar: McNemar) -> float:
    """Return the difference in accuracy."""
    return (mcnemar.first_only - mcnemar.second_only) / len(pair.names)


def independence(pair: Pair) -> str:
    """Return whether the samples are independent, in a sentence or two."""
    samples, patients = len(pair.names), len(set(pair.first.patients))
    level = pair.first.level
    if not pair.first.patients_known:
        return "Whether some of these are of the same patient is unknown."
    if samples == patients:
        return f"Here, every {level} is of a patient of its own."
    return (
        f"These are not independent: {count_phrase(samples, level)} are of "
        f"{counted(patients, 'patient')}. These p-values may be too small; "
        f"the intervals above take patients into account."
    )


def rows(pair: Pair, tests: IndependentTests, against: str) -> Iterator[MetricRow]:
    """Yield the rows of --figures; `against` is the name of B."""
    row = comparison_tables.base_row(pair.first, OVERALL)._replace(against=against)
    area = tests.area._replace(name="DeLong's test of AUROC")
    yield comparison_tables.with_estimate(row, area)._replace(
        p=six_digits(tests.areas.p)
    )
    yield row._replace(
        metric="McNemar's test of accuracy",
        value=_accuracy(pair, tests.predictions),
        p=six_digits(tests.predictions.p),
    )
