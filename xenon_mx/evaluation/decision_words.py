"""A decision in words: what it is, what it promises, and on what it was made.

Owns the sentences. Must not know how anything was decided.
"""

from __future__ import annotations

import math
from typing import Iterator, Sequence

from xenon_mx.evaluation.clustered_bound import LEVEL
from xenon_mx.evaluation.decided_threshold import KAPPA, SENSITIVITY, SPECIFICITY
from xenon_mx.evaluation.decision import (
    ABNORMAL,
    DECISIONS,
    NORMAL,
    REFER,
    Decision,
    Measure,
)
from xenon_mx.evaluation.referral import ClassLimit
from xenon_mx.evaluation.sample_size import MARGINS, SampleSize
from xenon_mx.runtime.text import format_number, format_with_interval

_OTHER = {SENSITIVITY: SPECIFICITY, SPECIFICITY: SENSITIVITY}
_MEASURES = (SENSITIVITY, SPECIFICITY, KAPPA)


def subject(decision: Decision) -> str:
    """Return on what the decision was made."""
    made_on = decision.decided_on
    return (
        f"decided on {made_on}: {made_on.abnormal_patients:,} have an abnormal study, "
        f"{made_on.normal_patients:,} a normal one"
    )


def calibration_rows(decision: Decision) -> list[tuple[str, ...]]:
    """Return the table of how well probabilities agree with labels."""
    rows: list[tuple[str, ...]] = [("", "as predicted", "calibrated on other patients")]
    for name, before, after in zip(
        ("Brier score", "calibration error", "log loss"),
        decision.before,
        decision.after,
    ):
        rows.append((name, f"{before:.4f}", f"{after:.4f}"))
    return rows


def lines(decision: Decision) -> Iterator[str]:
    """Yield calibration, threshold and third answer, and what they promise."""
    slope, intercept = decision.calibration
    if decision.decided_on.may_have_trained:
        yield (
            "warning: the net, or the one that it began as, was not trained here, and "
            "may have been trained on these patients: if it was, nothing of what "
            "follows holds for others"
        )
    sign = "-" if intercept < 0 else "+"
    added = f" {sign} {abs(intercept):.4g}" if intercept else ""
    yield f"calibrated = sigmoid({slope:.4g} * logit(probability){added})"
    if decision.after.log_loss > decision.before.log_loss:
        yield (
            "warning: on other patients, calibrated probabilities have the higher log "
            "loss: there are too few patients, or the probabilities need no calibration"
        )
    yield from _threshold_lines(decision)
    if decision.referral is not None:
        yield from _referral_lines(decision)


def needed(sizes: Sequence[SampleSize]) -> Iterator[str]:
    """Yield how many patients intervals of a metric would need, a line per width."""
    for margin in MARGINS:
        counts = ((size.metric, size.patients[margin]) for size in sizes)
        words = [
            f"{name} {'undefined' if count is None else f'{count:,}'}"
            for name, count in counts
        ]
        yield (
            f"patients like these that a 95% interval of ±{margin:g} needs: "
            f"{', '.join(words)}"
        )


def _threshold_lines(decision: Decision) -> Iterator[str]:
    threshold, measures = decision.threshold, decision.measures
    value = f"threshold {threshold.value:.9g}"
    if threshold.target is not None:
        own, other = threshold.kind, _OTHER[threshold.kind]
        yield (
            f"{value}: {own} {_in_words(measures[own])}, with {LEVEL:.0%} confidence "
            f"at least {threshold.bound:.4f}, which holds {threshold.target:g}"
        )
        yield f"it leaves a {other} of {_in_words(measures[other])}"
        return
    if threshold.kind == KAPPA:
        yield (
            f"{value}: the best kappa, {_in_words(measures[KAPPA])}, on these studies; "
            f"{format_number(_or_nan(threshold.cross_fitted))} if chosen on other "
            f"patients, and nothing is promised"
        )
    elif threshold.is_decided:
        yield f"{value}: chosen for {threshold.purpose}; of it, nothing is promised"
    else:
        yield f"{value}: not decided (--sensitivity, --specificity or --best kappa)"
    others = [name for name in _MEASURES if name != threshold.kind]
    yield ", ".join(f"{name} {_in_words(measures[name])}" for name in others)


def _referral_lines(decision: Decision) -> Iterator[str]:
    assert decision.referral is not None
    refer = decision.referral
    low, high = refer.low, refer.high
    below = min(low.limit, decision.threshold.value)
    above = max(high.limit, decision.threshold.value)
    yield (
        f"a study is {NORMAL} below {below:.9g} and {ABNORMAL} above {above:.9g}"
        + (f"; between, {REFER}" if below < above else ": no study is referred")
    )
    yield _promise(low, "an abnormal", NORMAL, refer.alpha)
    yield _promise(high, "a normal", ABNORMAL, refer.alpha)
    counts = [f"{decision.answers[name]:,} {name}" for name in DECISIONS]
    yield f"of these studies: {', '.join(counts)}"


def _promise(limit: ClassLimit, study: str, called: str, alpha: float) -> str:
    least, most = limit.rate_range()
    return (
        f"at most {100 * alpha:g}% of the patients with {study} study have one called "
        f"{called}: the mean over sets of {limit.patients:,} patients to decide on; "
        f"nine of ten such sets give {least:.1%} to {most:.1%}"
    )


def _in_words(measure: Measure) -> str:
    """Return a metric with its interval, such as `0.829 (0.74 to 0.91)`."""
    value, low, high = map(_or_nan, (measure.value, measure.low, measure.high))
    return format_with_interval(value, low, high)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
