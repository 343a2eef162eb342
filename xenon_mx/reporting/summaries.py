"""What predictions show: their tables, plots and estimates.

Owns what the page shows of predictions with and without labels; must not know how
metrics are computed (`evaluation`), how plots are drawn, or the page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Sequence

import numpy as np
from sklearn.metrics import confusion_matrix

from xenon_mx.evaluation.estimates import (
    Estimate,
    evaluate_by_study_type,
    evaluate_by_subgroup,
    names_at,
    subgroup_columns,
)
from xenon_mx.evaluation.evaluation_set import OVERALL, EvaluationSet, from_table
from xenon_mx.evaluation.leakage import leakage_warnings
from xenon_mx.evaluation.prediction_tables import (
    PLURAL,
    PredictionTable,
    count_phrase,
)
from xenon_mx.reporting import plot_captions, sample_size_table
from xenon_mx.reporting.estimate_tables import (
    MetricRow,
    metric_rows,
    subgroup_rows,
    subgroup_tables,
    types_tables,
)
from xenon_mx.reporting.origin import Origin
from xenon_mx.reporting.paper_comparison import (
    PaperComparison,
    compare_with_paper,
    is_comparable,
)
from xenon_mx.reporting.plot_style import Plot
from xenon_mx.reporting.sample_size_table import SampleSizes
from xenon_mx.reporting.tables import Table, format_cell, format_estimate
from xenon_mx.runtime.text import counted

_HEADLINE = ("kappa", "AUROC", "sensitivity", "specificity", "PPV", "NPV")
_PATIENTS_UNKNOWN = (
    "Patients unknown: each study counts as a patient of its own, and if some are of "
    "the same patient, the intervals are too narrow."
)
_NOT_COMPARABLE = "Metrics of single images are not comparable with metrics of studies."


class HeadlineMetric(NamedTuple):
    """A metric in large letters."""

    name: str
    value: str
    interval: str


class ConfusionMatrix(NamedTuple):
    """Counts of label and prediction, in scikit-learn's order."""

    true_negative: int
    false_positive: int
    false_negative: int
    true_positive: int


@dataclass(frozen=True)
class ImageSummary:
    """The estimates of single images, given beside studies."""

    about: str
    types: list[Table]
    rows: list[MetricRow]


@dataclass(frozen=True)
class Summary:
    """What the predictions show; without labels, only the first three attributes.

    The patients of the samples are known unless `patients` says otherwise.

    Attributes:
        about: What was predicted, and how to read it.
        types: The estimates, or without labels the predictions, of each study type.
        plots: ROC and precision-recall curve, calibration and probabilities.
        warnings: Why the estimates may be better than the nets are.
        rows: All estimates, of the samples and of single images.
        headline: The most important estimates, over all samples.
        prevalence: What PPV and NPV are at which prevalence, in words.
        confusion: Labels against predictions.
        comparison: Kappa beside the paper's; of studies only.
        images: The estimates of single images, if they were given beside studies.
        subgroups: The estimates of the subgroups of each further column, by its name.
        patients: A sentence if patients are unknown, else empty.
        samples: What the estimates are of.
        sample_sizes: How many patients intervals need.
    """

    about: str
    types: list[Table]
    plots: list[Plot]
    warnings: list[str] = field(default_factory=list)
    rows: list[MetricRow] = field(default_factory=list)
    headline: list[HeadlineMetric] = field(default_factory=list)
    prevalence: str = ""
    confusion: ConfusionMatrix | None = None
    comparison: PaperComparison | None = None
    images: ImageSummary | None = None
    subgroups: dict[str, list[Table]] = field(default_factory=dict)
    patients: str = ""
    samples: str = ""
    sample_sizes: SampleSizes | None = None


def summarize_unlabelled(table: PredictionTable, threshold: float) -> Summary:
    """Summarize predictions without labels: their counts and probabilities."""
    plural = PLURAL[table.level]
    study_types = np.array(table.study_types)
    rows = []
    for name in [*sorted(set(table.study_types)), OVERALL]:
        prob = table.prob[(study_types == name) | (name == OVERALL)]
        abnormal = int((prob > threshold).sum())
        rows.append((name or "none", f"{len(prob):,}", f"{abnormal:,}"))
    return Summary(
        about=f"{count_phrase(len(study_types), table.level)} without labels: whether "
        f"the predictions are correct cannot be evaluated.",
        types=[
            Table(
                "Predictions by study type",
                ("study type", plural, "called abnormal"),
                rows,
            )
        ],
        plots=[
            plot_captions.histogram_plot(table.prob, table.labels, threshold, plural)
        ],
    )


