"""How good a run's predictions are, in words and tables.

Owns what a report says of the tables of xenon-predict. Every figure in it is of
`evaluation`; what is drawn is of `drawings`, the pictures are of `gallery`. Knows no
page.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Mapping, NamedTuple, Sequence

import numpy as np
from sklearn.metrics import confusion_matrix

from xenon_mx.config import ReportConfig
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.evaluation import metrics, scores
from xenon_mx.evaluation.evaluation_set import EvaluationSet, from_table
from xenon_mx.evaluation.prediction_tables import (
    PLURAL,
    PredictionTable,
    count_phrase,
    read_table,
)
from xenon_mx.evaluation.scores import OVERALL, Estimate
from xenon_mx.report import gallery, paper_comparison
from xenon_mx.report import prediction_plots as drawings
from xenon_mx.report.paper_comparison import value_with_interval
from xenon_mx.report.plots import Plot, Table, format_number
from xenon_mx.runs.run_folder import Run
from xenon_mx.runtime import files

_HEADLINE = ("kappa", "AUROC", "sensitivity", "specificity")
_ROUNDING = 2e-9  # of two means of numbers of nine digits
_OF_IMAGES = "These are figures of single images: not comparable with studies'."


class Headline(NamedTuple):
    """A figure in large letters."""

    name: str
    value: str
    interval: str


class Confusion(NamedTuple):
    """How many cases of each label were called what."""

    true_normal: int
    false_abnormal: int
    false_normal: int
    true_abnormal: int


class MetricRow(NamedTuple):
    """A figure with its 95% interval, and what it is of: a line of `--figures`."""

    level: str
    study_type: str
    cases: int
    abnormal: int
    figure: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Results:
    """What a report shows of predictions; without labels, most of it is empty.

    Attributes:
        source: The table that they stand in.
        sha256: Of its bytes.
        names: The study or the image of each of its rows.
        threshold: Abnormal if strictly above.
        cases: A case in one word, plural: `studies` or `images`.
        about: What was predicted.
        warnings: Why the figures may be better than the nets are.
        rows: Every figure, of the cases and of single images.
        headline: The four figures that count most, over all cases.
        confusion: Labels against predictions.
        drawings: ROC, calibration and probabilities.
        types: The figures of each study type.
        images: The same of single images, where they were given beside studies.
        images_about: What they are of.
        beside: Kappa beside the paper's, drawn; of studies only.
        paper: The same as a table.
        competition: Kappa as the competition's scorer prints it.
        gallery: The surest mistakes, then successes; without labels, calls.
        gallery_note: What the gallery shows, and what it lacks.
    """

    source: str
    sha256: str
    names: list[str]
    threshold: float
    cases: str
    about: str = ""
    warnings: list[str] = field(default_factory=list)
    rows: list[MetricRow] = field(default_factory=list)
    headline: list[Headline] = field(default_factory=list)
    confusion: Confusion | None = None
    drawings: list[Plot] = field(default_factory=list)
    types: Table | None = None
    images: Table | None = None
    images_about: str = ""
    beside: list[Plot] = field(default_factory=list)
    paper: Table | None = None
    competition: Table | None = None
    gallery: list[gallery.GallerySection] = field(default_factory=list)
    gallery_note: str = ""


def evaluate_predictions(config: ReportConfig, run: Run) -> Results:
    """Evaluate a table of predictions, and the one of their images if there is one.

    Args:
        config: What `xenon-report` was told; it names the tables.
        run: The run that predicted.

    Raises:
        XenonError: A table is none of xenon-predict's, or some of its rows only have
            labels, or it was made with another threshold; or the two tables are not of
            the same studies.
    """
    assert config.predictions is not None
    predicted = _read(config.predictions, config.threshold)
    images = None
    if config.images is not None:
        images = _read_images(config.images, config.threshold, predicted)
    found = Results(
        str(config.predictions),
        files.sha256(config.predictions),
        predicted.names,
        config.threshold,
        PLURAL[predicted.level],
    )
    strange = set(predicted.study_types) - {*run.meta.study_types, ""}
    if strange:
        never = f"the run has never seen {', '.join(sorted(strange))}"
        found = replace(found, warnings=[never])
    rooms, note = gallery.build_gallery(config, predicted)
    found = replace(found, gallery=rooms, gallery_note=note)
    if predicted.is_unlabelled:
        if images or config.figures:
            flag = "--images" if images else "--figures"
            raise ConfigError(flag, f"says nothing: {predicted.file} has no labels")
        return _unlabelled(found, predicted)
    cases = from_table(predicted)
    figures = scores.evaluate_by_study_type(cases, config.threshold)
    found = _labelled(found, cases, figures)
    validated = run.meta.validated_on
    split = validated.split if validated else None
    doubts = scores.leakage_warnings(cases, figures, split)
    found = replace(found, warnings=[*found.warnings, *doubts])
    if cases.level == "study":
        found = _beside(found, cases, figures)
    if images is not None:
        found = _with_images(found, from_table(images), images.members)
    return found


def _read(csv: Path, threshold: float) -> PredictionTable:
    predicted = read_table(csv)
    predicted.check_threshold(threshold)
    return predicted


def _read_images(
    csv: Path, threshold: float, predicted: PredictionTable
) -> PredictionTable:
    """Read the table of the images of the studies that were predicted."""
    images = _read(csv, threshold)
    if images.level != "image" or predicted.level != "study":
        raise XenonError(
            f"{csv}: --images wants what xenon-predict --images wrote, beside its "
            f"table of studies as PREDICTIONS"
        )
    strange = set(images.studies) ^ set(predicted.names)
    if strange:
        raise XenonError(
            f"{csv}: is not of the same studies as {predicted.file}: {min(strange)} is "
            f"in one of them only"
        )
    _check_means(images, predicted)
    return images


def _check_means(images: PredictionTable, predicted: PredictionTable) -> None:
    """Stop unless the studies are the means of the images, as one prediction's are."""
    order, means = metrics.study_means(
        images.studies, np.stack([images.prob, images.labels], axis=1)
    )
    counts = Counter(images.studies)
    place = {study: row for row, study in enumerate(order)}
    for study, prob, label, count in zip(
        predicted.names, predicted.prob, predicted.labels, predicted.images
    ):
        mean, labelled = means[place[study]]
        same = abs(mean - prob) <= _ROUNDING and labelled == label
        if not same or counts[study] != count:
            raise XenonError(
                f"{images.file}: is not of the same prediction as {predicted.file}: "
                f"there {study} has a probability of {prob:.9g} and {count} images, "
                f"here {mean:.9g} and {counts[study]}"
            )


