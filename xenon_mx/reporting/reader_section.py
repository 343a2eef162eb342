"""Readers beside the ensemble: what a report shows of --readers.

Owns the tables and their words; must not know how readers are compared
(`evaluation.readers`), or the page.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Iterator, Mapping, Sequence

from xenon_mx.config import ReportConfig
from xenon_mx.evaluation import readers as evaluation
from xenon_mx.evaluation.evaluation_set import OVERALL, EvaluationSet, from_table
from xenon_mx.evaluation.prediction_tables import PredictionTable
from xenon_mx.evaluation.reader_file import Readers, read_readers
from xenon_mx.evaluation.readers import METRICS, ReaderComparison
from xenon_mx.reporting import comparison_tables
from xenon_mx.reporting.comparison_tables import Names
from xenon_mx.reporting.estimate_tables import MetricRow
from xenon_mx.reporting.forest_plot import forest_plot
from xenon_mx.reporting.plot_style import Plot
from xenon_mx.reporting.tables import Table, format_cell
from xenon_mx.runtime.text import counted, one_line

_NAMES = Names("this ensemble", "the reader", "difference")
_OTHERS = "other readers"  # the reference in --figures
# Chosen here: a page has room for nine columns, and the first is the study type.
_READERS_PER_TABLE = 4


@dataclass(frozen=True)
class ReaderSection:
    """What a report shows of readers.

    Attributes:
        about: Who read what, and how to read the differences: sentences.
        label: Each reader against the label, a table per metric.
        types: Kappa by study type, against the label; empty with one study type.
        others_about: What the next tables are of, in sentences; empty with one reader.
        others: Each reader against the majority of the others, a table per metric.
        plots: Forest plots.
        points: Name, specificity and sensitivity of each reader, against the label.
        rows: All of it for --figures.
    """

    about: list[str]
    label: list[Table]
    types: list[Table]
    others_about: str
    others: list[Table]
    plots: list[Plot]
    points: list[tuple[str, float, float]]
    rows: list[MetricRow]


def compare_readers(
    config: ReportConfig, table: PredictionTable, threshold: float
) -> ReaderSection:
    """Compare the readers of --readers with the predictions of a table.

    Args:
        config: The arguments of `xenon-report`.
        table: The labelled table of studies.
        threshold: A study is called abnormal if its probability is strictly above.

    Raises:
        XenonError: The file of the readers cannot be used with this table.
    """
    assert config.readers is not None
    samples, margin = from_table(table), config.margin
    readers = read_readers(config.readers, table)
    by_type = evaluation.compare_by_study_type(samples, readers, threshold)
    others = evaluation.compare_by_others(samples, readers, threshold)
    label = by_type[OVERALL]
    is_one_type = len(by_type) == 2  # and `overall`, which then is the same
    rows = [
        row
        for name, found in by_type.items()
        for row in _rows(name, found, samples, "", margin)
    ]
    return ReaderSection(
        about=list(_about(config, samples, readers)),
        label=list(_tables(label, "the label", margin)),
        types=[] if is_one_type else list(_type_tables(by_type)),
        others_about=_others_about(others),
        others=list(_tables(others, "the majority of the other readers", margin)),
        plots=list(_plots(label, others, margin)),
        points=list(map(_point, label)),
        rows=[*rows, *_rows(OVERALL, others, samples, _OTHERS, margin)],
    )


def _point(found: ReaderComparison) -> tuple[str, float, float]:
    """Return the name, specificity and sensitivity of a reader."""
    values = {each.name: each.second.value for each in found.differences}
    return found.reader, values["specificity"], values["sensitivity"]


def _about(
    config: ReportConfig, samples: EvaluationSet, readers: Readers
) -> Iterator[str]:
    """Yield who read what, and how to read the differences."""
    count, total = len(readers.names), readers.readings.size
    file = one_line(config.readers.name) if config.readers else ""
    names = ", ".join(one_line(name) for name in readers.names)
    missing = (
        f"{readers.unread:,} of {total:,} readings "
        f"{'is' if readers.unread == 1 else 'are'} missing."
    )
    yield (
        f"{counted(count, 'reader')} of {file}: {names}. "
        f"{missing if readers.unread else 'Each read every study.'} Beside a reader, "
        f"this ensemble is measured on the studies that the reader read."
    )
    if evaluation.is_label_of(samples, readers):
        yield (
            "The labels are the majority of these readers: against the label, each "
            "reader is in part compared with their own reading, and looks better than "
            "against the other readers."
        )
    yield comparison_tables.method(_NAMES)
    if config.margin is not None:
        yield comparison_tables.non_inferiority(_NAMES, config.margin, METRICS)


def _others_about(others: Sequence[ReaderComparison]) -> str:
    """Return what the majority of the other readers is, in sentences."""
    if not others:
        return ""
    return (
        "Each reader, and beside them this ensemble, against the majority of the other "
        "readers, in which the reader has no part. Studies without a majority are left "
        "out and counted: the others are tied, or none of them read the study. These "
        "often are the harder studies, so that values are too high for all studies."
    )


def _tables(
    found: Sequence[ReaderComparison], reference: str, margin: float | None
) -> Iterator[Table]:
    """Yield a table per metric: a row per reader."""
    counts = ["studies", "not read"]
    if any(each.tied or each.alone for each in found):
        counts.append("no majority")
    for column, metric in enumerate(METRICS if found else ()):
        rows = []
        for each in found:
            numbers = {
                "studies": each.studies,
                "not read": each.unread,
                "no majority": each.tied + each.alone,
            }
            rows.append(
                (
                    one_line(each.reader),
                    *(f"{numbers[name]:,}" for name in counts),
                    *comparison_tables.cells(each.differences[column], margin),
                )
            )
        yield Table(
            f"{metric} against {reference}, with 95% intervals",
            ("reader", *counts, *comparison_tables.header(_NAMES, margin)),
            rows,
        )


def _type_tables(by_type: Mapping[str, Sequence[ReaderComparison]]) -> Iterator[Table]:
    """Yield kappas by study type: the ensemble's beside those of up to four readers."""
    for start in range(0, len(by_type[OVERALL]), _READERS_PER_TABLE):
        part = slice(start, start + _READERS_PER_TABLE)
        header, is_shared = ["study type"], _have_read_the_same(by_type[OVERALL][part])
        if is_shared:
            header += ["studies", "this ensemble"]
        for each in by_type[OVERALL][part]:
            name = one_line(each.reader)
            header += [name] if is_shared else [f"this ensemble beside {name}", name]
        rows = []
        for study_type, found in by_type.items():
            cells = []
            if is_shared:
                first = found[start]
                cells = [f"{first.studies:,}", format_cell(first.differences[0].first)]
            for each in found[part]:
                kappa = each.differences[0]
                beside = [] if is_shared else [format_cell(kappa.first)]
                cells += [*beside, format_cell(kappa.second)]
            rows.append((study_type or "none", *cells))
        yield Table(
            "kappa against the label by study type, with 95% intervals",
            tuple(header),
            rows,
        )