def summarize_labelled(
    table: PredictionTable,
    image_table: PredictionTable | None,
    origin: Origin,
    prevalence: float | None,
    readers: Sequence[tuple[str, float, float]] = (),
) -> Summary:
    """Summarize predictions with labels: their estimates.

    Args:
        table: The table of predictions.
        image_table: The table of their images, if given.
        origin: Where the predictions come from.
        prevalence: Adds PPV and NPV at this prevalence.
        readers: Name, specificity and sensitivity of each reader, for the ROC curve.
    """
    samples, threshold = from_table(table), origin.threshold
    by_type = evaluate_by_study_type(samples, threshold, prevalence=prevalence)
    by_subgroup = {
        column: evaluate_by_subgroup(samples, column, threshold, prevalence=prevalence)
        for column in subgroup_columns(samples)
    }
    rows = metric_rows(samples, by_type)
    for column, by_value in by_subgroup.items():
        rows += subgroup_rows(samples, column, by_value)
    images = None
    if image_table is not None:
        images = _summarize_images(image_table, threshold, prevalence)
        rows += images.rows
    return Summary(
        about=_about(samples, threshold),
        types=types_tables(samples, by_type, threshold),
        plots=_plots(samples, by_type[OVERALL], threshold, readers),
        warnings=[
            *origin.elsewhere_warnings,
            *leakage_warnings(
                samples,
                by_type,
                origin.validated_on,
                needs_no_guess=origin.seen is not None or origin.is_from_elsewhere,
            ),
        ],
        rows=rows,
        headline=_headline(by_type[OVERALL]),
        prevalence=_prevalence(samples, by_type[OVERALL], prevalence),
        confusion=_confusion_matrix(samples, threshold),
        comparison=compare_with_paper(samples, by_type, threshold),
        images=images,
        subgroups={
            column: subgroup_tables(samples, column, by_value, threshold)
            for column, by_value in by_subgroup.items()
        },
        patients="" if samples.patients_known else _PATIENTS_UNKNOWN,
        samples=_sample_counts(samples),
        sample_sizes=sample_size_table.summarize(samples, threshold),
    )


def _summarize_images(
    table: PredictionTable, threshold: float, prevalence: float | None
) -> ImageSummary:
    samples = from_table(table)
    by_type = evaluate_by_study_type(samples, threshold, prevalence=prevalence)
    return ImageSummary(
        about=f"{_sample_counts(samples)}; predicted by "
        f"{counted(table.members, 'member')}. {_NOT_COMPARABLE}",
        types=types_tables(samples, by_type, threshold),
        rows=metric_rows(samples, by_type),
    )


def _about(samples: EvaluationSet, threshold: float) -> str:
    """Return what was predicted, and how to read it."""
    about = (
        f"{_sample_counts(samples)}; called abnormal if the probability is above "
        f"{threshold:g}."
    )
    return f"{about} {_NOT_COMPARABLE}" if samples.level == "image" else about


def _sample_counts(samples: EvaluationSet) -> str:
    """Return the numbers of samples, patients and abnormal labels, in words."""
    patients = len(set(samples.patients))
    of = f"of {counted(patients, 'patient')}"
    if not samples.patients_known:
        of = "(patients unknown)"
    return (
        f"{count_phrase(len(samples.labels), samples.level)} {of}, "
        f"{int(samples.labels.sum()):,} labelled abnormal"
    )


def _plots(
    samples: EvaluationSet,
    estimates: Sequence[Estimate],
    threshold: float,
    readers: Sequence[tuple[str, float, float]],
) -> list[Plot]:
    by_name = {estimate.name: estimate for estimate in estimates}
    return [
        *plot_captions.roc_plots(samples, by_name, is_comparable(samples), readers),
        *plot_captions.precision_recall_plots(samples, by_name),
        plot_captions.calibration_plot(samples, by_name),
        plot_captions.histogram_plot(
            samples.prob, samples.labels, threshold, PLURAL[samples.level]
        ),
    ]


def _headline(estimates: Sequence[Estimate]) -> list[HeadlineMetric]:
    by_name = {estimate.name: estimate for estimate in estimates}
    headline = []
    for name in _HEADLINE:
        value, _, interval = format_cell(by_name[name]).partition("\n")
        headline.append(HeadlineMetric(name, value, interval))
    return headline


def _prevalence(
    samples: EvaluationSet, estimates: Sequence[Estimate], asked: float | None
) -> str:
    """Return which prevalence PPV and NPV hold at, and what they are at another."""
    about = (
        f"PPV and NPV hold at the prevalence of these {PLURAL[samples.level]}: "
        f"{samples.labels.mean():.1%} are labelled abnormal."
    )
    if asked is None:
        return about
    by_name = {estimate.name: estimate for estimate in estimates}
    ppv, npv = (format_estimate(by_name[name]) for name in names_at(asked))
    return (
        f"{about} At a prevalence of {100 * asked:g}%, PPV is {ppv} and NPV {npv}, if "
        f"sensitivity and specificity are the same there. Where abnormalities are "
        f"milder, sensitivity usually is lower."
    )


def _confusion_matrix(samples: EvaluationSet, threshold: float) -> ConfusionMatrix:
    predictions = (samples.prob > threshold).astype(int)
    counts = confusion_matrix(samples.labels, predictions, labels=[0, 1])
    return ConfusionMatrix(*(int(count) for count in counts.ravel()))
