"""Which studies a report shows, and their radiographs as small pictures.

Owns the choice of the surest mistakes and successes and the way from a study's name
to its files. Knows no page and no statistics.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Sequence

import numpy as np

from xenon_mx.config import ReportConfig
from xenon_mx.data import datasets, images
from xenon_mx.errors import XenonError
from xenon_mx.evaluation.prediction_tables import PLURAL, UNLABELLED, PredictionTable
from xenon_mx.inference import cam_folder, cam_overlay
from xenon_mx.runtime.opencv import cv2

_log = logging.getLogger(__name__)

# Chosen here: sharp at twice the 150 CSS px that a picture has on the page, and about
# 15 kB each, so that a page of 16 studies stays below 2 MB.
_SIDE, _QUALITY = 320, 80
_VIEWS = 4  # of one study at most: MURA's have two or three mostly, and 13 at most


class Picture(NamedTuple):
    """A JPEG of a view; `alt` says in words what it is."""

    bytes: bytes
    alt: str


class GalleryStudy(NamedTuple):
    """A study of the gallery; `shown` says so if some of its views are left out."""

    study: str
    verdict: str
    shown: str
    pictures: list[Picture]


class GallerySection(NamedTuple):
    """The studies of one outcome, the surest first; `wrong` if they are mistakes."""

    title: str
    meaning: str
    wrong: bool
    cases: list[GalleryStudy]


# Title, meaning, label and prediction of each outcome: mistakes first.
_OUTCOMES = (
    ("Missed", "Labelled abnormal, called normal.", 1, 0),
    ("False alarms", "Labelled normal, called abnormal.", 0, 1),
    ("Found", "Labelled abnormal, called so.", 1, 1),
    ("Rightly normal", "Labelled normal, called so.", 0, 0),
)
_OF_UNLABELLED = (
    ("Called abnormal", "The highest probabilities.", UNLABELLED, 1),
    ("Called normal", "The lowest probabilities.", UNLABELLED, 0),
)


def build_gallery(
    config: ReportConfig, predicted: PredictionTable
) -> tuple[list[GallerySection], str]:
    """Fetch the surest mistakes and successes, or calls, with their pictures.

    Args:
        config: What `xenon-report` was told: where the films lie, how many to show.
        predicted: A table with labels, or without any.

    Returns:
        A room an outcome; and in words what they show, and what they lack.

    Raises:
        XenonError: A folder was named, and holds none of the studies.
    """
    outcomes = _OF_UNLABELLED if predicted.is_unlabelled else _OUTCOMES
    chosen = [
        surest(predicted, label, prediction, config.threshold)[: config.gallery]
        for _, _, label, prediction in outcomes
    ]
    names = [predicted.names[i] for members in chosen for i in members]
    shelf = StudyFiles(predicted.file, names, config.root, config.cam)
    rooms = []
    for (title, meaning, label, prediction), members in zip(outcomes, chosen):
        cases = []
        for i in members:
            pictures, some = shelf.pictures(predicted.names[i])
            kind = predicted.study_types[i] or "no study type"
            verdict = f"{kind}: probability {predicted.prob[i]:.3f}"
            cases.append(GalleryStudy(predicted.names[i], verdict, some, pictures))
        wrong = label not in (UNLABELLED, prediction)
        rooms.append(GallerySection(title, meaning, wrong, cases))
    note = (
        f"Of each outcome, the {config.gallery} {PLURAL[predicted.level]} at most "
        f"whose probability was the farthest on its side of the threshold."
    )
    if names and not shelf.is_found:
        _log.warning("the radiographs were not found: name their folder with --root")
        note += " Their radiographs were not found; --root names their folder."
    if config.cam is not None:
        note += (
            " In activation maps, what is tinted vermilion spoke for abnormal, what is "
            "blue for normal, each map on a scale of its own."
        )
        note += f" {shelf.caution}"
    return rooms, note.strip()


def surest(
    predicted: PredictionTable, label: int, prediction: int, threshold: float
) -> list[int]:
    """Tell where the cases of one outcome stand in a table, the surest first."""
    prob = predicted.prob
    of_outcome = (predicted.labels == label) & ((prob > threshold) == prediction)
    (members,) = np.nonzero(of_outcome)
    order = np.argsort(prob[members] * (-1 if prediction else 1), kind="stable")
    return [int(i) for i in members[order]]


class StudyFiles:
    """Where the radiographs of a table's studies lie, and the maps of them.

    Args:
        table: The CSV of predictions.
        studies: The studies that will be asked for.
        root: Folder that the studies' paths start from. None looks in the working
            directory, the table's folder and its parent.
        cam: Folder that `xenon-predict --cam` wrote.

    Attributes:
        caution: What is to be said of the maps that were fetched, a sentence or empty.

    Raises:
        XenonError: A folder was named, and holds none of the studies.
    """

    def __init__(
        self, table: Path, studies: Sequence[str], root: Path | None, cam: Path | None
    ) -> None:
        self.caution = ""
        self._cam = cam
        self._start = _best(datasets.candidate_roots(table, root), studies)
        mapped = cam is not None and any(map(self._overlays, studies))
        for named, found, what in (
            (root, self.is_found, "give the folder that their paths start from"),
            (cam, mapped, "give the folder that xenon-predict --cam wrote of them"),
        ):
            if named is not None and studies and not found:
                raise XenonError(
                    f"{named}: holds none of the studies, such as {studies[0]}; {what}"
                )

    @property
    def is_found(self) -> bool:
        """Whether the radiographs of any of the studies were found."""
        return self._start is not None

    def pictures(self, study: str) -> tuple[list[Picture], str]:
        """Give a study's views as small pictures, each followed by its map.

        Returns:
            The pictures, and in words how many of the views they are, empty if all.
        """
        films = _films(study, *self._start) if self._start else {}
        overlays = self._overlays(study)
        views = list(films) or list(overlays)
        found: list[Picture] = []
        for number, name in enumerate(views[:_VIEWS], 1):
            words = f"view {number} of {len(views)} of {study}"
            if name in films:
                found += _thumbnail(films[name], f"Radiograph, {words}")
            if name in overlays:
                self.caution = self.caution or _caution(overlays[name])
                found += _overlay_thumbnail(overlays[name], f"Activation map, {words}")
        some = f"{_VIEWS} of {len(views)} views" if len(views) > _VIEWS else ""
        return found, some

    def _overlays(self, study: str) -> dict[str, Path]:
        """Give the drawn map of each view, by the view's name."""
        if self._cam is None:
            return {}
        return _views(
            self._cam, self._cam / cam_folder.relative_path(study), cam_folder.OVERLAY
        )


