"""How many patients an interval of a given width would need.

Owns the projection from the spread that was measured; must not know files or pages.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from xenon_mx.evaluation import bootstrap, estimates
from xenon_mx.evaluation.estimates import REPEATS
from xenon_mx.evaluation.evaluation_set import EvaluationSet

METRICS = ("kappa", "AUROC", "sensitivity")
MARGINS = (0.05, 0.02)  # chosen here: a rough estimate, and one that ranks models


class SampleSize(NamedTuple):
    """How many patients the intervals of a metric need.

    Attributes:
        metric: Its name.
        margin: Half the width of its 95% interval with the patients there are; NaN if
            undefined.
        patients: A margin to the patients that it needs; None if undefined.
    """

    metric: str
    margin: float
    patients: dict[float, int | None]


def sample_sizes(
    samples: EvaluationSet, threshold: float, repeats: int = REPEATS, seed: int = 0
) -> list[SampleSize]:
    """Compute the patients that intervals of kappa, AUROC and sensitivity need.

    Args:
        samples: Studies or images.
        threshold: A sample is called abnormal if its probability is strictly above.
        repeats: Number of draws of the patients.
        seed: Seed of the draws.
    """
    drawn = estimates.draw(samples, threshold, repeats, seed)
    patients = len(set(samples.patients))
    sizes = []
    for name in METRICS:
        estimate = drawn.estimate(name)
        draws = drawn.draws[name]
        sizes.append(
            SampleSize(
                name,
                (estimate.high - estimate.low) / 2,
                {
                    margin: patients_needed(draws, patients, margin)
                    for margin in MARGINS
                },
            )
        )
    return sizes


def patients_needed(draws: np.ndarray, patients: int, margin: float) -> int | None:
    """Compute how many patients a metric's 95% interval of +- margin needs.

    The standard deviation of the draws is proportional to 1 / sqrt(patients), and the
    interval of a metric of many patients is normal: 1.96 standard deviations on either
    side. This assumes patients like those that were measured: the same share of
    abnormal studies, as many studies per patient, and the same difficulty.

    Args:
        draws: (R,) the metric in draws of the patients, NaN where it is undefined.
        patients: The number of patients that were drawn from.
        margin: Half the width of the interval, above 0.

    Returns:
        None if the interval of these draws is undefined.
    """
    if math.isnan(bootstrap.percentile_interval(draws).low):
        return None
    quantile = float(stats.norm.ppf((1 + bootstrap.LEVEL) / 2))
    now = quantile * float(np.nanstd(draws, ddof=1))
    return math.ceil(patients * (now / margin) ** 2)
