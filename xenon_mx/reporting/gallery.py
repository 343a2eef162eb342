"""The gallery: the studies with the most confident predictions, as thumbnails.

Owns the choice of studies, and the words beside them; must not know how their
radiographs and overlays are found (`study_files`), the page or metrics.
"""

from __future__ import annotations

import logging
from typing import NamedTuple, Sequence

import numpy as np

from xenon_mx.config import ReportConfig
from xenon_mx.data import images
from xenon_mx.evaluation.prediction_tables import PLURAL, PredictionTable
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


class GallerySection(NamedTuple):
    """The studies of one outcome, the most confident prediction first."""

    title: str
    meaning: str
    is_error: bool
    studies: list[GalleryStudy]


# Title, meaning, label and prediction of each outcome: errors first.
_OUTCOMES = (
    ("False negatives (FN)", "Labelled abnormal, predicted normal.", 1, 0),
    ("False positives (FP)", "Labelled normal, predicted abnormal.", 0, 1),
    ("True positives (TP)", "Labelled abnormal, predicted abnormal.", 1, 1),
    ("True negatives (TN)", "Labelled normal, predicted normal.", 0, 0),
)
_UNLABELLED_OUTCOMES = (
    ("Predicted abnormal", "The highest probabilities.", UNLABELLED, 1),
    ("Predicted normal", "The lowest probabilities.", UNLABELLED, 0),
)


def build_gallery(
    config: ReportConfig, table: PredictionTable, threshold: float
) -> tuple[list[GallerySection], str]:
    """Build the gallery of the most confident predictions of each outcome.

    Args:
        config: The arguments of `xenon-report`: where the radiographs are, and how many
            studies to show.
        table: The predictions, with labels or without any.
        threshold: A sample is predicted abnormal if its probability is strictly above.

    Returns:
        One section per outcome; and a note on what they show and what is missing.

    Raises:
        XenonError: A folder was given that contains none of the studies.
    """
    outcomes = _UNLABELLED_OUTCOMES if table.is_unlabelled else _OUTCOMES
    chosen = [
        most_confident(table, label, prediction, threshold)[: config.gallery]
        for _, _, label, prediction in outcomes
    ]
    names = [table.names[row] for rows in chosen for row in rows]
    study_files = StudyFiles(table.file, names, config.root, config.cam, config.link)
    sections = []
    for (title, meaning, label, prediction), rows in zip(outcomes, chosen):
        studies = [_gallery_study(table, row, study_files) for row in rows]
        is_error = label not in (UNLABELLED, prediction)
        sections.append(GallerySection(title, meaning, is_error, studies))
    if study_files.folder is not None:
        _log.info("gallery: radiographs from %s", study_files.folder)
    elif names:
        _log.warning("the radiographs were not found: give their folder with --root")
    return sections, _note(config, table, names, study_files)


def colour_key() -> ColourKey:
    """Return the colour key of the overlays."""
    return ColourKey(
        images.encode(cam_key.draw_strip(720, 48), "jpg", 95),
        cam_key.ALT,
        (cam_key.NORMAL, cam_key.ZERO, cam_key.ABNORMAL),
        f"Colour key of the class activation maps, over black and white. "
        f"{cam_key.UNCHANGED} {' '.join(cam_key.SCALE)}",
    )


def _gallery_study(
    table: PredictionTable, row: int, study_files: StudyFiles
) -> GalleryStudy:
    thumbnails, views = study_files.thumbnails(table.names[row])
    study_type = table.study_types[row] or "no study type"
    prediction = f"{study_type}: probability {table.prob[row]:.3f}"
    return GalleryStudy(table.names[row], prediction, views, thumbnails)


def _note(
    config: ReportConfig,
    table: PredictionTable,
    names: Sequence[str],
    study_files: StudyFiles,
) -> str:
    """Return what the gallery shows and what is missing, in sentences."""
    sentences = [
        f"For each outcome, up to {config.gallery} {PLURAL[table.level]} with the "
        f"probabilities farthest from the threshold."
    ]
    if names and not study_files.is_found:
        sentences.append(
            "Their radiographs were not found; give their folder with --root."
        )
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
