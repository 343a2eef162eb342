"""The gallery: the studies with the most confident predictions, as thumbnails.

Owns the choice of studies, and how their radiographs and overlays are found; must not
know the page or metrics.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Sequence

import numpy as np

from xenon_mx.config import ReportConfig
from xenon_mx.data import datasets, images, links, manifest, roots
from xenon_mx.errors import XenonError
from xenon_mx.evaluation.prediction_tables import PLURAL, PredictionTable
from xenon_mx.evaluation.studies import UNLABELLED
from xenon_mx.inference import cam_folder, cam_overlay
from xenon_mx.runtime import text
from xenon_mx.runtime.opencv import cv2

_log = logging.getLogger(__name__)

# Chosen here: sharp at twice the 150 CSS px of a thumbnail on the page, and about 15 kB
# each, so that a page of 16 studies stays below 2 MB.
_SIDE, _QUALITY = 320, 80
_MAX_VIEWS = 4  # per study: MURA's mostly have two or three views, and at most 13


class Thumbnail(NamedTuple):
    """A JPEG of a view or of its overlay; `alt` describes it in words."""

    bytes: bytes
    alt: str


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


class GallerySection(NamedTuple):
    """The studies of one outcome, the most confident prediction first."""

    title: str
    meaning: str
    is_error: bool
    studies: list[GalleryStudy]


# Title, meaning, label and prediction of each outcome: errors first.
_OUTCOMES = (
    ("False negatives", "Labelled abnormal, predicted normal.", 1, 0),
    ("False positives", "Labelled normal, predicted abnormal.", 0, 1),
    ("True positives", "Labelled abnormal, predicted abnormal.", 1, 1),
    ("True negatives", "Labelled normal, predicted normal.", 0, 0),
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
    if config.cam is not None:
        sentences.append(
            "In the class activation maps, vermilion speaks for abnormal and blue for "
            "normal; each map has its own colour scale."
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


class StudyFiles:
    """The files of studies: their radiographs, and overlays of their CAMs.

    Args:
        table: The CSV of predictions.
        studies: The studies whose files will be needed.
        root: The folder that the studies' paths are relative to. None tries the
            table's folder, its parent and the working directory, see `roots`.
        cam: The folder that `xenon-predict --cam` wrote.
        link: The link file of an archive, or a manifest: it tells the images of each
            study, and nothing is searched.

    Attributes:
        is_found: Whether the radiographs of any of the studies were found.
        folder: Where the radiographs are; None if none was found.
        coarseness: A sentence if the CAMs read so far are coarse, else empty.

    Raises:
        XenonError: A folder was given that contains none of the studies.
    """

    def __init__(
        self,
        table: Path,
        studies: Sequence[str],
        root: Path | None,
        cam: Path | None,
        link: Path | None = None,
    ) -> None:
        self.coarseness = ""
        self._cam = cam
        self._views = None if link is None else _read_views(link, root)
        self._root: roots.Root | None = None
        self.is_found = False
        self.folder: Path | None = None
        if self._views is None:
            tried = roots.candidates(studies, table.parent, root)
            self._root = roots.find(studies, tried, _holds_study)
        else:
            self.is_found = any(map(self._radiographs, studies))
            self.folder = link
        if self._root is not None:
            self.is_found = True
            self.folder = Path(os.path.abspath(self._root.data_set(studies)))
        has_overlays = cam is not None and any(map(self._overlays, studies))
        for folder, is_found, remedy in (
            (link, self.is_found, "give the file that tells their images"),
            (root, self.is_found, "give the folder that their paths are relative to"),
            (cam, has_overlays, "give the folder that xenon-predict --cam wrote"),
        ):
            if folder is not None and studies and not is_found:
                raise XenonError(
                    f"{text.folder_name(folder)}: contains none of the studies, such "
                    f"as {studies[0]}; {remedy}"
                )

    def _radiographs(self, study: str) -> dict[str, Path]:
        """Return the radiograph of each view, by the view's name."""
        if self._views is not None:
            views = self._views.get(study, {})
            return {name: file for name, file in views.items() if file.is_file()}
        return _radiographs(study, self._root) if self._root else {}

    def thumbnails(self, study: str) -> tuple[list[Thumbnail], str]:
        """Return thumbnails of a study's views, each followed by its overlay.

        Returns:
            The thumbnails; and in words how many of the views they show, empty if all.
        """
        radiographs = self._radiographs(study)
        overlays = self._overlays(study)
        views = list(radiographs) or list(overlays)
        thumbnails: list[Thumbnail] = []
        for number, name in enumerate(views[:_MAX_VIEWS], 1):
            view = f"view {number} of {len(views)} of {study}"
            if name in radiographs:
                alt = f"Radiograph, {view}"
                thumbnails += _radiograph_thumbnail(radiographs[name], alt)
            if name in overlays:
                self.coarseness = self.coarseness or _coarseness(overlays[name])
                alt = f"Class activation map, {view}"
                thumbnails += _overlay_thumbnail(overlays[name], alt)
        is_cut = len(views) > _MAX_VIEWS
        return thumbnails, f"{_MAX_VIEWS} of {len(views)} views" if is_cut else ""

    def _overlays(self, study: str) -> dict[str, Path]:
        """Return the overlay of each view, by the view's name."""
        if self._cam is None:
            return {}
        if self._views is None:
            folder = self._cam / cam_folder.relative_path(study)
            return _view_files(self._cam, folder, cam_folder.OVERLAY)
        paths = {
            name: self._cam / f"{cam_folder.relative_path(name)}{cam_folder.OVERLAY}"
            for name in self._views.get(study, {})
        }
        return {name: path for name, path in paths.items() if path.is_file()}


