"""A data set on disk: its folders and CSVs, read into images with labels.

Owns finding the files of a data set and reading its CSVs; must not know pixels, records
or nets.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections import Counter
from pathlib import Path
from typing import Mapping, NamedTuple, Sequence

from xenon_mx.data import folders, listed_files, mura_csvs, roots
from xenon_mx.data.mura import (
    SPLITS,
    Image,
    check_labels_of_folders,
    parse,
    study_type_index,
)
from xenon_mx.errors import XenonError
from xenon_mx.runtime import text

_log = logging.getLogger(__name__)

# What would break a line of a .lst file; Python decodes stray bytes to surrogates.
_UNLISTABLE = re.compile("[\\t\\n\\r\\ud800-\\udfff]")


class Listing(NamedTuple):
    """The images of an input.

    Attributes:
        images: The images.
        left_out: The number of other files by kind, see `folders.FolderFiles`.
    """

    images: list[Image]
    left_out: Counter[str]


class DataSet(NamedTuple):
    """The images of a data set.

    Attributes:
        splits: Split name to images, in the order of the CSV or else in natural order.
        rules: Split name to how its images were found: `source`, `parent`, `root` or
            `working directory`, see `roots`.
        is_split: Whether the source tells the splits; otherwise all are in `train`.
        patients_known: Whether the source tells the patients; otherwise each study
            counts as a patient of its own.
    """

    splits: dict[str, list[Image]]
    rules: dict[str, str]
    is_split: bool = True
    patients_known: bool = True


class _Found(NamedTuple):
    """The images of one split, and how they were found.

    Attributes:
        images: The images.
        rule: The rule, see `roots`.
        base: The folder that their paths are relative to.
        folder: The data set's folder.
    """

    images: list[Image]
    rule: str
    base: Path
    folder: Path


def read_dataset(source: Path, root: Path | None = None) -> DataSet:
    """List the images of each split of a data set, with a label for every one.

    Args:
        source: MURA's root. A split's CSV lists its images; without a CSV, all images
            in the split's folder belong to it.
        root: The folder that the CSVs' paths are relative to; None searches for it.

    Raises:
        XenonError: There is no split, or labels are missing or contradictory.
    """
    if not source.is_dir():
        name = text.folder_name(source)
        what = "is no folder" if source.exists() else "no such file or folder"
        raise XenonError(
            f"{name}: {what}; give the root of MURA-v1.1, a CSV that "
            f"lists images, or a folder of DICOM files"
        )
    found = {}
    left_out: Counter[str] = Counter()
    for split in SPLITS:
        csv = source / f"{split}_image_paths.csv"
        if csv.is_file():
            found[split] = _read_csv(csv, root)
        elif (source / split).is_dir():
            images, others = list_folder(source.resolve() / split)
            left_out += others
            found[split] = _Found(images, roots.SOURCE, source, source)
    splits = {split: each.images for split, each in found.items()}
    csvs = {split: source / f"{split}_labeled_studies.csv" for split in splits}
    labels = {
        split: mura_csvs.read_labels(csv)
        for split, csv in csvs.items()
        if csv.is_file()
    }
    listed = [image.study for images in splits.values() for image in images]
    check_labels_of_folders([*listed, *itertools.chain(*labels.values())])
    for split, images in splits.items():
        splits[split] = _labelled(images, labels.get(split), csvs[split])
    if not any(splits.values()):
        raise _no_splits(source, left_out)
    folders.warn_of_left_out(left_out)
    _check_places(source, found)
    return DataSet(splits, {split: each.rule for split, each in found.items()})


def _no_splits(source: Path, left_out: Counter[str]) -> XenonError:
    """Return the error of a folder that holds no images of a split of MURA's."""
    name = text.folder_name(source)
    count = sum(1 for _ in folders.images_in(source))
    if count:
        return XenonError(
            f"{name}: {text.counted(count, 'image')}, but not in the folders of MURA, "
            f"which tell train and valid: list them with their labels in a CSV whose "
            f"first line is image,patient,study,label, and give the CSV "
            f"(docs/manifests.md)"
        )
    return XenonError(
        f"{name}: no images: expected train_image_paths.csv and "
        f"valid_image_paths.csv, or folders train/XR_*/ and valid/XR_*/"
        + (f", but found {folders.in_words(left_out)}" if left_out else "")
    )


