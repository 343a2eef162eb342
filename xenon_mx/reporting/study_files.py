"""The radiographs of studies and the overlays of their maps, on this disk.

Owns how both are found, and that none leads out of its folder; must not know which
studies are shown, or the page.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Sequence

from xenon_mx.data import datasets, links, manifest, mura, roots
from xenon_mx.errors import XenonError
from xenon_mx.inference import cam_folder
from xenon_mx.reporting import thumbnails
from xenon_mx.reporting.thumbnails import Thumbnail
from xenon_mx.runtime import text

_MAX_VIEWS = 4  # per study: MURA's mostly have two or three views, and at most 13


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
        remedy: What gives the radiographs of these studies, in words: an imperative.

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
        self.remedy = _remedy(studies)
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
            (root, self.is_found, self.remedy),
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
        shown: list[Thumbnail] = []
        for number, name in enumerate(views[:_MAX_VIEWS], 1):
            view = f"view {number} of {len(views)} of {study}"
            place = f" {number}" if len(views) > 1 else ""
            if name in radiographs:
                shown += thumbnails.of_radiograph(
                    radiographs[name], f"Radiograph{place}", f"Radiograph, {view}"
                )
            if name in overlays:
                self.coarseness = self.coarseness or thumbnails.coarseness(
                    overlays[name]
                )
                shown += thumbnails.of_overlay(
                    overlays[name], f"Map{place}", f"Class activation map, {view}"
                )
        is_cut = len(views) > _MAX_VIEWS
        return shown, f"Views 1 to {_MAX_VIEWS} of {len(views)}" if is_cut else ""

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


def _remedy(studies: Sequence[str]) -> str:
    """Return which flags give the radiographs of studies with such names."""
    if any(mura.study_type_index(PurePosixPath(s).parts) is not None for s in studies):
        return "give the folder that their paths are relative to with --root"
    return (
        "give the manifest of the studies with --link, and the folder of its images "
        "with --root; of an archive, its link file with --link; of other images, their "
        "folder with --root"
    )


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
