"""The images to predict: from CSVs, folders, image files or a .rec file.

Owns the steps from an INPUT to a list of images and batches of their pixels. Must not
know nets or outputs.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Callable, Iterable, Iterator, Sequence, TypeVar

import numpy as np

from xenon_mx.config import PredictConfig
from xenon_mx.data import (
    archive_films,
    datasets,
    folders,
    images,
    manifest,
    mura,
    packed_folder,
    recordio,
)
from xenon_mx.errors import XenonError
from xenon_mx.runs.run_meta import Preprocessing
from xenon_mx.runtime import text, threads

_log = logging.getLogger(__name__)

T = TypeVar("T")


class InputImages:
    """The images to predict.

    Args:
        config: The settings of `xenon-predict`.
        preprocessing: Of the nets' training images.

    Attributes:
        images: Every image once, in the order of the inputs.
        origin: The fingerprint of the packed folder and the split's name if the input
            is a .rec file, else None.

    Raises:
        XenonError: An input is not one of these, or one of its images is missing.
    """

    def __init__(self, config: PredictConfig, preprocessing: Preprocessing) -> None:
        self._config = config
        self._preprocessing = preprocessing
        self._oddities = images.Oddities()
        self._split: packed_folder.Split | None = None
        self.origin: tuple[str, str] | None = None
        if any(path.suffix == ".rec" for path in config.inputs):
            self._split = self._open_rec()
            self.images = self._split.listed()
        else:
            self.images = _list_inputs(config)
        mura.check_labels_of_folders(image.study for image in self.images)

    def batches(self, with_mxnet: bool = True) -> Iterator[np.ndarray]:
        """Yield the pixels of `images` in order, in batches of (n, S, S) uint8.

        Args:
            with_mxnet: Decode records with MXNet's loader. Otherwise OpenCV decodes
                them on several threads, to the same pixels, and MXNet is not imported.

        Raises:
            XenonError: Images cannot be read, or show nothing; one error names all.
        """
        if self._split is None:
            yield from self._decode_batches(self._decode_file, self.images)
            self._oddities.log()
        elif not with_mxnet:
            records = self._split.images()
            yield from self._decode_batches(self._decode_record, records)
        else:
            yield from self._load_batches(self._split)

    def radiograph(self, number: int, pixels: np.ndarray) -> np.ndarray:
        """Return an image in its own size, before it was scaled for the nets.

        Args:
            number: Its index in `images`.
            pixels: Its pixels from `batches`, (S, S) uint8.

        Returns:
            (H, W) uint8. From a .rec file, `pixels`: it holds nothing larger.
        """
        return pixels if self._split else _read_gray(self.images[number])

    def files(self) -> list[Path]:
        """Return every file that is read, in addition to the inputs themselves."""
        if self._split is not None:
            return [self._split.folder / name for name in self._split.files]
        return [image.file for image in self.images]

    def _open_rec(self) -> packed_folder.Split:
        """Open the only input, a .rec file, and check its preprocessing."""
        rec, *others = self._config.inputs
        if others:
            raise XenonError("a .rec file must be the only INPUT")
        packed, split = packed_folder.open_rec(rec)
        self.origin = (packed.fingerprint, split.name)
        for key, value in packed.preprocessing.items():
            trained = getattr(self._preprocessing, key)
            if value != trained:
                raise XenonError(
                    f"{rec}: packed with {key} {value}, but the run was trained with "
                    f"{trained}: pack again, or predict the image files"
                )
        return split

    def _load_batches(self, split: packed_folder.Split) -> Iterator[np.ndarray]:
        """Yield records as MXNet's loader decodes them, if each shows something."""
        from xenon_mx.data import record_iter  # loads MXNet

        errors: list[str] = []
        numbers = itertools.count()
        for batch in record_iter.evaluation_batches(split, self._config.batch_size):
            for pixels, number in zip(batch.pixels, numbers):
                try:
                    images.check_visible(pixels, self._record_name(number))
                except XenonError as error:
                    errors.append(str(error))
            if not errors:
                yield batch.pixels
        _check_none(errors)

    def _record_name(self, number: int) -> str:
        return f"{self._config.inputs[0]}: record {number}"

    def _decode_batches(
        self, decode: Callable[[T], np.ndarray | str], items: Iterable[T]
    ) -> Iterator[np.ndarray]:
        """Decode items on several threads, and yield their pixels in batches.

        After a file that is not an image, no more batches are yielded, but all files
        are still read, so that one error names every bad file.

        Args:
            decode: Returns the pixels of an item, or the message if it has none.
            items: Images or records.
        """
        errors: list[str] = []
        batch: list[np.ndarray] = []
        for pixels in threads.map_in_order(decode, items, self._config.threads):
            if isinstance(pixels, str):
                errors.append(pixels)
                continue
            batch.append(pixels)
            if len(batch) == self._config.batch_size:
                if not errors:
                    yield np.stack(batch)
                batch = []
        _check_none(errors)
        if batch:
            yield np.stack(batch)

    def _decode_file(self, image: mura.Image) -> np.ndarray | str:
        """Return an image scaled for the nets, or the message if it cannot be read."""
        try:
            data = images.read(image.file, image.name)
            gray = images.decode(data, image.name)
        except XenonError as error:
            return str(error)
        self._oddities.add(data)
        return images.fit_square(
            gray, self._preprocessing.size, self._preprocessing.fit
        )

    def _decode_record(self, record: recordio.Record) -> np.ndarray | str:
        """Return a record's pixels as packed, or the message if they are damaged."""
        size = self._preprocessing.size
        name = self._record_name(record.number)
        try:
            gray = images.decode(record.image, name)
        except XenonError as error:
            return str(error)
        if gray.shape != (size, size):
            return f"{name}: {gray.shape[1]}x{gray.shape[0]} px, not {size}x{size}"
        return gray


def _check_none(errors: list[str]) -> None:
    """Raise one error of all images that cannot be read, if there are any."""
    if errors:
        raise XenonError(
            f"{text.counted(len(errors), 'image')} cannot be read; nothing is written",
            errors,
        )


def _read_gray(image: mura.Image) -> np.ndarray:
    return images.decode(images.read(image.file, image.name), image.name)


def _list_inputs(config: PredictConfig) -> list[mura.Image]:
    """List the images of all inputs; check that each exists and is given once."""
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
    listed += _list_archive(config, archived)
    missing = [f"{i.name}: no such file" for i in listed if not i.file.is_file()]
    if missing:
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
    return listed


def _is_archived(path: Path) -> bool:
    """Return whether an INPUT is an archive's folder, or a DICOM file of no layout."""
    if path.is_dir():
        return archive_films.is_archive(path)
    is_dicom = path.is_file() and folders.is_dicom_file(path)
    return is_dicom and not datasets.read_file(path).study_type


def _list_archive(config: PredictConfig, archived: Sequence[Path]) -> list[mura.Image]:
    """List the images of an archive, of which INPUTs are folders or files."""
    if not archived:
        archive_films.check_unused(config)
        return []
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
        return datasets.Listing(datasets.read_paths(path, root), Counter())
    return datasets.Listing([datasets.read_file(path)], Counter())