def read_paths(csv: Path, root: Path | None = None) -> list[Image]:
    """Read a CSV of image paths, in the format of MURA and its competition.

    Logs the folder in which the images were found.

    Args:
        csv: One path per line, without a header.
        root: The folder that the paths are relative to. None tries the CSV's folder,
            its parent and the working directory, see `roots`.

    Raises:
        XenonError: The CSV cannot be read, lists an image twice, has a path outside
            the root, or none of its images exists.
    """
    found = _read_csv(csv, root)
    _log.info("%s: images from %s", csv, os.path.abspath(found.folder))
    return found.images


def _read_csv(csv: Path, root: Path | None) -> _Found:
    """Read a CSV of image paths, and find its images."""
    paths = [row[0] for row in mura_csvs.read_rows(csv, columns=1)]
    files, found = listed_files.locate(csv, paths, root)
    images = [parse(path, file) for path, file in zip(paths, files)]
    return _Found(images, found.rule, found.base, found.data_set(paths))


def _check_places(source: Path, found: Mapping[str, _Found]) -> None:
    """Check that all splits were found alike; log in which folders.

    In a copy of a data set that lacks a whole split, that split could otherwise be
    replaced by another data set's.
    """
    splits: dict[str, list[str]] = {}
    for split, each in found.items():
        splits.setdefault(os.path.abspath(each.folder), []).append(split)
    bases = {os.path.abspath(each.base) for each in found.values()}
    is_told = any(each.rule == roots.ROOT for each in found.values())
    if len(bases) > 1 and not is_told:
        places = (f"{', '.join(of)} in {folder}" for folder, of in splits.items())
        raise XenonError(
            f"{text.folder_name(source)}: its splits were found in different folders, "
            f"{'; '.join(places)}: if that is right, name the folder that the CSVs' "
            f"paths are relative to with --root"
        )
    for folder, of_folder in splits.items():
        _log.info("%s: images from %s", ", ".join(of_folder), folder)


def read_folder(folder: Path) -> list[Image]:
    """List the images below a folder, in natural order, see `folders`."""
    return list_folder(folder).images


def list_folder(folder: Path) -> Listing:
    """List the images below a folder, and count the other files."""
    files, left_out = folders.find_images(folder)
    return Listing([read_file(file) for file in files], left_out)


def read_file(file: Path) -> Image:
    """Return one image file, named as MURA names it, whatever path it is given by.

    Such a name starts two folders above `XR_*` (`MURA-v1.1/valid/XR_WRIST/...`);
    outside MURA's layout it is the path as given.
    """
    parts = Path(os.path.abspath(file)).parts
    index = study_type_index(parts[:-3])
    if index is None:
        return parse(file.as_posix(), file)
    return parse("/".join(parts[max(1, index - 2) :]), file)


def _labelled(
    images: Sequence[Image], labels: dict[str, int] | None, csv: Path
) -> list[Image]:
    """Return the images with their studies' labels, from the CSV if there is one."""
    outside = [image.path for image in images if not image.study_type]
    if outside:
        raise XenonError(
            f"{text.counted(len(outside), 'image lies', 'images lie')} outside "
            f"XR_*/patient*/study*/, without a study",
            outside,
        )
    check_listable(images)
    if labels is not None:
        images = mura_csvs.with_labels(images, labels, csv)
    unlabelled = sorted({image.study for image in images if image.label is None})
    if unlabelled:
        raise XenonError(
            f"{text.counted(len(unlabelled), 'study has', 'studies have')} no label: "
            f"neither in {csv.name} nor as _positive or _negative in the folder's name",
            unlabelled,
        )
    return list(images)


def check_listable(images: Sequence[Image]) -> None:
    """Check that all paths can be written to a .lst file and a CSV.

    Raises:
        XenonError: A path has a tab, a line break, or bytes that are not UTF-8.
    """
    bad = [ascii(image.path) for image in images if _UNLISTABLE.search(image.path)]
    if bad:
        raise XenonError(
            f"{text.counted(len(bad), 'path has', 'paths have')} a tab, a line break "
            f"or bytes that are not UTF-8: rename the files",
            bad,
        )
