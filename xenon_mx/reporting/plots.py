"""Plots: training and ROC curves, precision-recall, calibration, histogram.

Owns what is drawn on the axes of each plot; must not know matplotlib's settings
(`plot_style`), files, runs or how the numbers were computed.
"""

from __future__ import annotations

import math
from typing import Mapping, NamedTuple, Sequence

import numpy as np

from xenon_mx.reporting.interval_plots import axis_name
from xenon_mx.reporting.plot_style import (
    LIGHT,
    SQUARE_HEIGHT,
    Axes,
    LogFormatter,
    MaxNLocator,
    ThemedSvg,
    make_square,
    render,
)


class Curve(NamedTuple):
    """One quantity over the epochs.

    Attributes:
        name: Name in the legend.
        values: (E,) one value per epoch; NaN leaves a gap.
        has_rings: Whether the epochs of the ensemble are ringed on the curve.
    """

    name: str
    values: Sequence[float]
    has_rings: bool


def draw_training_curves(
    epochs: Sequence[int],
    curves: Sequence[Curve],
    kept: Sequence[int],
    label: str,
    logarithmic: bool = False,
) -> ThemedSvg:
    """Draw up to three quantities over the epochs.

    Args:
        epochs: (E,) numbers of the epochs.
        curves: The quantities.
        kept: Numbers of the epochs whose checkpoints form the ensemble.
        label: Label of the vertical axis.
        logarithmic: Whether the vertical axis is logarithmic.
    """
    kept_index = [i for i, epoch in enumerate(epochs) if epoch in set(kept)]

    def draw(axes: Axes) -> None:
        for curve, colour, style in zip(curves, LIGHT[2:], ("-", "--", ":")):
            values = np.asarray(curve.values, np.float64)
            axes.plot(epochs, values, style, color=colour, marker=".", label=curve.name)
            if curve.has_rings:
                _draw_rings(axes, [epochs[i] for i in kept_index], values[kept_index])
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if logarithmic:
            axes.set_yscale("log")
            # Without exponents, whose letters are too small in print.
            axes.yaxis.set_major_formatter(LogFormatter())
            axes.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncol=3)

    return render(draw)


def _draw_rings(axes: Axes, epochs: Sequence[int], values: np.ndarray) -> None:
    axes.plot(
        epochs,
        values,
        "o",
        markersize=10,
        markerfacecolor="none",
        markeredgecolor=LIGHT.ink,
        markeredgewidth=1.5,
        label="kept" if epochs else None,
    )


def draw_roc_curve(
    curve: tuple[np.ndarray, np.ndarray],
    points: Sequence[tuple[str, float, float]],
    readers: Sequence[tuple[str, float, float]] = (),
) -> ThemedSvg:
    """Draw a receiver operating characteristic.

    Args:
        curve: (P,) false positive rates and (P,) true positive rates.
        points: Name, specificity and sensitivity of up to two operating points; NaN
            is not drawn.
        readers: The same of each reader; the name stands beside the point.
    """

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], ":", color=LIGHT.ink, linewidth=1, label="chance")
        axes.plot(*curve, color=LIGHT.first, label="this ensemble")
        _draw_readers(axes, readers)
        markers = zip(points, (LIGHT.first, LIGHT.second), "oD")
        for (name, specificity, sensitivity), colour, marker in markers:
            axes.plot(
                1 - specificity,
                sensitivity,
                marker,
                color=colour,
                markeredgecolor=LIGHT.ink,
                markersize=9,
                linestyle="none",
                label=name,
            )
        axes.set_xlabel("1 - specificity")
        axes.set_ylabel("sensitivity")
        make_square(axes, margin=0.02)
        axes.legend(loc="lower right")

    return render(draw, SQUARE_HEIGHT)


