"""Evaluation sets made for tests."""

from __future__ import annotations

import numpy as np

from xenon_mx.evaluation import metrics
from xenon_mx.evaluation.evaluation_set import EvaluationSet


def make_samples(labels, prob, patients=None, study_types=None, **more):
    """Build samples; by default one per patient, and all of one study type."""
    count = len(labels)
    return EvaluationSet(
        labels=np.array(labels, dtype=int),
        prob=np.array(prob, dtype=np.float64),
        patients=list(patients or [f"patient{i:05d}" for i in range(count)]),
        study_types=list(study_types or ["XR_HAND"] * count),
        **more,
    )


def from_outcomes(tp, fn, fp, tn, **more):
    """Build samples with these outcomes: .9 is called abnormal, .1 normal."""
    labels = [1] * (tp + fn) + [0] * (fp + tn)
    prob = [0.9] * tp + [0.1] * fn + [0.9] * fp + [0.1] * tn
    return make_samples(labels, prob, **more)


def noisy_samples(count, seed, patients=None):
    """Build samples whose probabilities correlate with the label, with ties."""
    random = np.random.RandomState(seed)
    labels = random.randint(0, 2, count)
    prob = metrics.sigmoid(random.normal(2 * labels - 1, 1.5)).round(2)
    names = [f"p{i}" for i in random.randint(0, patients or count, count)]
    return make_samples(labels, prob, names)


def by_name(estimates):
    """Return estimates by the name of their metric."""
    return {estimate.name: estimate for estimate in estimates}
