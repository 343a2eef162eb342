"""How good a run's predictions are, in words, tables, drawings and pictures.

Owns what a report says of a table of predictions. Every figure in it is of
`evaluation`; the pictures are of `gallery`. Knows no page.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Sequence

import numpy as np
from sklearn.metrics import confusion_matrix, roc_curve

from xenon_mx import comparisons, evaluation, figures, files, gallery
from xenon_mx.cases import Cases, read_table
from xenon_mx.checkpoints import Run
from xenon_mx.comparisons import both
from xenon_mx.config import ReportConfig
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.evaluation import OVERALL, PAPER, Figure
from xenon_mx.figures import Shown, Table, number

_log = logging.getLogger(__name__)

_HEADLINE = ("kappa", "AUROC", "sensitivity", "specificity")
_PLURAL = {"study": "studies", "image": "images"}


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


class Case(NamedTuple):
    """A study of the gallery; `shown` says so if some of its views are left out."""

    study: str
    verdict: str
    shown: str
    pictures: list[gallery.Picture]


class Room(NamedTuple):
    """The studies of one outcome."""

    title: str
    meaning: str
    wrong: bool
    cases: list[Case]


@dataclass(frozen=True)
class Findings:
    """What a report shows of predictions; without labels, most of it is empty.

    Attributes:
        source: The table that they stand in.
        sha256: Of its bytes.
        threshold: Abnormal if strictly above.
        about: What was predicted.
        cases: A case in one word, plural: `studies` or `images`.
        warnings: Why the figures may be better than the nets are.
        figures: Name of a study type, then of all, to its figures.
        headline: The four figures that count most, over all cases.
        confusion: Labels against predictions.
        drawings: ROC, calibration and probabilities.
        types: The figures of each study type.
        beside: Kappa beside the paper's, drawn.
        paper: The same as a table.
        gallery: The surest mistakes, then the surest successes.
        gallery_note: What the gallery shows, and what it lacks.
    """

    source: str
    sha256: str
    threshold: float
    about: str
    cases: str
    warnings: list[str]
    types: Table
    gallery: list[Room]
    gallery_note: str
    figures: dict[str, list[Figure]] = field(default_factory=dict)
    headline: list[Headline] = field(default_factory=list)
    confusion: Confusion | None = None
    drawings: list[Shown] = field(default_factory=list)
    beside: list[Shown] = field(default_factory=list)
    paper: Table | None = None


def find(config: ReportConfig, run: Run) -> Findings:
    """Evaluate a table of predictions.

    Args:
        config: What `xenon-report` was told; it names the table.
        run: The run that predicted.

    Raises:
        XenonError: The table is none of xenon-predict's, or some of its rows only have
            labels, or it was made with another threshold.
    """
    assert config.predictions is not None
    level, rows = read_table(config.predictions)
    if not rows:
        raise XenonError(f"{config.predictions}: holds no predictions")
    _check_threshold(config, rows)
    common: dict[str, Any] = {
        "source": str(config.predictions),
        "sha256": files.sha256(config.predictions),
        "threshold": config.threshold,
        "cases": _PLURAL[level],
    }
    names = [row[level] for _, row in rows]
    if not any(row["label"] for _, row in rows):
        return _unlabelled(config, common, names, [row for _, row in rows])
    cases = evaluation.read_predictions(config.predictions)
    return _labelled(config, common, names, cases, run)


def _check_threshold(
    config: ReportConfig, rows: Sequence[tuple[int, dict[str, str]]]
) -> None:
    """Stop if the table's own predictions are not what the threshold would give."""
    for line, row in rows:
        try:
            prob = float(row["probability"])
        except ValueError:
            prob = math.nan
        if not 0 <= prob <= 1:
            raise XenonError(
                f"{config.predictions}: line {line}: probability "
                f"{row['probability']!r} is no number from 0 to 1"
            )
        called = int(prob > config.threshold)
        if row["prediction"] != str(called):
            raise ConfigError(
                "--threshold",
                f"{config.predictions}, line {line}, calls a probability of "
                f"{row['probability']} {row['prediction']!r}, which "
                f"{config.threshold:g} does not: give the one it was made with",
            )


def _unlabelled(
    config: ReportConfig,
    common: dict[str, Any],
    names: list[str],
    rows: Sequence[dict[str, str]],
) -> Findings:
    """Show what can be shown without labels: how sure the ensemble was."""
    prob = np.array([float(row["probability"]) for row in rows])
    types = [row["study_type"] for row in rows]
    counted = []
    for name in [*sorted(set(types)), OVERALL]:
        chosen = [p for p, t in zip(prob, types) if name in (t, OVERALL)]
        abnormal = sum(p > config.threshold for p in chosen)
        counted.append((name or "none", f"{len(chosen):,}", f"{abnormal:,}"))
    return Findings(
        **common,
        about=f"{len(rows):,} {common['cases']} without labels: nothing can be said of "
        f"how right the predictions are.",
        warnings=[],
        types=Table(
            "What was predicted",
            ("study type", common["cases"], "called abnormal"),
            counted,
        ),
        drawings=[_histogram(prob, config.threshold, common["cases"])],
        gallery=[],
        gallery_note="Without labels there are neither mistakes nor successes.",
    )