def _draw_readers(axes: Axes, readers: Sequence[tuple[str, float, float]]) -> None:
    """Draw the operating point of each reader, with its name beside it."""
    if not readers:
        return
    _, specificity, sensitivity = zip(*readers)
    axes.plot(
        1 - np.array(specificity),
        sensitivity,
        "^",
        color=LIGHT.third,
        markeredgecolor=LIGHT.ink,
        markersize=8,
        linestyle="none",
        label="readers" if len(readers) > 1 else "reader",
    )
    for name, other, own in readers:
        if math.isfinite(other) and math.isfinite(own):
            axes.annotate(
                axis_name(name),
                (1 - other, own),
                textcoords="offset points",
                xytext=(7, -3),
                fontsize=8,
            )


def draw_precision_recall_curve(
    curve: tuple[np.ndarray, np.ndarray],
    prevalence: float,
    point: tuple[float, float],
) -> ThemedSvg:
    """Draw precision over recall.

    Args:
        curve: (P,) recall, falling, and (P,) precision, as scikit-learn returns them.
        prevalence: The precision of chance: the share of abnormal samples.
        point: Recall and precision at the threshold; NaN is not drawn.
    """

    def draw(axes: Axes) -> None:
        axes.plot(
            [0, 1], [prevalence] * 2, ":", color=LIGHT.ink, linewidth=1, label="chance"
        )
        # Steps, as scikit-learn draws them: their area is the average precision.
        axes.plot(
            *curve, color=LIGHT.first, drawstyle="steps-post", label="this ensemble"
        )
        recall, precision = point
        axes.plot(
            recall,
            precision,
            "o",
            color=LIGHT.first,
            markeredgecolor=LIGHT.ink,
            markersize=9,
            linestyle="none",
            label="at the threshold",
        )
        axes.set_xlabel("recall (sensitivity)")
        axes.set_ylabel("precision (PPV)")
        make_square(axes, margin=0.02)
        axes.legend(loc="lower left")

    return render(draw, SQUARE_HEIGHT)


def draw_calibration_curve(
    predicted: Sequence[float],
    observed: Sequence[float],
    counts: Sequence[int],
    plural: str,
) -> ThemedSvg:
    """Draw the share of abnormal samples over the predicted probability.

    Args:
        predicted: (B,) mean probability in each bin.
        observed: (B,) share of abnormal samples in each bin.
        counts: (B,) number of samples in each bin, shown by the area of its point.
        plural: `studies` or `images`.
    """

    def draw(axes: Axes) -> None:
        axes.plot(
            [0, 1], [0, 1], ":", color=LIGHT.ink, linewidth=1, label="well calibrated"
        )
        axes.plot(predicted, observed, color=LIGHT.first, linewidth=1.5)
        # Areas in square points: 160 is the largest that two neighbouring bins allow.
        sizes = 20 + 140 * np.asarray(counts, np.float64) / max([*counts, 1])
        axes.scatter(
            predicted, observed, sizes, color=LIGHT.first, label=f"{plural} in a bin"
        )
        axes.set_xlabel("predicted probability of abnormal")
        axes.set_ylabel("share that is abnormal")
        make_square(axes, margin=0.04)
        axes.legend(loc="upper left", markerscale=0.6)

    return render(draw, SQUARE_HEIGHT)


def draw_histogram(
    groups: Mapping[str, np.ndarray], threshold: float, label: str
) -> ThemedSvg:
    """Draw a stacked histogram of probabilities.

    Args:
        groups: Up to two: a name, and probabilities from 0 to 1.
        threshold: Drawn as a vertical line.
        label: Label of the vertical axis.
    """

    def draw(axes: Axes) -> None:
        axes.hist(
            list(groups.values()),
            bins=20,
            range=(0, 1),
            stacked=True,
            color=[LIGHT.first, LIGHT.second][: len(groups)],
            edgecolor=LIGHT.grid,
            label=list(groups),
        )
        axes.axvline(threshold, color=LIGHT.ink, linestyle="--", label="threshold")
        axes.set_xlabel("predicted probability of abnormal")
        axes.set_ylabel(label)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncol=2)

    return render(draw, SQUARE_HEIGHT)