def _read_views(link: Path, root: Path | None) -> dict[str, dict[str, Path]]:
    """Return the files of each study, and of each image, by the images' names."""
    if not links.is_link_file(link) and manifest.is_manifest(link):
        images = manifest.read_manifest(link, root).images
        named = [(image.path, image.study, image.file) for image in images]
    else:
        files = links.read(link)
        named = [(n, n.rpartition("/")[0] + "/", file) for n, file in files.items()]
    views: dict[str, dict[str, Path]] = {}
    for name, study, file in named:
        views.setdefault(study, {})[name] = file
        views.setdefault(name, {})[name] = file
    return views


def _holds_study(root: roots.Root, study: str) -> bool:
    return bool(_radiographs(study, root))


def _radiographs(study: str, root: roots.Root) -> dict[str, Path]:
    """Return the radiograph of each view, by its name, below a candidate root."""
    if ".." in PurePosixPath(study).parts:
        return {}
    return _view_files(root.base, root.join(study), "")


def _view_files(base: Path, study: Path, suffix: str) -> dict[str, Path]:
    """Return the files of a study by the names of its views, only from inside a folder.

    Args:
        base: The folder.
        study: The path of the study: a folder of images, or one image in tables of
            images and outside MURA's layout.
        suffix: What follows the name of the image in the name of its file.

    Returns:
        Empty if the study does not exist or is outside the folder.
    """
    try:
        resolved = base.resolve()
        if resolved not in study.resolve().parents:
            return {}
        if study.is_dir():
            descendants = [image.file for image in datasets.read_folder(study)]
            candidates = [file for file in descendants if file.parent == study]
        else:
            candidates = [study.with_name(study.name + suffix)]
        return {
            file.name[: len(file.name) - len(suffix)]: file
            for file in candidates
            if file.name.endswith(suffix)
            and file.is_file()
            and resolved in file.resolve().parents
        }
    except (OSError, ValueError, RuntimeError):  # invalid file name; circular links
        return {}


def _radiograph_thumbnail(file: Path, alt: str) -> list[Thumbnail]:
    """Return the thumbnail of a view; none, with a warning, if it is unreadable."""
    try:
        pixels = images.decode(images.read(file), file)
        return [Thumbnail(_encode_thumbnail(pixels), alt)]
    except XenonError as error:
        _log.warning("left out of the gallery: %s", error)
        return []


def _overlay_thumbnail(file: Path, alt: str) -> list[Thumbnail]:
    """Return the thumbnail of an overlay; none, with a warning, if it is unreadable."""
    try:
        pixels = cv2.imdecode(np.frombuffer(images.read(file), np.uint8), 1)
    except (XenonError, cv2.error):
        pixels = None
    if pixels is None:
        _log.warning("left out of the gallery: %s: not an image", file)
        return []
    return [Thumbnail(_encode_thumbnail(pixels), alt)]


def _coarseness(overlay: Path) -> str:
    """Return a sentence if the CAM of an overlay is coarse, else an empty string."""
    file = overlay.with_name(
        overlay.name[: -len(cam_folder.OVERLAY)] + cam_folder.ARRAY
    )
    if not os.path.lexists(file):  # the page needs only the overlay
        return ""
    cells = _cells(file)
    if cells is None:
        _log.warning("%s: not the array of an activation map", file)
        return ""
    warning = cam_overlay.coarseness_warning(cells)
    return warning and f"{warning[0].upper()}{warning[1:]}."


def _cells(file: Path) -> tuple[int, int] | None:
    """Return the (height, width) of a CAM's array; None if the file is not an array.

    Reads only the header, which may claim more cells than there is memory.
    """
    if not file.is_file():  # a pipe, for example
        return None
    try:
        with open(file, "rb") as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                return None
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            height, width = shape
            size = stream.tell() + height * width * dtype.itemsize
            is_complete = min(shape) > 0 and size == os.fstat(stream.fileno()).st_size
    except (OSError, ValueError, RecursionError, MemoryError):
        return None
    return (height, width) if is_complete else None


def _encode_thumbnail(image: np.ndarray) -> bytes:
    """Return (H, W) or (H, W, 3) uint8 pixels as the bytes of a small JPEG."""
    height, width = image.shape[:2]
    ratio = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return images.encode(scaled, "jpg", _QUALITY)
