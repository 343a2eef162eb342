"""Two tables of predictions side by side: what a report shows of --against.

Owns the reading of the second table, and the words about both; must not know how
differences are computed (`evaluation.comparison`), the gallery, or the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Mapping, NamedTuple, Sequence

from xenon_mx.config import THRESHOLD, ReportConfig
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.evaluation import comparison, provenance
from xenon_mx.evaluation.comparison import COMPARED, Difference
from xenon_mx.evaluation.evaluation_set import OVERALL
from xenon_mx.evaluation.pairing import Pair, pair_tables
from xenon_mx.evaluation.prediction_tables import (
    PLURAL,
    PredictionTable,
    count_phrase,
    read_table,
)
from xenon_mx.evaluation.provenance import Provenance
from xenon_mx.reporting import comparison_tables, disagreements, independent_tests
from xenon_mx.reporting.comparison_tables import Names
from xenon_mx.reporting.estimate_tables import MetricRow
from xenon_mx.reporting.forest_plot import forest_plot
from xenon_mx.reporting.origin import Origin
from xenon_mx.reporting.plot_style import Plot
from xenon_mx.reporting.tables import Table
from xenon_mx.runtime.text import counted, one_line

_NAMES = Names("A", "B", "A - B")
_PLOTTED_BY_TYPE = ("kappa", "AUROC")

# The differences of each study type, and of `overall`.
_ByType = Mapping[str, Sequence[Difference]]


class Second(NamedTuple):
    """The table of --against: B.

    Attributes:
        table: The table.
        threshold: Of its predictions: that of its record, else 0.5.
        provenance: Where it comes from; None if unknown.
    """

    table: PredictionTable
    threshold: float
    provenance: Provenance | None


@dataclass(frozen=True)
class Against:
    """What a report shows of two tables of predictions, A and B.

    Attributes:
        pair: The two predictions.
        sources: What A and B are, and that their thresholds differ: sentences.
        about: Of what both are, and how to read the differences: sentences.
        warnings: What limits the use of B.
        overall: The differences over all samples.
        tests: The tests that assume independent samples.
        tests_note: Whether they are, in sentences.
        plots: Forest plots.
        types: The differences by study type, a table per metric; empty if there is only
            one study type.
        types_note: How those are corrected.
        disagreements: How often A and B predict the same, in sentences.
        rows: All of it for --figures.
    """

    pair: Pair
    sources: list[str]
    about: list[str]
    warnings: list[str]
    overall: Table
    tests: Table
    tests_note: str
    plots: list[Plot]
    types: list[Table]
    types_note: str
    disagreements: str
    rows: list[MetricRow]


def compare_tables(
    config: ReportConfig, table: PredictionTable, origin: Origin
) -> Against:
    """Compare a table of predictions with that of --against.

    Args:
        config: The arguments of `xenon-report`.
        table: The table of PREDICTIONS.
        origin: Where its predictions come from.

    Raises:
        XenonError: The second table cannot be used, or the two are not of the same
            samples, labels and patients.
    """
    assert config.against is not None
    second = _read(config.against)
    pair = pair_tables(table, second.table, (origin.threshold, second.threshold))
    found = comparison.compare_by_study_type(pair)
    tests = independent_tests.compute(pair)
    types = {} if len(found) == 2 else found  # of one study type, `overall` is the same
    name = one_line(config.against.name)
    return Against(
        pair=pair,
        sources=list(_sources(table, origin, second)),
        about=[_about(pair), *_margin(config.margin)],
        warnings=list(_warnings(origin, second)),
        overall=_overall(pair, found[OVERALL], config.margin),
        tests=independent_tests.table(pair, tests),
        tests_note=independent_tests.independence(pair),
        plots=list(_plots(found, types, config.margin)),
        types=list(_type_tables(pair, types, config.margin)),
        types_note=_correction(types, config.margin),
        disagreements=disagreements.count(pair),
        rows=[
            *_rows(pair, found, config.margin, name),
            *independent_tests.rows(pair, tests, name),
        ],
    )


def _overall(
    pair: Pair, differences: Sequence[Difference], margin: float | None
) -> Table:
    """Return the table of the differences over all samples."""
    return Table(
        f"A against B over {count_phrase(len(pair.names), pair.first.level)}, with "
        f"95% intervals",
        ("metric", *comparison_tables.header(_NAMES, margin)),
        [(d.name, *comparison_tables.cells(d, margin)) for d in differences],
    )


def _read(file: Path) -> Second:
    """Read the table of --against with its threshold."""
    found = provenance.read(file).provenance
    threshold = found.threshold if found else THRESHOLD
    table = read_table(file)
    try:
        table.check_threshold(threshold)
    except ConfigError as error:
        raise XenonError(
            f"{file}: its predictions do not follow from a threshold of "
            f"{threshold:g}: put {file.name}.json beside it, which xenon-predict wrote "
            f"with it and which tells the threshold"
        ) from error
    return Second(table, threshold, found)


def _sources(table: PredictionTable, origin: Origin, second: Second) -> Iterator[str]:
    """Yield what A and B are."""
    sources = (
        ("A", table, origin.provenance, origin.threshold),
        ("B", second.table, second.provenance, second.threshold),
    )
    for name, each, found, threshold in sources:
        yield (
            f"{name} is {one_line(each.file)}: {_ensemble(found)}, called abnormal "
            f"above {threshold:g}."
        )
    if origin.threshold != second.threshold:
        yield (
            "The thresholds of A and B differ, and kappa, sensitivity and specificity "
            "may differ for that alone; AUROC and Brier score do not depend on them."
        )


def _about(pair: Pair) -> str:
    """Return of what both are, and how to read the differences."""
    patients = len(set(pair.first.patients))
    of = f"of {counted(patients, 'patient')}"
    if not pair.first.patients_known:
        of = "of unknown patients, so that each counts as one of its own"
    return (
        f"Both are of the same {count_phrase(len(pair.names), pair.first.level)} {of}. "
        f"{comparison_tables.method(_NAMES)}"
    )


def _ensemble(found: Provenance | None) -> str:
    return str(found.ensemble) if found else "of an unknown ensemble"


def _margin(margin: float | None) -> Iterator[str]:
    if margin is not None:
        yield comparison_tables.non_inferiority(_NAMES, margin, COMPARED)


def _warnings(origin: Origin, second: Second) -> Iterator[str]:
    """Yield what limits the use of B."""
    ours, theirs = origin.provenance, second.provenance
    if theirs is None:
        return
    name = one_line(second.table.file.name)
    if theirs.seen.is_known and theirs.seen.is_any:
        yield f"B ({name}): {theirs.seen}"
    if theirs.data.warning:
        yield f"B ({name}): {theirs.data.warning}"
    if theirs.left_out.images:
        yield f"B ({name}): {theirs.left_out.warning()}"
    if ours is not None and ours.ensemble.has_members_of(theirs.ensemble):
        yield f"B ({name}) was predicted by the same members as A"


def _plots(
    found: _ByType,
    types: _ByType,
    margin: float | None,
) -> Iterator[Plot]:
    """Yield the forest plots: of all metrics, and of some by study type."""
    rows = [(each.name, each) for each in found[OVERALL]]
    yield forest_plot(rows, _NAMES, margin, "Differences over all study types")
    for metric in _PLOTTED_BY_TYPE if types else ():
        column = COMPARED.index(metric)
        rows = [(name or "none", each[column]) for name, each in types.items()]
        yield forest_plot(rows, _NAMES, margin, f"Differences in {metric}")


def _rows(
    pair: Pair, found: _ByType, margin: float | None, other: str
) -> Iterator[MetricRow]:
    """Yield the metrics of B and the differences, by study type and over all."""
    for name, differences in found.items():
        row = comparison_tables.base_row(pair.first.select(name), name)
        for each in differences:
            yield comparison_tables.with_estimate(row._replace(of=other), each.second)
        for each in differences:
            yield comparison_tables.with_difference(
                row._replace(against=other), each, margin
            )


def _type_tables(pair: Pair, types: _ByType, margin: float | None) -> Iterator[Table]:
    """Yield the differences by study type: a table per metric."""
    for column, metric in enumerate(COMPARED if types else ()):
        yield Table(
            f"{metric} by study type",
            (
                *("study type", PLURAL[pair.first.level]),
                *comparison_tables.header(_NAMES, margin, with_holm=True),
            ),
            [
                (
                    name or "none",
                    f"{len(pair.first.select(name).labels):,}",
                    *comparison_tables.cells(each[column], margin, with_holm=True),
                )
                for name, each in types.items()
            ],
        )


def _correction(types: _ByType, margin: float | None) -> str:
    """Return how the p-values of study types are corrected, in sentences."""
    if not types:
        return ""
    also = "" if margin is None else ", and neither is non-inferiority"
    return (
        f"p (Holm) is corrected by Holm's method for the {len(types) - 1} study types "
        f"of the same metric: if none differs, the chance that any is below 0.05 is at "
        f"most 5%. Undefined p-values do not count; overall is not corrected{also}."
    )