def _best(
    starts: Sequence[tuple[Path, bool]], studies: Sequence[str]
) -> tuple[Path, bool] | None:
    """Choose the start from which the most studies are found, the first of several."""
    most, best = 0, None
    for start in starts:
        hits = sum(bool(_films(study, *start)) for study in studies)
        if hits > most:
            most, best = hits, start
    return best


def _films(study: str, base: Path, drop: bool) -> dict[str, Path]:
    """Return the radiograph of each view, by its name, below a candidate root."""
    if ".." in PurePosixPath(study).parts:
        return {}
    return _views(base, datasets.join_root(base, study, drop), "")


def _views(base: Path, place: Path, ending: str) -> dict[str, Path]:
    """List the files of a study by the names of its views, without leaving a folder.

    Args:
        base: The folder.
        place: Where the study would be: a folder of images, or one image, as tables of
            images and those outside MURA's layout name it.
        ending: What a file is called behind the name of the image that it is of.

    Returns:
        Nothing, if the study is not there, or is outside.
    """
    try:
        inside = base.resolve()
        if inside not in place.resolve().parents:
            return {}
        if place.is_dir():
            below = [image.file for image in datasets.read_folder(place)]
            listed = [file for file in below if file.parent == place]
        else:
            listed = [place.with_name(place.name + ending)]
        return {
            file.name[: len(file.name) - len(ending)]: file
            for file in listed
            if file.name.endswith(ending)
            and file.is_file()
            and inside in file.resolve().parents
        }
    except (OSError, ValueError, RuntimeError):  # no name for a disk; links in a ring
        return {}


def _thumbnail(file: Path, alt: str) -> list[Picture]:
    """Make the small picture of a view; none, with a warning, if it is unreadable."""
    try:
        return [Picture(_encode_thumbnail(images.decode(images.read(file), file)), alt)]
    except XenonError as error:
        _log.warning("left out of the gallery: %s", error)
        return []


def _overlay_thumbnail(file: Path, alt: str) -> list[Picture]:
    """Make the small picture of a map, in its colours."""
    try:
        pixels = cv2.imdecode(np.frombuffer(images.read(file), np.uint8), 1)
    except (XenonError, cv2.error):
        pixels = None
    if pixels is None:
        _log.warning("left out of the gallery: %s: not an image", file)
        return []
    return [Picture(_encode_thumbnail(pixels), alt)]


def _caution(overlay: Path) -> str:
    """Say what is to be said of a drawn map, by the array beside it."""
    file = overlay.with_name(
        overlay.name[: -len(cam_folder.OVERLAY)] + cam_folder.ARRAY
    )
    if not os.path.lexists(file):  # the page needs the drawing only
        return ""
    cells = _cells(file)
    if cells is None:
        _log.warning("%s: not the array of an activation map", file)
        return ""
    said = cam_overlay.coarseness_warning(cells)
    return said and f"{said[0].upper()}{said[1:]}."


def _cells(file: Path) -> tuple[int, int] | None:
    """Read the size of a map from its array's header; None if the file is none.

    Nothing but the header: it may claim more cells than there is memory for.
    """
    if not file.is_file():  # a pipe, say
        return None
    try:
        with open(file, "rb") as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                return None
            shape, _, kind = np.lib.format.read_array_header_1_0(stream)
            height, width = shape
            whole = stream.tell() + height * width * kind.itemsize
            is_whole = min(shape) > 0 and whole == os.fstat(stream.fileno()).st_size
    except (OSError, ValueError, RecursionError, MemoryError):
        return None
    return (height, width) if is_whole else None


def _encode_thumbnail(image: np.ndarray) -> bytes:
    """Shrink (H, W) or (H, W, 3) uint8 pixels to a JPEG's bytes."""
    height, width = image.shape[:2]
    ratio = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return images.encode(scaled, "jpg", _QUALITY)
