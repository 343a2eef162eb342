"""Differences between two predictions of the same samples, with intervals and tests.

Owns the paired bootstrap over patients, Holm's correction, non-inferiority and
McNemar's test; must not know files or pages.

Both predictions are measured on the same draws of patients, and the difference is taken
in each draw: what makes a draw easy makes it easy for both, and cancels out.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

import numpy as np
from scipy import stats

from xenon_mx.evaluation import bootstrap, estimates
from xenon_mx.evaluation.estimates import REPEATS, Estimate
from xenon_mx.evaluation.evaluation_set import OVERALL, EvaluationSet
from xenon_mx.evaluation.pairing import Pair

COMPARED = ("kappa", "AUROC", "sensitivity", "specificity", "Brier score")
LOWER_IS_BETTER = ("Brier score",)


class Difference(NamedTuple):
    """A metric of two predictions, and the first minus the second; NaN is undefined.

    Attributes:
        name: The metric.
        first: The estimate of the first prediction.
        second: The estimate of the second prediction.
        value: The difference.
        low: The lower end of its 95% interval.
        high: The upper end.
        p: The two-sided p-value.
        holm: The p-value corrected for the number of study types; NaN if it is not
            one of several.
    """

    name: str
    first: Estimate
    second: Estimate
    value: float
    low: float
    high: float
    p: float
    holm: float = math.nan


class McNemar(NamedTuple):
    """McNemar's exact test of two predictions of the same samples.

    Attributes:
        first_only: Number of samples that only the first predicts correctly.
        second_only: Number of samples that only the second predicts correctly.
        p: The two-sided p-value; NaN if both numbers are 0.
    """

    first_only: int
    second_only: int
    p: float


def compare(
    first: EvaluationSet,
    second: EvaluationSet,
    thresholds: tuple[float, float],
    names: Sequence[str] = COMPARED,
    repeats: int = REPEATS,
    seed: int = 0,
) -> list[Difference]:
    """Compute the differences between two predictions of the same samples.

    The interval is the percentile interval of a paired bootstrap over patients (Efron
    and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). It is undefined
    where `estimates.evaluate` leaves an interval undefined: with fewer than five
    patients, with too many draws of one class, or if the difference is the same in all
    draws. So is p.

    Args:
        first: The samples with the first probabilities.
        second: The same samples, in the same order, with the second probabilities.
        thresholds: Of the first and of the second: a sample is called abnormal if
            its probability is strictly above.
        names: Which of `metrics.METRICS`.
        repeats: Number of draws of the patients.
        seed: Seed of the draws.

    Raises:
        ValueError: The samples differ in labels or patients.
    """
    is_same = np.array_equal(first.labels, second.labels)
    if not is_same or first.patients != second.patients:
        raise ValueError("the two predictions are not of the same samples")
    # The draws depend on the seed and the patients only: they are the same for both.
    ours, theirs = (
        estimates.draw(samples, threshold, repeats, seed)
        for samples, threshold in zip((first, second), thresholds)
    )
    differences = []
    for name in names:
        one, other = ours.estimate(name), theirs.estimate(name)
        draws = ours.draws[name] - theirs.draws[name]
        value = one.value - other.value
        interval = estimates.from_draws(f"difference in {name}", value, draws)
        p = math.nan if math.isnan(interval.low) else two_sided_p(draws)
        differences.append(
            Difference(name, one, other, value, interval.low, interval.high, p)
        )
    return differences


def compare_by_study_type(pair: Pair) -> dict[str, list[Difference]]:
    """Compute the differences of each study type, sorted by name, then of `overall`.

    With several study types, those of each metric are corrected for their number by
    Holm's method; `overall` is one comparison, and not corrected.
    """
    types = sorted(set(pair.first.study_types))
    found = {
        name: compare(
            pair.first.select(name), pair.second.select(name), pair.thresholds
        )
        for name in [*types, OVERALL]
    }
    if len(types) > 1:
        for column in range(len(COMPARED)):
            corrected = holm([found[name][column].p for name in types])
            for name, value in zip(types, corrected):
                found[name][column] = found[name][column]._replace(holm=value)
    return found


def two_sided_p(draws: np.ndarray) -> float:
    """Compute the two-sided p-value of a difference from its (R,) draws.

    Twice the share of draws on the less frequent side of 0, a draw of 0 counting on
    both sides, with 1 added to the number of draws and of those on that side, so that p
    is never 0 (Davison and Hinkley, Bootstrap Methods and their Application, 1997,
    section 4.2). Where the 95% percentile interval excludes 0, p is below about 0.05.
    Undefined draws (NaN) are left out.
    """
    defined = draws[~np.isnan(draws)]
    not_above = int((defined <= bootstrap.ROUNDING).sum())
    not_below = int((defined >= -bootstrap.ROUNDING).sum())
    return min(1.0, 2 * (1 + min(not_above, not_below)) / (1 + len(defined)))


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm, Scand. J. Statist. 1979;6:65-70).

    Undefined ones (NaN) stay so, and do not count.
    """
    corrected = [math.nan] * len(p)
    defined = sorted((value, i) for i, value in enumerate(p) if not math.isnan(value))
    highest = 0.0
    for rank, (value, i) in enumerate(defined):
        highest = max(highest, min(1.0, (len(defined) - rank) * value))
        corrected[i] = highest
    return corrected


def is_non_inferior(difference: Difference, margin: float) -> bool | None:
    """Return whether the first prediction is worse by less than a margin.

    It is, if the end of the difference's 95% interval on its bad side is: a one-sided
    test at 2.5% (Piaggio et al., JAMA 2012;308:2594-2604, the CONSORT extension for
    non-inferiority trials). None if the interval is undefined.

    Args:
        difference: The first minus the second.
        margin: What may be lost, above 0, in the unit of the metric.
    """
    if math.isnan(difference.low):
        return None
    if difference.name in LOWER_IS_BETTER:
        return difference.high < margin
    return difference.low > -margin


def mcnemar(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> McNemar:
    """Compute McNemar's exact test: whether one is correct more often than the other.

    McNemar, Psychometrika 1947;12:153-157, with binomial probabilities. It assumes
    independent samples: where patients have several studies it claims too much.

    Args:
        labels: (N,) of 0 and 1.
        first: (N,) predictions of 0 and 1, or bool.
        second: (N,) predictions, likewise.
    """
    truth = labels == 1
    is_first, is_second = (first == 1) == truth, (second == 1) == truth
    counts = int((is_first & ~is_second).sum()), int((is_second & ~is_first).sum())
    if not sum(counts):
        return McNemar(0, 0, math.nan)
    p = 2 * float(stats.binom.cdf(min(counts), sum(counts), 0.5))
    return McNemar(*counts, min(1.0, p))
