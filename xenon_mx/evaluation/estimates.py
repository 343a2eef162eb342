"""Metrics with 95% confidence intervals, of each study type and pooled.

Owns the number of bootstrap repeats and the smallest number of patients that gets an
interval; must not know files, nets, runs or pages.
"""

from __future__ import annotations

import math
from typing import Iterator, NamedTuple

import numpy as np

from xenon_mx.config import THRESHOLD
from xenon_mx.evaluation import bootstrap, metrics
from xenon_mx.evaluation.evaluation_set import OVERALL, EvaluationSet
from xenon_mx.evaluation.prediction_tables import DECISION_COLUMNS

# Chosen here: another seed then moves an end of an interval by about 2% of its width.
REPEATS = 1000
# Measured on simulated nets, 300 per size: with 3 patients, the intervals of kappa held
# the true value in 87% of the simulations; with 5 to 60 patients, in 91 to 97%.
_FEWEST_PATIENTS = 5
# Chosen here: a column of one value has no subgroups, and of more than 20 values, such
# as ages in years, each has too few patients.
_SUBGROUPS = range(2, 21)


# Metrics whose draws lie beside the metric: see `bootstrap.bias_corrected_interval`.
_BIASED = ("calibration error",)


class Estimate(NamedTuple):
    """A metric and its 95% interval; NaN is undefined."""

    name: str
    value: float
    low: float
    high: float


class Drawn(NamedTuple):
    """Every metric by name, and its value in each of R draws: (R,) each."""

    values: dict[str, float]
    draws: dict[str, np.ndarray]

    def estimate(self, name: str) -> Estimate:
        """Return a metric with its interval."""
        return from_draws(name, self.values[name], self.draws[name])


def evaluate(
    samples: EvaluationSet,
    threshold: float = THRESHOLD,
    repeats: int = REPEATS,
    seed: int = 0,
    prevalence: float | None = None,
) -> list[Estimate]:
    """Compute every metric over all samples, with its 95% interval.

    The interval is the percentile interval of a bootstrap over patients: all samples of
    a patient are drawn together. Draws in which a metric is undefined are left out, see
    `bootstrap.percentile_interval`; with fewer than five patients all intervals are
    undefined. That of the calibration error is corrected for its bias, see
    `bootstrap.bias_corrected_interval`. Every interval holds its value: one that would
    not is undefined.

    Args:
        samples: Studies or images.
        threshold: A sample is called abnormal if its probability is strictly above.
        repeats: Number of bootstrap draws; 0 leaves all intervals undefined.
        seed: Seed of the draws. The order of the samples does not matter.
        prevalence: Above 0 and below 1: adds PPV and NPV at this prevalence.

    Returns:
        One estimate per metric, in the order of `metrics.METRICS`, then those of
        `names_at(prevalence)`.
    """
    drawn = draw(samples, threshold, repeats, seed)
    estimates = [drawn.estimate(name) for name in metrics.METRICS]
    if prevalence is not None:
        estimates += _estimates_at(prevalence, drawn)
    return estimates


def draw(
    samples: EvaluationSet, threshold: float, repeats: int = REPEATS, seed: int = 0
) -> Drawn:
    """Compute every metric over all samples, and over draws of the patients.

    The draws depend on nothing but the seed and the patients: they are the same for
    two predictions of the same samples.

    Args:
        samples: Studies or images.
        threshold: A sample is called abnormal if its probability is strictly above.
        repeats: Number of draws; with fewer than five patients there are none.
        seed: Seed of the draws.
    """
    if len(set(samples.patients)) < _FEWEST_PATIENTS:
        repeats = 0
    draws = bootstrap.bootstrap_metrics(
        labels=samples.labels,
        prob=samples.prob,
        patients=samples.patients,
        threshold=threshold,
        repeats=repeats,
        seed=seed,
    )
    values = metrics.compute_all(samples.labels, samples.prob, threshold)
    return Drawn(values, draws)


def names_at(prevalence: float) -> tuple[str, str]:
    """Return the names of PPV and NPV at a prevalence."""
    return f"PPV at prevalence {prevalence:g}", f"NPV at prevalence {prevalence:g}"


def _estimates_at(prevalence: float, drawn: Drawn) -> Iterator[Estimate]:
    """Yield PPV and NPV at a prevalence, of the same draws of patients."""
    names = ("sensitivity", "specificity")
    value = metrics.predictive_values_at(
        prevalence, *(np.array([drawn.values[name]]) for name in names)
    )
    draws = metrics.predictive_values_at(
        prevalence, *(drawn.draws[name] for name in names)
    )
    for name, one, many in zip(names_at(prevalence), value, draws):
        yield from_draws(name, float(one[0]), many)


def from_draws(name: str, value: float, draws: np.ndarray) -> Estimate:
    """Return a metric with the interval of its (R,) draws, which holds the value."""
    if name in _BIASED:
        interval = bootstrap.bias_corrected_interval(draws, value)
    else:
        interval = bootstrap.percentile_interval(draws)
    low, high = interval.low, interval.high
    if not low - bootstrap.ROUNDING <= value <= high + bootstrap.ROUNDING:
        return Estimate(name, value, math.nan, math.nan)
    return Estimate(name, value, min(low, value), max(high, value))


def evaluate_by_study_type(
    samples: EvaluationSet,
    threshold: float = THRESHOLD,
    repeats: int = REPEATS,
    seed: int = 0,
    prevalence: float | None = None,
) -> dict[str, list[Estimate]]:
    """Compute the estimates of each study type, sorted by name, then of `overall`."""
    return {
        name: evaluate(samples.select(name), threshold, repeats, seed, prevalence)
        for name in [*sorted(set(samples.study_types)), OVERALL]
    }


def subgroup_columns(samples: EvaluationSet) -> list[str]:
    """Return the further columns whose values are subgroups: 2 to 20 of them."""
    return [
        name
        for name, cells in samples.columns.items()
        if name not in DECISION_COLUMNS and len(set(cells)) in _SUBGROUPS
    ]


def evaluate_by_subgroup(
    samples: EvaluationSet,
    column: str,
    threshold: float = THRESHOLD,
    repeats: int = REPEATS,
    seed: int = 0,
    prevalence: float | None = None,
) -> dict[str, list[Estimate]]:
    """Compute the estimates for each value of a further column, sorted by value."""
    return {
        value: evaluate(
            samples.subgroup(column, value), threshold, repeats, seed, prevalence
        )
        for value in sorted(set(samples.columns[column]))
    }
