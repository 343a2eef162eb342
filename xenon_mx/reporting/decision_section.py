"""What was decided about each study, and whether it keeps what was promised.

Owns the section's words, its tables, and its rows of --figures. Must not know how a
decision is made, how rates are computed (`evaluation.observed_rates`), or the page.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Iterator, Mapping, NamedTuple, Sequence

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.evaluation import estimates
from xenon_mx.evaluation.applied_decision import AppliedDecision
from xenon_mx.evaluation.decision import ABNORMAL, DECISIONS, NORMAL, REFER
from xenon_mx.evaluation.estimates import Estimate
from xenon_mx.evaluation.evaluation_set import OVERALL, EvaluationSet, from_table
from xenon_mx.evaluation.observed_rates import ObservedRate, rates
from xenon_mx.evaluation.prediction_tables import DECISION_COLUMNS, PredictionTable
from xenon_mx.evaluation.referral import Referral
from xenon_mx.reporting import plot_captions
from xenon_mx.reporting.comparison_tables import base_row, with_estimate
from xenon_mx.reporting.estimate_tables import MetricRow
from xenon_mx.reporting.origin import Origin
from xenon_mx.reporting.plot_style import Plot
from xenon_mx.reporting.tables import NO_BREAK, Table, format_cell
from xenon_mx.runs import decision_file
from xenon_mx.runtime.text import counted

CALIBRATED, DECISION = DECISION_COLUMNS
_QUALITY = ("Brier score", "calibration error")
_LABELS = {0: "normal", 1: "abnormal"}
_MISSED = {
    1: f"patients with an abnormal study who have one called {NORMAL}",
    0: f"patients with a normal study who have one called {ABNORMAL}",
}
_HOW = (
    "A patient counts once, since one missed study is enough to do harm, and a "
    "referred study is not missed. The intervals of these rates are Clopper and "
    "Pearson's over patients, all others by bootstrap over patients."
)
_MEAN = (
    "What was promised of these rates is a mean over many sets of patients to decide "
    "on, so that a single decision may lie somewhat above it."
)


@dataclass(frozen=True)
class DecisionSection:
    """What a report shows of a decision; without labels, only counts.

    Attributes:
        about: What was decided, and how to read the tables: sentences.
        line: The same in a sentence or two, for the model card.
        tables: Counts by label; then what was promised and observed, and how well the
            probabilities agree with the labels.
        plots: The calibration of the calibrated probabilities.
        rows: All of it for --figures.
    """

    about: list[str]
    line: str
    tables: list[Table]
    plots: list[Plot]
    rows: list[MetricRow]


class _Observed(NamedTuple):
    """What labelled studies show of a decision."""

    samples: EvaluationSet
    missed: Mapping[int, ObservedRate]
    promised: Estimate | None  # the metric of which the threshold promises a target
    raw: Sequence[Estimate]  # `_QUALITY` of the probabilities
    calibrated: Sequence[Estimate]  # and of the calibrated ones


def summarize(table: PredictionTable, origin: Origin) -> DecisionSection | None:
    """Summarize what was decided; None if nothing was, or it is not known.

    Args:
        table: The table of predictions.
        origin: Where they come from.
    """
    applied = origin.provenance.decision if origin.provenance else None
    if applied is None or not {*DECISION_COLUMNS} <= set(table.extra):
        return None
    decisions = table.extra[DECISION]
    names = [each for each in DECISIONS if each != REFER or applied.alpha is not None]
    totals = ", ".join(f"{decisions.count(name):,} {_called(name)}" for name in names)
    line = f"Of {counted(len(decisions), 'study', 'studies')}: {totals}."
    about = [f"{line} {_rule(applied, origin)}"]
    if table.is_unlabelled:
        counts = _counts(table, decisions, names)
        return DecisionSection(about, line, [counts], [], [])
    samples = from_table(table)
    calibrated = np.array([float(cell) for cell in table.extra[CALIBRATED]])
    observed = _observe(applied, samples, decisions, calibrated)
    return DecisionSection(
        about=[*about, f"{_HOW} {_MEAN}" if applied.alpha is not None else _HOW],
        line=f"{line} {' '.join(_sentences(applied, observed))}",
        tables=[
            _counts(table, decisions, names),
            _promises(applied, observed),
            _quality(observed),
        ],
        plots=[
            plot_captions.calibration_plot(
                replace(samples, prob=calibrated),
                {each.name: each for each in observed.calibrated},
                "the calibrated probabilities",
            )
        ],
        rows=[*_count_rows(samples, decisions, names), *_rate_rows(observed)],
    )


def _called(name: str) -> str:
    """Return how a study is that has a decision, in words."""
    return "referred" if name == REFER else f"called {name}"


def _rule(applied: AppliedDecision, origin: Origin) -> str:
    """Return which probability leads to which decision, as far as it is known."""
    value = f"the threshold that was decided, {applied.threshold.value:.9g}"
    if not applied.threshold.is_decided:
        value = f"the threshold, {applied.threshold.value:.9g}"
    if applied.alpha is None:
        return f"A study is called abnormal above {value}, and no study is referred."
    limits = _limits(applied, origin)
    if limits is None:
        return (
            "The limits of the third answer are not shown: they are in decision.json "
            "of the run, and the decision that was applied here is not found there."
        )
    return (
        f"A study is called normal only below {limits.low.limit:.9g}, called abnormal "
        f"only above {limits.high.limit:.9g}, and on the same side of {value}; else it "
        f"is referred."
    )


def _limits(applied: AppliedDecision, origin: Origin) -> Referral | None:
    """Return the limits, if a run still has the decision that was applied."""
    for run in origin.runs:
        try:
            made = decision_file.read(run.folder)
        except XenonError:  # changed since: no longer what was applied
            continue
        if made and made.time == applied.time and made.decided_on == applied.decided_on:
            return made.referral
    return None


def _observe(
    applied: AppliedDecision,
    samples: EvaluationSet,
    decisions: list[str],
    calibrated: np.ndarray,
) -> _Observed:
    threshold = applied.threshold
    raw = estimates.draw(samples, threshold.value)
    fitted = estimates.draw(replace(samples, prob=calibrated), threshold.value)
    return _Observed(
        samples=samples,
        missed=rates(samples, decisions),
        promised=None if threshold.target is None else raw.estimate(threshold.kind),
        raw=[raw.estimate(name) for name in _QUALITY],
        calibrated=[fitted.estimate(name) for name in _QUALITY],
    )


def _counts(
    table: PredictionTable, decisions: Sequence[str], names: Sequence[str]
) -> Table:
    """Return how many studies of each label have each decision."""
    labels = [_LABELS.get(int(label), "") for label in table.labels]
    rows = []
    for label in [*(name for name in _LABELS.values() if name in labels), OVERALL]:
        own = [d for d, of in zip(decisions, labels) if label in (of, OVERALL)]
        name = label if label == OVERALL else f"labelled {label}"
        rows.append(
            (name, f"{len(own):,}", *(f"{own.count(each):,}" for each in names))
        )
    return Table(
        "Studies by label and decision",
        ("label", "studies", *map(_called, names)),
        rows,
    )


def _promises(applied: AppliedDecision, observed: _Observed) -> Table:
    """Return what was promised beside what these studies show."""
    promised = "nothing" if applied.alpha is None else f"at most {applied.alpha:g}"
    rows = [
        (name, promised, _rate(rate), f"{rate.missed:,} of {rate.patients:,} patients")
        for label, name in _MISSED.items()
        for rate in (observed.missed[label],)
    ]
    if observed.promised is not None:
        threshold = applied.threshold
        name = f"{threshold.kind} at the threshold of {threshold.value:.9g}"
        own = observed.samples.labels == (threshold.kind == "sensitivity")
        rows.append(
            (
                name,
                f"at least {threshold.target:g}",
                format_cell(observed.promised),
                f"{int(own.sum()):,} studies",
            )
        )
    return Table(
        f"Promised and observed, with 95% intervals{_unknown(observed)}",
        ("rate", "promised", "observed", "of"),
        rows,
    )


def _unknown(observed: _Observed) -> str:
    return "" if observed.samples.patients_known else " (patients unknown)"


def _rate(rate: ObservedRate) -> str:
    return format_cell(Estimate("", rate.value, rate.low, rate.high))


def _quality(observed: _Observed) -> Table:
    """Return how well probabilities agree with labels, before and after calibration."""
    return Table(
        f"Probabilities before and after calibration, with 95% intervals"
        f"{_unknown(observed)}: lower is better",
        ("metric", "probability", CALIBRATED),
        [
            (before.name, format_cell(before), format_cell(after))
            for before, after in zip(observed.raw, observed.calibrated)
        ],
    )


def _sentences(applied: AppliedDecision, observed: _Observed) -> Iterator[str]:
    """Yield what was promised and observed, in sentences."""
    for label, name in _MISSED.items():
        rate = _rate(observed.missed[label]).replace("\n", " ").replace(" ", NO_BREAK)
        limit = "" if applied.alpha is None else f", promised at most {applied.alpha:g}"
        yield f"{name[:1].upper()}{name[1:]}: {rate}{limit}."


def _count_rows(
    samples: EvaluationSet, decisions: Sequence[str], names: Sequence[str]
) -> Iterator[MetricRow]:
    """Yield the counts by label and decision."""
    row = base_row(samples, OVERALL)
    for label, of in _LABELS.items():
        own = [d for d, each in zip(decisions, samples.labels) if each == label]
        for name in names:
            yield row._replace(
                metric=f"labelled {of}, {_called(name)}", value=float(own.count(name))
            )


def _rate_rows(observed: _Observed) -> Iterator[MetricRow]:
    """Yield the rates and the estimates."""
    row = base_row(observed.samples, OVERALL)
    for label, name in _MISSED.items():
        rate = observed.missed[label]
        yield with_estimate(row, Estimate(name, rate.value, rate.low, rate.high))
    if observed.promised is not None:
        name = f"{observed.promised.name} at the decided threshold"
        yield with_estimate(row, observed.promised._replace(name=name))
    for each in observed.calibrated:
        name = f"{each.name} of {CALIBRATED}"
        yield with_estimate(row, each._replace(name=name))