def _labelled(
    config: ReportConfig,
    common: dict[str, Any],
    names: list[str],
    cases: Cases,
    run: Run,
) -> Findings:
    found = evaluation.by_study_type(cases, config.threshold)
    by_name = {figure.name: figure for figure in found[OVERALL]}
    validated = run.meta.get("validated_on") or {}
    rooms, note = _gallery(config, names, cases)
    total, abnormal = len(cases.labels), int(cases.labels.sum())
    level = ""
    if cases.level == "image":
        level = " These are figures of single images: not comparable with studies'."
    return Findings(
        **common,
        about=f"{total:,} {common['cases']} of {len(set(cases.patients)):,} patients, "
        f"{abnormal:,} of them labelled abnormal; called abnormal if the probability "
        f"is above {config.threshold:g}.{level}",
        warnings=evaluation.warnings(cases, found, validated.get("split")),
        figures=found,
        headline=[
            Headline(name, number(by_name[name].value), _interval(by_name[name]))
            for name in _HEADLINE
        ],
        confusion=_confusion(cases, config.threshold),
        drawings=[
            *_roc(cases, by_name),
            _calibration(cases, by_name),
            _histogram(cases.prob, config.threshold, common["cases"]),
        ],
        types=_types(cases, found, common["cases"]),
        beside=[comparisons.drawn(found)],
        paper=comparisons.table(found),
        gallery=rooms,
        gallery_note=note,
    )


def _interval(figure: Figure) -> str:
    if not math.isfinite(figure.low):
        return "no interval"
    return f"{figure.low:.3f} to {figure.high:.3f}"


def _confusion(cases: Cases, threshold: float) -> Confusion:
    called = (cases.prob > threshold).astype(int)
    table = confusion_matrix(cases.labels, called, labels=[0, 1])
    return Confusion(*(int(count) for count in table.ravel()))


def _types(cases: Cases, found: dict[str, list[Figure]], plural: str) -> Table:
    rows = []
    for name, values in found.items():
        labels = cases.labels if name == OVERALL else cases.of(name).labels
        counts = (f"{len(labels):,}", f"{int(labels.sum()):,}")
        cells = (both(figure, "\n") for figure in values)
        rows.append((name or "none", *counts, *cells))
    header = ("study type", plural, "abnormal", *(f.name for f in found[OVERALL]))
    return Table("Each figure with its 95% interval", header, rows)


def _roc(cases: Cases, found: dict[str, Figure]) -> list[Shown]:
    """The ROC curve; none with one class only, where it is undefined."""
    if math.isnan(found["AUROC"].value):
        return []
    false, true, _ = roc_curve(cases.labels, cases.prob)
    ours = (found["specificity"].value, found["sensitivity"].value)
    theirs = (PAPER.specificity, PAPER.sensitivity)
    points = [("at the threshold", *ours), ("the paper's (other test set)", *theirs)]
    return [
        Shown(
            figures.roc((false, true), points),
            f"ROC curve with an area of {number(found['AUROC'].value)}. At the "
            f"threshold the specificity is {number(ours[0])} and the sensitivity "
            f"{number(ours[1])}. The paper's model, on another test set: specificity "
            f"{number(theirs[0])}, sensitivity {number(theirs[1])}.",
            f"ROC, AUROC {both(found['AUROC'])}. The diamond is the paper's operating "
            f"point (sensitivity {theirs[1]:.3f}, specificity {theirs[0]:.3f}), of "
            f"another test set.",
        )
    ]


def _calibration(cases: Cases, found: dict[str, Figure]) -> Shown:
    bins = [
        (float(mean), float(share), int(count))
        for mean, share, count in zip(*evaluation.reliability(cases))
        if count
    ]
    predicted, observed, counts = zip(*bins)
    said = "; ".join(f"{p:.2f}: {o:.2f} of {c}" for p, o, c in bins)
    return Shown(
        figures.calibration(predicted, observed, counts),
        f"Reliability diagram. Mean predicted probability and share that is abnormal, "
        f"bin by bin: {said}.",
        f"Calibration. On the dotted line a probability is what it says. Calibration "
        f"error {both(found['calibration error'])}, Brier score "
        f"{both(found['Brier score'])}.",
    )


def _histogram(prob: np.ndarray, threshold: float, plural: str) -> Shown:
    above = int((prob > threshold).sum())
    return Shown(
        figures.histogram(prob, threshold, plural),
        f"Histogram of the predicted probabilities of {len(prob)} {plural}: {above} "
        f"above the threshold of {threshold:g}, {len(prob) - above} not.",
        f"How many {plural} were given which probability.",
    )


def _gallery(
    config: ReportConfig, names: list[str], cases: Cases
) -> tuple[list[Room], str]:
    """Fetch the surest mistakes and successes, with their pictures."""
    groups = gallery.choose(cases.labels, cases.prob, config.threshold, config.gallery)
    assert config.predictions is not None
    chosen = [names[i] for group in groups for i in group.members]
    shelf = gallery.Shelf(config.predictions, chosen, config.root, config.cam)
    rooms = []
    for group in groups:
        shown = []
        for i in group.members:
            pictures, some = shelf.pictures(names[i])
            verdict = f"{cases.study_types[i]}: probability {cases.prob[i]:.3f}"
            shown.append(Case(names[i], verdict, some, pictures))
        rooms.append(Room(group.title, group.meaning, group.wrong, shown))
    note = (
        f"Of each outcome, the {config.gallery} {_PLURAL[cases.level]} at most whose "
        f"probability was the farthest on its side of the threshold."
    )
    if chosen and not shelf.is_found:
        _log.warning("the radiographs were not found: name their folder with --root")
        note += " Their radiographs were not found; --root names their folder."
    if config.cam is not None:
        note += (
            " In activation maps, what is tinted vermilion spoke for abnormal, what is "
            "blue for normal, each map on a scale of its own."
        )
    return rooms, note
