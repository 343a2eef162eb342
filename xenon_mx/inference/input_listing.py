"""The images that INPUTs name: CSVs of paths, manifests, folders and image files.

Owns the steps from an INPUT to a list of images. Must not know pixels, nets or outputs.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple, Sequence

from xenon_mx.config import PredictConfig
from xenon_mx.data import archive_films, datasets, folders, manifest, mura
from xenon_mx.errors import XenonError
from xenon_mx.evaluation.left_out import LeftOutImage
from xenon_mx.runtime import text

_log = logging.getLogger(__name__)


class Listed(NamedTuple):
    """The images of all INPUTs.

    Attributes:
        images: Every image once, in the order of the inputs.
        left_out: The files of an archive whose headers cannot be used.
    """

    images: list[mura.Image]
    left_out: list[LeftOutImage]


def list_inputs(config: PredictConfig) -> Listed:
    """List the images of all inputs; check that each is given once, and exists.

    With `skip_bad`, an image that does not exist is listed, and cannot be read.

    Raises:
        XenonError: An input is not one of these, or one of its images is missing.
    """
    archived: list[Path] = []
    listed: list[mura.Image] = []
    left_out: Counter[str] = Counter()
    for path in config.inputs:
        if _is_archived(path):
            archived.append(path)
            continue
        images, others = _list_input(path, config.root)
        listed += images
        left_out += others
    folders.warn_of_left_out(left_out)
    _check_study_names(listed)
    archive = _list_archive(config, archived)
    listed += archive.images
    missing = [f"{i.name}: no such file" for i in listed if not i.file.is_file()]
    if missing and not config.skip_bad:
        raise XenonError(
            f"{len(missing):,} of {text.counted(len(listed), 'image')} cannot be found",
            missing,
        )
    real_paths = [os.path.realpath(image.file) for image in listed]
    counts = Counter(real_paths)
    names = {real: image.path for image, real in zip(listed, real_paths)}
    duplicates = [name for real, name in names.items() if counts[real] > 1]
    if duplicates:
        raise XenonError(
            f"{text.counted(len(duplicates), 'image is', 'images are')} given more "
            f"than once",
            duplicates,
        )
    datasets.check_listable(listed)
    bad = [LeftOutImage(each.name, "", each.reason) for each in archive.bad]
    return Listed(listed, bad)


def _is_archived(path: Path) -> bool:
    """Return whether an INPUT is an archive's folder, or a DICOM file of no layout."""
    if path.is_dir():
        return archive_films.is_archive(path)
    is_dicom = path.is_file() and folders.is_dicom_file(path)
    return is_dicom and not datasets.read_file(path).study_type


def _list_archive(
    config: PredictConfig, archived: Sequence[Path]
) -> archive_films.ArchiveImages:
    """List the images of an archive, of which INPUTs are folders or files."""
    if not archived:
        archive_films.check_unused(config)
        return archive_films.ArchiveImages([], ())
    return archive_films.read(config, archived)


def _check_study_names(listed: Sequence[mura.Image]) -> None:
    """Check that no two folders hold studies of the same name: they are two studies."""
    folders: dict[str, set[str]] = {}
    for image in listed:
        if image.study.endswith("/"):  # not of a manifest, which names studies
            file = os.path.realpath(image.file)
            folders.setdefault(image.study, set()).add(os.path.dirname(file))
    shared = {study: names for study, names in folders.items() if len(names) > 1}
    if shared:
        raise XenonError(
            f"{text.counted(len(shared), 'study name is', 'study names are')} found in "
            f"several folders: predict each folder by a command of its own",
            [f"{study}: {', '.join(sorted(shared[study]))}" for study in shared],
        )


def _list_input(path: Path, root: Path | None) -> datasets.Listing:
    """List the images of one INPUT."""
    if path.is_dir():
        listed = datasets.list_folder(path)
        if not listed.images:
            found = folders.in_words(listed.left_out)
            raise XenonError(
                f"{text.folder_name(path)}: no image in this folder or below"
                + (f": {found}" if found else "")
            )
        return listed
    if not path.is_file():
        raise XenonError(f"{path}: no such file or folder")
    if manifest.is_manifest(path):
        read = manifest.read_manifest(path, root)
        _log.info("%s: images from %s", path, os.path.abspath(read.folder))
        return datasets.Listing(read.images, Counter())
    if path.suffix.lower() == ".csv":
        manifest.check_not_misspelt(path)
        return datasets.Listing(datasets.read_paths(path, root), Counter())
    return datasets.Listing([datasets.read_file(path)], Counter())
