"""What a user can ask a prediction of: CSVs, folders, image files and .rec files.

Owns the way from an INPUT to a list of images and batches of their pixels. Knows no
nets and no outputs.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Callable, Iterable, Iterator, Sequence, TypeVar

import numpy as np

from xenon_mx.config import PredictConfig
from xenon_mx.data import datasets, images, mura, packed_folder, recordio
from xenon_mx.errors import XenonError
from xenon_mx.runs.run_meta import Preprocessing
from xenon_mx.runtime import threads

T = TypeVar("T")


class InputImages:
    """The images that a prediction is asked of.

    Args:
        config: What `xenon-predict` was told.
        preprocessing: Of the nets' training images.

    Attributes:
        images: Every image once, in the order of the inputs.
        origin: The fingerprint of the packed folder and the split's name, where the
            input is a .rec file.

    Raises:
        XenonError: An input is none, or one of its images is missing.
    """

    def __init__(self, config: PredictConfig, preprocessing: Preprocessing) -> None:
        self._config = config
        self._preprocessing = preprocessing
        self._split: packed_folder.Split | None = None
        self.origin: tuple[str, str] | None = None
        if any(path.suffix == ".rec" for path in config.inputs):
            self._split = self._open_rec()
            self.images = [_packed_image(self._split, r) for r in self._split.rows()]
        else:
            self.images = _list_all(config)

    def batches(self, with_mxnet: bool = True) -> Iterator[np.ndarray]:
        """Yield all pixels, (n, S, S) uint8 at a time, in the order of `images`.

        Args:
            with_mxnet: Let MXNet's loader decode records. Without it, OpenCV does on
                several threads, to the same pixels, and MXNet is not imported.

        Raises:
            XenonError: Files are no images; one error names all that are not.
        """
        if self._split is None:
            yield from self._stacked(self._decode, self.images)
        elif not with_mxnet:
            yield from self._stacked(self._unpack, self._split.images())
        else:
            from xenon_mx.data import record_iter  # loads MXNet

            size = self._config.batch_size
            for batch in record_iter.evaluation_batches(self._split, size):
                yield batch.pixels

    def radiograph(self, number: int, pixels: np.ndarray) -> np.ndarray:
        """Give an image as it is, before it was scaled for the nets.

        Args:
            number: Which of `images`.
            pixels: Its pixels among the `batches`, (S, S) uint8.

        Returns:
            (H, W) uint8. A .rec file holds nothing larger than the pixels.
        """
        return pixels if self._split else _gray(self.images[number])

    def files(self) -> list[Path]:
        """Return every file that is read, besides the inputs themselves."""
        if self._split is not None:
            return [self._split.folder / name for name in self._split.files]
        return [image.file for image in self.images]

    def _open_rec(self) -> packed_folder.Split:
        rec, *others = self._config.inputs
        if others:
            raise XenonError("a .rec file is predicted by itself: give no other INPUT")
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

    def _stacked(
        self, decode: Callable[[T], np.ndarray | str], items: Iterable[T]
    ) -> Iterator[np.ndarray]:
        """Decode on several threads.

        After a file that is no image no more batches come, but all of the files are
        read, so that one run names every one that is bad.
        """
        bad: list[str] = []
        waiting: list[np.ndarray] = []
        decoded = threads.map_in_order(decode, items, self._config.threads)
        for pixels in decoded:
            if isinstance(pixels, str):
                bad.append(pixels)
                continue
            waiting.append(pixels)
            if len(waiting) == self._config.batch_size:
                if not bad:
                    yield np.stack(waiting)
                waiting = []
        if bad:
            raise XenonError(
                f"{len(bad)} images cannot be read; nothing is written", bad
            )
        if waiting:
            yield np.stack(waiting)

    def _decode(self, image: mura.Image) -> np.ndarray | str:
        """Give an image's pixels, or the reason why it has none."""
        try:
            gray = _gray(image)
        except XenonError as error:
            return str(error)
        return images.fit_square(
            gray, self._preprocessing.size, self._preprocessing.fit
        )

    def _unpack(self, record: recordio.Record) -> np.ndarray | str:
        """Give a record's pixels, as they were packed."""
        size = self._preprocessing.size
        name = f"{self._config.inputs[0]}: record {record.number}"
        try:
            gray = images.decode(record.image, name)
        except XenonError as error:
            return str(error)
        if gray.shape != (size, size):
            return f"{name}: {gray.shape[1]}x{gray.shape[0]} px, not {size}x{size}"
        return gray


def _gray(image: mura.Image) -> np.ndarray:
    return images.decode(images.read(image.file), image.file)


def _packed_image(
    split: packed_folder.Split, row: packed_folder.RecordLabels
) -> mura.Image:
    return replace(
        mura.parse(row.path, split.path("rec")),
        study_type=split.study_types[row.study_type],
        label=row.abnormal,
    )


def _list_all(config: PredictConfig) -> list[mura.Image]:
    """List the images of all inputs, each there and given once."""
    listed = [image for path in config.inputs for image in _list(path, config.root)]
    absent = [f"{i.file}: no such file" for i in listed if not i.file.is_file()]
    if absent:
        raise XenonError(f"{len(absent)} of {len(listed)} images are missing", absent)
    real = [os.path.realpath(image.file) for image in listed]
    given = Counter(real)
    paths = {file: image.path for image, file in zip(listed, real)}
    twice = [path for file, path in paths.items() if given[file] > 1]
    if twice:
        raise XenonError(f"{len(twice)} images are given twice or more often", twice)
    _refuse_namesakes(listed, real)
    datasets.refuse_odd_names(listed)
    return listed


def _refuse_namesakes(listed: Sequence[mura.Image], real: Sequence[str]) -> None:
    """Stop at studies of the same name in several folders: they are not one study."""
    folders: dict[str, set[str]] = {}
    for image, file in zip(listed, real):
        if image.study_type:
            folders.setdefault(image.study, set()).add(os.path.dirname(file))
    shared = {study: places for study, places in folders.items() if len(places) > 1}
    if shared:
        raise XenonError(
            f"{len(shared)} studies have the same name in several folders: predict the "
            f"folders one after the other",
            [f"{study}: {', '.join(sorted(shared[study]))}" for study in shared],
        )


def _list(path: Path, root: Path | None) -> list[mura.Image]:
    """List the images that one INPUT stands for."""
    if path.is_dir():
        found = datasets.read_folder(path)
        if not found:
            raise XenonError(f"{path}: no image in this folder or below")
        return found
    if not path.is_file():
        raise XenonError(f"{path}: no such file or folder")
    if path.suffix.lower() == ".csv":
        return datasets.read_paths(path, root)
    return [datasets.read_file(path)]
