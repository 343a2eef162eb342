"""Two nets on the same studies of clustered patients, with known true differences."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from support.evaluation_sets import make_samples
from xenon_mx.evaluation import metrics

# Standard deviations of what is added to the mean of a logit: by what the studies of a
# patient share, and by each study; for both nets alike, and for each net alone.
PATIENT, STUDY = 0.8, 0.5
NET_PATIENT, NET_STUDY = 0.7, 0.4
SPREAD = math.sqrt(PATIENT**2 + STUDY**2 + NET_PATIENT**2 + NET_STUDY**2)


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

    def noise(of_patient, of_study):
        """Draw what is added to the logits of all studies."""
        by_patient = random.normal(0, of_patient, patients).repeat(studies)
        return by_patient + random.normal(0, of_study, count)

    shared = noise(PATIENT, STUDY)
    names = [f"p{i // studies:04d}" for i in range(count)]
    sets = []
    for separation in separations:
        mean = separation * (labels - 0.5)
        logits = mean + shared + noise(NET_PATIENT, NET_STUDY)
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
