"""Two nets on the same studies of clustered patients, with known true differences."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from support.evaluation_sets import make_samples
from xenon_mx.evaluation import metrics

# Of a logit: what the studies of a patient share (nets alike), what both nets see in a
# study, and what only one net sees.
PATIENT, STUDY, NET = 0.8, 0.6, 0.6
SPREAD = math.sqrt(PATIENT**2 + STUDY**2 + NET**2)


def simulate(random, patients, studies, separations):
    """Draw the studies of some patients and the probabilities of two nets.

    A logit is normal: its mean is half the separation, above 0 for abnormal studies and
    below 0 for normal ones. Half of the studies are abnormal.

    Args:
        random: The generator.
        patients: Number of patients.
        studies: Number of studies of each patient.
        separations: Between the mean logits of both classes, of each net.

    Returns:
        Two evaluation sets of the same samples.
    """
    count = patients * studies
    labels = random.randint(0, 2, count)
    shared = random.normal(0, PATIENT, patients).repeat(studies)
    shared = shared + random.normal(0, STUDY, count)
    names = [f"p{i // studies:04d}" for i in range(count)]
    sets = []
    for separation in separations:
        logits = separation * (labels - 0.5) + shared + random.normal(0, NET, count)
        sets.append(make_samples(labels, metrics.sigmoid(logits), names))
    return sets


def true_values(separation):
    """Return the metrics of a net over infinitely many patients, at a threshold of .5.

    With two normal distributions of equal spread: sensitivity and specificity are
    P(z < d / 2s); kappa is their sum minus 1, since half is abnormal; the AUROC is
    P(z < d / (s sqrt 2)); the Brier score is an integral.
    """
    correct = float(stats.norm.cdf(separation / 2 / SPREAD))
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    logits = separation / 2 + SPREAD * nodes
    errors = (1 - metrics.sigmoid(logits)) ** 2
    return {
        "kappa": 2 * correct - 1,
        "AUROC": float(stats.norm.cdf(separation / SPREAD / math.sqrt(2))),
        "sensitivity": correct,
        "specificity": correct,
        "Brier score": float((weights * errors).sum() / weights.sum()),
    }
