"""A run's kappas beside those of the paper, and as the competition would print them.

Owns how the paper's model and radiologists are set beside, always as what they are: of
another test set. Knows no files and no page.
"""

from __future__ import annotations

import math
from typing import Iterable, Mapping, Sequence

from xenon_mx.evaluation import competition
from xenon_mx.evaluation.estimates import Estimate
from xenon_mx.evaluation.evaluation_set import OVERALL, EvaluationSet
from xenon_mx.evaluation.published import PAPER
from xenon_mx.report import plots
from xenon_mx.report.plots import IntervalRow, Plot, Table, format_number

_STAYS = "\N{NO-BREAK SPACE}"


def is_comparable(cases: EvaluationSet) -> bool:
    """Tell whether the paper's pooled figures may stand beside those of all cases."""
    types = set(PAPER.kappa["model"]) - {OVERALL}
    return cases.level == "study" and types <= set(cases.study_types)


def kappa_plot(found: Mapping[str, Sequence[Estimate]]) -> Plot:
    """Draw the kappa of each study type beside the paper's."""
    kappas = _kappas(found)
    rows = [IntervalRow(name, k.value, k.low, k.high) for name, k in kappas]
    model = [_of_paper("model", name, found) for name, _ in kappas]
    best = [max(_radiologists(name, found)) for name, _ in kappas]
    marks = [("paper's model", model), ("paper's best radiologist", best)]
    said = "; ".join(f"{name} {value_with_interval(kappa)}" for name, kappa in kappas)
    return Plot(
        plots.intervals(rows, marks, "Cohen's kappa"),
        f"Cohen's kappa of each study type with its 95% interval: {said}. The paper's "
        f"values beside them stand in the table below.",
        "Cohen's kappa with 95% intervals, beside the paper's model and the best of "
        "its three radiologists in each study type: of another test set.",
    )


def kappa_table(found: Mapping[str, Sequence[Estimate]]) -> Table:
    """Set the kappa of each study type beside the paper's, reader by reader."""
    rows = []
    for name, kappa in _kappas(found):
        readers = (_of_paper(reader, name, found) for reader in PAPER.kappa)
        printed = ("" if math.isnan(each) else format_number(each) for each in readers)
        rows.append((name or "none", value_with_interval(kappa, "\n"), *printed))
    header = ("study type", "this ensemble", *(f"paper: {r}" for r in PAPER.kappa))
    return Table("Cohen's kappa", header, rows)


def competition_table(cases: EvaluationSet, threshold: float) -> Table:
    """Give kappa as the scorer of the MURA competition prints it, part by part."""
    scores = competition.competition_scores(cases, threshold)
    rows = []
    for part in (name[: -len("_Mean")] for name in scores if name.endswith("_Mean")):
        mean, low, high = (
            scores[f"{part}_{key}"] for key in ("Mean", "Lower", "Upper")
        )
        interval = f"({low:.3f},{_STAYS}{high:.3f})" if math.isfinite(mean) else ""
        rows.append((part, format_number(mean), interval))
    header = ("part", "kappa", "the scorer's interval, far too narrow")
    return Table("Compatibility only: the competition's scorer", header, rows)


def value_with_interval(figure: Estimate, between: str = " ") -> str:
    """A value and its interval, with a space or a line's end between them."""
    if not math.isfinite(figure.value):
        return "undefined"
    if not math.isfinite(figure.low):
        return f"{format_number(figure.value)}{between}(no{_STAYS}interval)"
    ends = f"{figure.low:.3f},{_STAYS}{figure.high:.3f}"
    return f"{format_number(figure.value)}{between}({ends})"


def _kappas(found: Mapping[str, Sequence[Estimate]]) -> list[tuple[str, Estimate]]:
    return [
        (name, next(figure for figure in values if figure.name == "kappa"))
        for name, values in found.items()
    ]


def _of_paper(reader: str, study_type: str, found: Iterable[str]) -> float:
    """A kappa of the paper's; its pooled one only beside one that pools as much."""
    kappas = PAPER.kappa[reader]
    if study_type == OVERALL and not kappas.keys() <= set(found):
        return math.nan
    return kappas[study_type].value if study_type in kappas else math.nan


def _radiologists(study_type: str, found: Iterable[str]) -> list[float]:
    readers = [reader for reader in PAPER.kappa if reader != "model"]
    return [_of_paper(reader, study_type, found) for reader in readers]
