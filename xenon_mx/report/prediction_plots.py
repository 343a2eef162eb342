"""What a report draws of predictions: curves, with what they show in words.

Owns the choice of what is drawn and the words beside it. The sums are of `evaluation`
and scikit-learn, the look is of `figures`. Knows no tables and no page.
"""

from __future__ import annotations

import math
from typing import Mapping

import numpy as np
from sklearn.metrics import roc_curve

from xenon_mx.evaluation import metrics
from xenon_mx.evaluation.estimates import Estimate
from xenon_mx.evaluation.evaluation_set import EvaluationSet
from xenon_mx.evaluation.prediction_tables import PLURAL
from xenon_mx.evaluation.published import PAPER
from xenon_mx.evaluation.studies import UNLABELLED
from xenon_mx.report import plots
from xenon_mx.report.paper_comparison import value_with_interval
from xenon_mx.report.plots import Plot, format_number


def roc(
    cases: EvaluationSet, found: Mapping[str, Estimate], beside_paper: bool
) -> list[Plot]:
    """The ROC curve; none with one class only, where it is undefined."""
    if math.isnan(found["AUROC"].value):
        return []
    false, true, _ = roc_curve(cases.labels, cases.prob)
    ours = (found["specificity"].value, found["sensitivity"].value)
    points = [("at the threshold", *ours)]
    alt = (
        f"ROC curve with an area of {format_number(found['AUROC'].value)}. At the "
        f"threshold the specificity is {format_number(ours[0])} and the sensitivity "
        f"{format_number(ours[1])}."
    )
    caption = f"ROC, AUROC {value_with_interval(found['AUROC'])}."
    if beside_paper:
        theirs = (PAPER.specificity, PAPER.sensitivity)
        points.append(("the paper's (other test set)", *theirs))
        numbers = f"sensitivity {theirs[1]:.3f}, specificity {theirs[0]:.3f}"
        alt += f" The paper's model, on another test set: {numbers}."
        caption += (
            f" The diamond is the paper's operating point ({numbers}), of another test "
            f"set."
        )
    return [Plot(plots.roc((false, true), points), alt, caption)]


def calibration(cases: EvaluationSet, found: Mapping[str, Estimate]) -> Plot:
    """How often cases were abnormal, against how often they were said to be."""
    bins = [
        (float(mean), float(share), int(count))
        for mean, share, count in zip(*metrics.reliability(cases.labels, cases.prob))
        if count
    ]
    predicted, observed, counts = zip(*bins)
    said = "; ".join(f"{p:.2f}: {o:.2f} of {c}" for p, o, c in bins)
    return Plot(
        plots.calibration(predicted, observed, counts, PLURAL[cases.level]),
        f"Reliability diagram. Mean predicted probability and share that is abnormal, "
        f"bin by bin: {said}.",
        f"Calibration. On the dotted line a probability is what it says. Calibration "
        f"error {value_with_interval(found['calibration error'])}, Brier score "
        f"{value_with_interval(found['Brier score'])}.",
    )


def histogram(
    prob: np.ndarray, labels: np.ndarray, threshold: float, plural: str
) -> Plot:
    """How many cases, in one word `plural`, were given which probability."""
    above = int((prob > threshold).sum())
    names = {
        UNLABELLED: "without a label",
        0: "labelled normal",
        1: "labelled abnormal",
    }
    groups = {name: prob[labels == label] for label, name in names.items()}
    return Plot(
        plots.histogram({n: p for n, p in groups.items() if len(p)}, threshold, plural),
        f"Histogram of the predicted probabilities of {len(prob)} {plural}: {above} "
        f"above the threshold of {threshold:g}, {len(prob) - above} not.",
        f"How many {plural} were given which probability.",
    )