def _have_read_the_same(found: Sequence[ReaderComparison]) -> bool:
    """Return whether each reader has read every study."""
    return not any(each.unread for each in found)


def _plots(
    label: Sequence[ReaderComparison],
    others: Sequence[ReaderComparison],
    margin: float | None,
) -> Iterator[Plot]:
    """Yield the forest plots of kappa."""
    for found, reference in (
        (label, "the label"),
        (others, "the majority of the other readers"),
    ):
        if found:
            rows = [(one_line(each.reader), each.differences[0]) for each in found]
            title = f"Differences in kappa against {reference}"
            yield forest_plot(rows, _NAMES, margin, title)


def _rows(
    study_type: str,
    found: Sequence[ReaderComparison],
    samples: EvaluationSet,
    reference: str,
    margin: float | None,
) -> Iterator[MetricRow]:
    """Yield of each reader: the ensemble's metrics, the reader's, the differences."""
    for each in found:
        name = one_line(each.reader)
        row = MetricRow(
            "study",
            study_type,
            each.studies,
            each.abnormal,
            *("", math.nan, math.nan, math.nan),
            subgroup=f"reader={name}",
            patients="" if samples.patients_known else "unknown",
            reference=reference,
        )
        for difference in each.differences:
            yield comparison_tables.with_estimate(row, difference.first)
        for difference in each.differences:
            yield comparison_tables.with_estimate(
                row._replace(of=name), difference.second
            )
        for difference in each.differences:
            yield comparison_tables.with_difference(
                row._replace(against=name), difference, margin
            )
