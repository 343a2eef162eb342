"""The gallery: the studies with the most confident predictions, as thumbnails.

Owns the choice of studies, and the words beside them; must not know how their
radiographs and overlays are found (`study_files`), the page or metrics.
"""

from __future__ import annotations

import logging
from typing import Callable, NamedTuple, Sequence

import numpy as np

from xenon_mx.config import ReportConfig
from xenon_mx.data import images
from xenon_mx.evaluation.prediction_tables import PredictionTable
from xenon_mx.evaluation.studies import UNLABELLED
from xenon_mx.inference import cam_key
from xenon_mx.reporting.study_files import StudyFiles
from xenon_mx.reporting.thumbnails import Thumbnail

_log = logging.getLogger(__name__)


class GalleryStudy(NamedTuple):
    """A study, or an image, of the gallery.

    Attributes:
        name: The study or the image.
        prediction: Its study type and probability, in words.
        views: How many of its views are shown, in words; empty if all are.
        thumbnails: Its views, each followed by its overlay.
    """

    name: str
    prediction: str
    views: str
    thumbnails: list[Thumbnail]


class ColourKey(NamedTuple):
    """The colours of the overlays, as a JPEG and in words."""

    bytes: bytes
    alt: str
    ends: tuple[str, str, str]  # below the left end, the centre and the right end
    caption: str


class Outcome(NamedTuple):
    """An outcome of predictions, and which rows of the table have it.

    Attributes:
        title: Its name.
        meaning: What it is, in a sentence.
        is_error: Whether these predictions are wrong.
        rows: The numbers of the rows, the most confident prediction first.
    """

    title: str
    meaning: str
    is_error: bool
    rows: list[int]


class GallerySection(NamedTuple):
    """The studies of one outcome, the most confident prediction first."""

    title: str
    meaning: str
    is_error: bool
    studies: list[GalleryStudy]


# Title, meaning, label and prediction of each outcome: errors first.
_OUTCOMES = (
    ("False negatives (FN)", "Labelled abnormal, called normal.", 1, 0),
    ("False positives (FP)", "Labelled normal, called abnormal.", 0, 1),
    ("True positives (TP)", "Labelled abnormal, called abnormal.", 1, 1),
    ("True negatives (TN)", "Labelled normal, called normal.", 0, 0),
)
_UNLABELLED_OUTCOMES = (
    ("Called abnormal", "The highest probabilities.", UNLABELLED, 1),
    ("Called normal", "The lowest probabilities.", UNLABELLED, 0),
)


def outcomes(table: PredictionTable, threshold: float) -> list[Outcome]:
    """Return the outcomes of predictions, with labels or without any.

    Args:
        table: The predictions.
        threshold: A sample is called abnormal if its probability is strictly above.
    """
    named = _UNLABELLED_OUTCOMES if table.is_unlabelled else _OUTCOMES
    return [
        Outcome(
            title,
            meaning,
            label not in (UNLABELLED, prediction),
            most_confident(table, label, prediction, threshold),
        )
        for title, meaning, label, prediction in named
    ]


def find_files(
    config: ReportConfig, table: PredictionTable, outcomes: Sequence[Outcome]
) -> StudyFiles:
    """Find the radiographs and overlays of what a gallery shows.

    Args:
        config: The arguments of `xenon-report`: where the radiographs are, and how many
            studies to show.
        table: The predictions.
        outcomes: What will be shown.

    Raises:
        XenonError: A folder was given that contains none of the studies.
    """
    rows = [row for outcome in outcomes for row in outcome.rows[: config.gallery]]
    names = [table.names[row] for row in rows]
    study_files = StudyFiles(table.file, names, config.root, config.cam, config.link)
    if study_files.folder is not None:
        _log.info("gallery: radiographs from %s", study_files.folder)
    elif names:
        _log.warning("the radiographs were not found: %s", study_files.remedy)
    return study_files


def build_sections(
    outcomes: Sequence[Outcome],
    table: PredictionTable,
    study_files: StudyFiles,
    limit: int,
    describe: Callable[[int], str],
) -> list[GallerySection]:
    """Build the gallery of the most confident predictions of each outcome.

    Args:
        outcomes: The outcomes, one for each section.
        table: The predictions.
        study_files: The files of the studies.
        limit: The largest number of studies of a section.
        describe: Returns what was predicted for a row, in words.
    """
    sections = []
    for title, meaning, is_error, rows in outcomes:
        studies = []
        for row in rows[:limit]:
            thumbnails, views = study_files.thumbnails(table.names[row])
            name = table.names[row]
            studies.append(GalleryStudy(name, describe(row), views, thumbnails))
        sections.append(GallerySection(title, meaning, is_error, studies))
    return sections


def colour_key() -> ColourKey:
    """Return the colour key of the overlays."""
    return ColourKey(
        images.encode(cam_key.draw_strip(720, 48), "jpg", 95),
        cam_key.ALT,
        (cam_key.NORMAL, cam_key.ZERO, cam_key.ABNORMAL),
        f"Colour key of the class activation maps, over black and white. "
        f"{cam_key.UNCHANGED} {' '.join(cam_key.SCALE)}",
    )


def describe(table: PredictionTable, row: int) -> str:
    """Return the study type and the probability of a row, in words."""
    study_type = table.study_types[row] or "no study type"
    return f"{study_type}: probability {table.prob[row]:.3f}"


def note(
    sections: Sequence[GallerySection], study_files: StudyFiles, limit: int, plural: str
) -> str:
    """Return what the gallery shows and what is missing, in sentences."""
    sentences = [
        f"For each outcome, up to {limit} {plural} with the probabilities farthest "
        f"from the threshold."
    ]
    if any(section.studies for section in sections) and not study_files.is_found:
        remedy = study_files.remedy
        sentences.append(f"Their radiographs were not found: {remedy}.")
    if study_files.coarseness:
        sentences.append(study_files.coarseness)
    return " ".join(sentences)


def most_confident(
    table: PredictionTable, label: int, prediction: int, threshold: float
) -> list[int]:
    """Return the rows of one outcome, farthest from the threshold first."""
    prob = table.prob
    has_outcome = (table.labels == label) & ((prob > threshold) == prediction)
    (rows,) = np.nonzero(has_outcome)
    order = np.argsort(prob[rows] * (-1 if prediction else 1), kind="stable")
    return [int(row) for row in rows[order]]
