"""Plots of predictions with alt texts: ROC, precision-recall, calibration, histogram.

Owns which numbers are plotted, and the words beside them; must not know how a plot is
drawn (`plots`), tables or the page.
"""

from __future__ import annotations

import math
from typing import Mapping, Sequence

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_curve

from xenon_mx.evaluation import metrics
from xenon_mx.evaluation.estimates import Estimate
from xenon_mx.evaluation.evaluation_set import EvaluationSet
from xenon_mx.evaluation.prediction_tables import PLURAL
from xenon_mx.evaluation.published import PAPER
from xenon_mx.evaluation.studies import UNLABELLED
from xenon_mx.reporting import plots
from xenon_mx.reporting.plot_style import Plot
from xenon_mx.reporting.tables import format_estimate
from xenon_mx.runtime.text import format_number, one_line


def roc_plots(
    samples: EvaluationSet,
    estimates: Mapping[str, Estimate],
    with_paper: bool,
    readers: Sequence[tuple[str, float, float]] = (),
) -> list[Plot]:
    """Return the plot of the ROC curve; none with one class only.

    Args:
        samples: Studies or images.
        estimates: The pooled estimates, by name.
        with_paper: Whether to show the paper's operating point.
        readers: Name, specificity and sensitivity of each reader.
    """
    auroc = estimates["AUROC"]
    if math.isnan(auroc.value):
        return []
    false_positive, true_positive, _ = roc_curve(samples.labels, samples.prob)
    specificity = estimates["specificity"].value
    sensitivity = estimates["sensitivity"].value
    points = [("at the threshold", specificity, sensitivity)]
    alt = (
        f"ROC curve with an area of {format_number(auroc.value)}. At the threshold, "
        f"the specificity is {format_number(specificity)} and the sensitivity "
        f"{format_number(sensitivity)}."
    )
    caption = f"ROC curve. AUROC {format_estimate(auroc)}."
    if with_paper:
        points.append(
            ("the paper's (other test set)", PAPER.specificity, PAPER.sensitivity)
        )
        paper = (
            f"sensitivity {PAPER.sensitivity:.3f}, specificity {PAPER.specificity:.3f}"
        )
        alt += f" The paper's model, on another test set: {paper}."
        caption += (
            f" The diamond is the operating point of the paper's model on another test "
            f"set ({paper})."
        )
    if readers:
        found = "; ".join(
            f"{one_line(name)} {format_number(sensitivity)} and {format_number(other)}"
            for name, other, sensitivity in readers
        )
        alt += f" Sensitivity and specificity of the readers: {found}."
        caption += (
            " Each triangle is a reader, on the studies that the reader read. Above "
            "the curve, a reader has a higher sensitivity than this ensemble at the "
            "same specificity."
        )
    drawing = plots.draw_roc_curve((false_positive, true_positive), points, readers)
    return [Plot(drawing, alt, caption)]


def precision_recall_plots(
    samples: EvaluationSet, estimates: Mapping[str, Estimate]
) -> list[Plot]:
    """Return the plot of the precision-recall curve; none with one class only.

    Args:
        samples: Studies or images.
        estimates: The pooled estimates, by name.
    """
    average = estimates["average precision"]
    if math.isnan(average.value):
        return []
    precision, recall, _ = precision_recall_curve(samples.labels, samples.prob)
    prevalence = float(samples.labels.mean())
    sensitivity, ppv = estimates["sensitivity"].value, estimates["PPV"].value
    return [
        Plot(
            plots.draw_precision_recall_curve(
                (recall, precision), prevalence, (sensitivity, ppv)
            ),
            f"Precision-recall curve with an average precision of "
            f"{format_number(average.value)}. At the threshold, the recall is "
            f"{format_number(sensitivity)} and the precision {format_number(ppv)}. "
            f"Chance has a precision of {prevalence:.3f}.",
            f"Precision-recall curve. Average precision {format_estimate(average)}. On "
            f"the dotted line, the precision is the prevalence: {prevalence:.1%} of "
            f"these {PLURAL[samples.level]} are abnormal.",
        )
    ]


def calibration_plot(
    samples: EvaluationSet,
    estimates: Mapping[str, Estimate],
    what: str = "the probabilities as predicted",
) -> Plot:
    """Return the plot of the share of abnormal samples over the probability.

    Args:
        samples: Studies or images.
        estimates: The pooled estimates, by name.
        what: Of which probabilities, in words.
    """
    bins = [
        (float(mean), float(share), int(count))
        for mean, share, count in zip(
            *metrics.reliability(samples.labels, samples.prob)
        )
        if count
    ]
    predicted, observed, counts = zip(*bins)
    points = "; ".join(f"{p:.2f}: {o:.2f} of {c}" for p, o, c in bins)
    return Plot(
        plots.draw_calibration_curve(
            predicted, observed, counts, PLURAL[samples.level]
        ),
        f"Reliability diagram of {what}. Mean predicted probability and share of "
        f"abnormal {PLURAL[samples.level]}, bin by bin: {points}.",
        f"Calibration of {what}. On the dotted line, the share of abnormal "
        f"{PLURAL[samples.level]} equals the predicted probability. Calibration error "
        f"{format_estimate(estimates['calibration error'])}, Brier score "
        f"{format_estimate(estimates['Brier score'])}.",
    )


def histogram_plot(
    prob: np.ndarray, labels: np.ndarray, threshold: float, plural: str
) -> Plot:
    """Return the histogram of probabilities, by label.

    Args:
        prob: (N,) probabilities, 0 to 1.
        labels: (N,) 1 abnormal, 0 normal, or `UNLABELLED`.
        threshold: Drawn as a line.
        plural: `studies` or `images`.
    """
    above = int((prob > threshold).sum())
    names = {
        UNLABELLED: "without a label",
        0: "labelled normal",
        1: "labelled abnormal",
    }
    groups = {name: prob[labels == label] for label, name in names.items()}
    filled = {name: values for name, values in groups.items() if len(values)}
    return Plot(
        plots.draw_histogram(filled, threshold, plural),
        f"Histogram of the predicted probabilities of {len(prob)} {plural}: {above} "
        f"above the threshold of {threshold:g}, {len(prob) - above} not.",
        f"Number of {plural} by predicted probability.",
    )
