"""The threshold that keeps a promise: of a sensitivity, or of a specificity.

Owns which thresholds are tried, in which order, and when there is none. Must not know
files or nets.

The thresholds are gone through from the safest on, at which nothing is missed, and the
search stops at the first one whose lower bound does not hold the target: fixed sequence
testing, as in Angelopoulos et al., "Learn then Test", arXiv 2110.01052, section 2.3. Of
all thresholds that break the promise, only the safest one is then ever tested first, so
that the level of one bound is that of the whole search.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.evaluation import clustered_bound, cross_fitting, metrics
from xenon_mx.evaluation.evaluation_set import EvaluationSet
from xenon_mx.evaluation.studies import threshold_between

SENSITIVITY, SPECIFICITY, KAPPA = "sensitivity", "specificity", "kappa"
_CLASS = {SENSITIVITY: "an abnormal", SPECIFICITY: "a normal"}  # whose studies count
_OTHER = {SENSITIVITY: SPECIFICITY, SPECIFICITY: SENSITIVITY}


class Promised(NamedTuple):
    """A threshold and what it promises.

    Attributes:
        threshold: A study is called abnormal if its probability is strictly above.
        estimate: The sensitivity (or specificity) of these very studies.
        bound: Its one-sided 95% lower bound, which holds the target.
    """

    threshold: float
    estimate: float
    bound: float


class Best(NamedTuple):
    """A threshold that promises nothing.

    Attributes:
        threshold: A study is called abnormal if its probability is strictly above.
        value: The kappa of these very studies, which chose the threshold: too good.
        cross_fitted: The kappa if each patient's threshold is chosen on others.
    """

    threshold: float
    value: float
    cross_fitted: float


def promise(samples: EvaluationSet, kind: str, target: float) -> Promised:
    """Find the threshold that holds a target, and leaves most of the other measure.

    Args:
        samples: Studies of both classes.
        kind: `SENSITIVITY` or `SPECIFICITY`.
        target: The share that is promised, above 0 and below 1.

    Raises:
        XenonError: There are too few patients, or no useful threshold holds the target.
    """
    own = samples.labels == (1 if kind == SENSITIVITY else 0)
    patients = np.asarray(samples.patients, dtype=str)[own]
    _check_enough(patients, kind, target)
    # From the safest threshold on, the study nearest to it is missed first.
    order = np.argsort(samples.prob[own] * _direction(kind), kind="stable")
    prob = samples.prob[own][order]
    bounds = clustered_bound.lower_bounds(list(patients[order]))
    # Studies of one probability are missed together: states between do not exist.
    states = np.flatnonzero(np.concatenate([[True], prob[1:] != prob[:-1]]))
    fails = np.flatnonzero(bounds[states] < target)
    held = int(fails[0]) if len(fails) else len(states)
    if not held:
        raise _too_few(patients, kind, target)
    missed = int(states[held - 1])
    threshold = _widest(samples, kind, float(prob[missed]))
    _check_useful(samples, kind, target, threshold)
    estimate = 1 - missed / len(prob)
    return Promised(threshold, estimate, float(bounds[missed]))


def best_kappa(samples: EvaluationSet) -> Best:
    """Find the threshold with the highest kappa, the lowest of equal ones.

    Args:
        samples: Studies of both classes, at least two patients of each.
    """
    labels, prob = samples.labels, samples.prob
    threshold = _highest_kappa(labels, prob)
    predictions = np.zeros(len(labels), dtype=np.int64)
    for others, own in cross_fitting.splits(labels, samples.patients):
        chosen = _highest_kappa(labels[others], prob[others])
        predictions[own] = prob[own] > chosen
    return Best(
        threshold=threshold,
        value=metrics.kappa(labels, (prob > threshold).astype(np.int64)),
        cross_fitted=metrics.kappa(labels, predictions),
    )


def _direction(kind: str) -> int:
    """Return 1 if the lowest probabilities are missed first, -1 if the highest are."""
    return 1 if kind == SENSITIVITY else -1


def _widest(samples: EvaluationSet, kind: str, next_missed: float) -> float:
    """Return the threshold farthest from the safest, of those that miss no more.

    Args:
        samples: All studies.
        kind: See `promise`.
        next_missed: The probability of the study that would be missed next.
    """
    if kind == SPECIFICITY:  # a study with the probability itself is normal
        above = samples.prob[samples.prob > next_missed]
        return threshold_between(next_missed, float(above.min()) if len(above) else 1.0)
    below = samples.prob[samples.prob < next_missed]
    return threshold_between(float(below.max()) if len(below) else 0.0, next_missed)


def _check_enough(patients: np.ndarray, kind: str, target: float) -> None:
    """Raise an error if even without a miss the bound would be below the target."""
    count = len(np.unique(patients))
    if count < clustered_bound.fewest_patients(target):
        raise _too_few(patients, kind, target)


def _too_few(patients: np.ndarray, kind: str, target: float) -> XenonError:
    """Return the error of too few patients, with the number that would be enough."""
    _, sizes = np.unique(patients, return_counts=True)
    # Patients with several studies count less than as many patients of one size.
    unequal = len(sizes) * float((sizes**2).sum()) / float(sizes.sum()) ** 2
    needed = math.ceil(clustered_bound.fewest_patients(target) * unequal)
    return XenonError(
        f"--{kind} {target:g} needs about {needed} patients with {_CLASS[kind]} study, "
        f"if not one of their studies is missed, and more if some are; there are "
        f"{len(sizes)}: decide on more patients, or promise less"
    )


def _check_useful(
    samples: EvaluationSet, kind: str, target: float, threshold: float
) -> None:
    """Raise an error if the threshold is no better than a coin."""
    above = samples.prob > threshold
    right = {
        SENSITIVITY: above[samples.labels == 1],
        SPECIFICITY: ~above[samples.labels == 0],
    }
    (tp, abnormal), (tn, normal) = ((int(r.sum()), len(r)) for r in right.values())
    # Sensitivity and specificity add up to 1 at most; in integers, so exactly.
    if tp * normal + tn * abnormal <= abnormal * normal:
        left = float(right[_OTHER[kind]].mean())
        raise XenonError(
            f"--{kind} {target:g}: no useful threshold holds it: the one that does "
            f"leaves a {_OTHER[kind]} of {left:.3f}, no better than a coin: decide on "
            f"more patients, or promise less"
        )


def _highest_kappa(labels: np.ndarray, prob: np.ndarray) -> float:
    """Return the lowest of the thresholds with the highest kappa.

    The probabilities themselves are tried, and 0: at the highest one nothing is
    called abnormal, and kappa is 0.
    """
    thresholds = np.unique(np.concatenate([[0.0], prob]))
    ordered = [np.sort(prob[labels == label]) for label in (0, 1)]
    tn, fn = (np.searchsorted(x, thresholds, side="right") for x in ordered)
    normal, abnormal = (len(x) for x in ordered)
    fp, tp = normal - tn, abnormal - fn
    # Cohen's (pa - pe) / (1 - pe), multiplied out.
    disagreement = (tp + fp) * normal + abnormal * (fn + tn)
    kappas = 2 * (tp * tn - fp * fn) / disagreement
    best = int(np.argmax(kappas))
    above = [*thresholds[1:], 1.0]
    return threshold_between(float(thresholds[best]), float(above[best]))
