"""Kappas of a run beside those of the paper, and as the competition prints them.

Owns which of the paper's kappas are comparable, always labelled as of another test
set; must not know files or the page.
"""

from __future__ import annotations

import math
from typing import Iterable, Mapping, NamedTuple, Sequence

from xenon_mx.evaluation import competition
from xenon_mx.evaluation.estimates import Estimate
from xenon_mx.evaluation.evaluation_set import OVERALL, EvaluationSet
from xenon_mx.evaluation.published import PAPER
from xenon_mx.reporting.interval_plots import IntervalRow, draw_intervals
from xenon_mx.reporting.plot_style import Plot
from xenon_mx.reporting.tables import (
    Table,
    format_cell,
    format_estimate,
)
from xenon_mx.runtime.text import format_interval, format_number

_STUDY_TYPES = set(PAPER.kappa["model"]) - {OVERALL}


class PaperComparison(NamedTuple):
    """Kappa beside the paper's, as a plot and a table, and the competition's scores."""

    plot: Plot
    table: Table
    competition: Table


def compare_with_paper(
    samples: EvaluationSet,
    estimates: Mapping[str, Sequence[Estimate]],
    threshold: float,
) -> PaperComparison | None:
    """Compare the kappas of studies with the paper's.

    Study types that the paper does not have are left out, and so are the pooled kappas
    if there are any: they would be of other study types.

    Args:
        samples: Studies.
        estimates: The estimates of each study type, and `overall`.
        threshold: A study is called abnormal if its probability is strictly above.

    Returns:
        None for images, and if the paper has none of the study types.
    """
    present = set(samples.study_types)
    if samples.level != "study" or not present & _STUDY_TYPES:
        return None
    shown = _STUDY_TYPES | ({OVERALL} if present <= _STUDY_TYPES else set())
    estimates = {name: each for name, each in estimates.items() if name in shown}
    return PaperComparison(
        _kappa_plot(estimates),
        _kappa_table(estimates),
        _competition_table(samples, threshold),
    )


def is_comparable(samples: EvaluationSet) -> bool:
    """Return whether the paper's pooled metrics are comparable: of its study types."""
    return samples.level == "study" and _STUDY_TYPES == set(samples.study_types)


def _kappa_plot(estimates: Mapping[str, Sequence[Estimate]]) -> Plot:
    kappas = _kappas(estimates)
    rows = [IntervalRow(name, k.value, k.low, k.high) for name, k in kappas]
    model = [_paper_kappa("model", name, estimates) for name, _ in kappas]
    best = [max(_radiologist_kappas(name, estimates)) for name, _ in kappas]
    marks = [("paper's model", model), ("paper's best radiologist", best)]
    values = "; ".join(f"{name} {format_estimate(kappa)}" for name, kappa in kappas)
    return Plot(
        draw_intervals(rows, marks, "Cohen's kappa"),
        f"Cohen's kappa of each study type with its 95% interval: {values}. The "
        f"paper's values are in the table below.",
        "Cohen's kappa with 95% intervals. For comparison: the paper's model and, for "
        "each study type, the best of its three radiologists, on another test set.",
    )


def _kappa_table(estimates: Mapping[str, Sequence[Estimate]]) -> Table:
    rows = []
    for name, kappa in _kappas(estimates):
        published = (_paper_kappa(reader, name, estimates) for reader in PAPER.kappa)
        cells = ("" if math.isnan(k) else format_number(k) for k in published)
        rows.append((name or "none", format_cell(kappa), *cells))
    header = ("study type", "this ensemble", *(f"paper: {r}" for r in PAPER.kappa))
    return Table("Cohen's kappa", header, rows)


def _competition_table(samples: EvaluationSet, threshold: float) -> Table:
    scores = competition.competition_scores(samples, threshold)
    rows = []
    for name in (key[: -len("_Mean")] for key in scores if key.endswith("_Mean")):
        mean, low, high = (
            scores[f"{name}_{key}"] for key in ("Mean", "Lower", "Upper")
        )
        interval = format_interval(low, high) if math.isfinite(mean) else ""
        rows.append((name, format_number(mean), interval))
    header = ("study type", "kappa", "the scorer's interval, far too narrow")
    return Table("Compatibility only: the competition's scorer", header, rows)


def _kappas(
    estimates: Mapping[str, Sequence[Estimate]],
) -> list[tuple[str, Estimate]]:
    """Return the kappa of each study type, by name."""
    return [
        (name, next(each for each in values if each.name == "kappa"))
        for name, values in estimates.items()
    ]


def _paper_kappa(reader: str, study_type: str, evaluated: Iterable[str]) -> float:
    """Return a kappa of the paper, NaN if there is none that is comparable.

    The pooled kappa is comparable only if all of the paper's study types are evaluated.
    """
    kappas = PAPER.kappa[reader]
    if study_type == OVERALL and not kappas.keys() <= set(evaluated):
        return math.nan
    return kappas[study_type].value if study_type in kappas else math.nan


def _radiologist_kappas(study_type: str, evaluated: Iterable[str]) -> list[float]:
    readers = [reader for reader in PAPER.kappa if reader != "model"]
    return [_paper_kappa(reader, study_type, evaluated) for reader in readers]