def _unlabelled(found: Results, predicted: PredictionTable) -> Results:
    """Show what can be shown without labels: how sure the ensemble was."""
    types = np.array(predicted.study_types)
    rows = []
    for name in [*sorted(set(predicted.study_types)), OVERALL]:
        called = predicted.called[(types == name) | (name == OVERALL)]
        rows.append((name or "none", f"{len(called):,}", f"{called.sum():,}"))
    return replace(
        found,
        about=f"{count_phrase(len(types), predicted.level)} without labels: nothing "
        f"can be said of how right the predictions are.",
        types=Table(
            "What was predicted",
            ("study type", found.cases, "called abnormal"),
            rows,
        ),
        drawings=[
            drawings.histogram(
                predicted.prob, predicted.labels, found.threshold, found.cases
            )
        ],
    )


def _labelled(
    found: Results, cases: EvaluationSet, figures: Mapping[str, Sequence[Estimate]]
) -> Results:
    by_name = {figure.name: figure for figure in figures[OVERALL]}
    of_images = f" {_OF_IMAGES}" if cases.level == "image" else ""
    return replace(
        found,
        about=f"{_extent(cases)}; called abnormal if the probability is above "
        f"{found.threshold:g}.{of_images} That this run predicted them is taken on "
        f"trust: the table does not say which did.",
        rows=_rows(cases, figures),
        headline=[
            Headline(name, format_number(by_name[name].value), _interval(by_name[name]))
            for name in _HEADLINE
        ],
        confusion=_confusion(cases, found.threshold),
        drawings=[
            *drawings.roc(cases, by_name, paper_comparison.is_comparable(cases)),
            drawings.calibration(cases, by_name),
            drawings.histogram(cases.prob, cases.labels, found.threshold, found.cases),
        ],
        types=_types(cases, figures),
    )


def _beside(
    found: Results, cases: EvaluationSet, figures: Mapping[str, Sequence[Estimate]]
) -> Results:
    """Set the figures of studies beside the paper's and the competition's."""
    return replace(
        found,
        beside=[paper_comparison.kappa_plot(figures)],
        paper=paper_comparison.kappa_table(figures),
        competition=paper_comparison.competition_table(cases, found.threshold),
    )


def _with_images(found: Results, images: EvaluationSet, members: int) -> Results:
    """Add the figures of single images."""
    figures = scores.evaluate_by_study_type(images, found.threshold)
    return replace(
        found,
        rows=[*found.rows, *_rows(images, figures)],
        images=_types(images, figures),
        images_about=f"{_extent(images)}; predicted by {members} "
        f"net{'s' * (members > 1)}. {_OF_IMAGES}",
    )


def _extent(cases: EvaluationSet) -> str:
    """How many cases of how many patients."""
    patients = len(set(cases.patients))
    return (
        f"{count_phrase(len(cases.labels), cases.level)} of {patients:,} "
        f"patient{'s' * (patients != 1)}, {int(cases.labels.sum()):,} labelled abnormal"
    )


def _interval(figure: Estimate) -> str:
    if not math.isfinite(figure.low):
        return "no interval"
    return f"{figure.low:.3f} to {figure.high:.3f}"


def _confusion(cases: EvaluationSet, threshold: float) -> Confusion:
    called = (cases.prob > threshold).astype(int)
    table = confusion_matrix(cases.labels, called, labels=[0, 1])
    return Confusion(*(int(count) for count in table.ravel()))


def _rows(
    cases: EvaluationSet, figures: Mapping[str, Sequence[Estimate]]
) -> list[MetricRow]:
    rows = []
    for name, values in figures.items():
        labels = cases.select(name).labels
        of = (cases.level, name, len(labels), int(labels.sum()))
        rows += [MetricRow(*of, f.name, f.value, f.low, f.high) for f in values]
    return rows


def _types(cases: EvaluationSet, figures: Mapping[str, Sequence[Estimate]]) -> Table:
    rows = []
    for name, values in figures.items():
        labels = cases.select(name).labels
        counts = (f"{len(labels):,}", f"{int(labels.sum()):,}")
        cells = (value_with_interval(figure, "\n") for figure in values)
        rows.append((name or "none", *counts, *cells))
    names = [figure.name for figure in figures[OVERALL]]
    header = ("study type", PLURAL[cases.level], "abnormal", *names)
    return Table("Each figure with its 95% interval", header, rows)
