"""The images to predict: from CSVs, folders, image files or a .rec file.

Owns the batches of their pixels, and which images are left out. Must not know nets or
outputs.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Callable, Iterable, Iterator, Sequence, TypeVar, Union

import numpy as np

from xenon_mx.config import PredictConfig
from xenon_mx.data import images, mura, packed_folder, recordio
from xenon_mx.errors import FileError, XenonError
from xenon_mx.evaluation.left_out import LeftOutImage
from xenon_mx.inference import input_listing
from xenon_mx.runs.run_meta import Preprocessing
from xenon_mx.runtime import text, threads

T = TypeVar("T")
Decoded = Union[np.ndarray, FileError]


class InputImages:
    """The images to predict.

    Args:
        config: The settings of `xenon-predict`.
        preprocessing: Of the nets' training images.

    Attributes:
        images: Every image once, in the order of the inputs.
        predicted: The images whose pixels `batches` has yielded, in this order.
        left_out: With `skip_bad`, the images without pixels, with their reasons.
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
        self._bad_headers: list[LeftOutImage] = []
        self.predicted: list[mura.Image] = []
        self.left_out: list[LeftOutImage] = []
        self.origin: tuple[str, str] | None = None
        if any(path.suffix == ".rec" for path in config.inputs):
            self._split = self._open_rec()
            self.images = self._split.listed()
        else:
            self.images, self._bad_headers = input_listing.list_inputs(config)
        mura.check_labels_of_folders(image.study for image in self.images)

    def batches(self, with_mxnet: bool = True) -> Iterator[np.ndarray]:
        """Yield the pixels of `images` in order, in batches of (n, S, S) uint8.

        Args:
            with_mxnet: Decode records with MXNet's loader. Otherwise OpenCV decodes
                them on several threads, to the same pixels, and MXNet is not imported.

        Raises:
            XenonError: Images cannot be read, or show nothing; one error names all.
                With `skip_bad`, only if no image is left.
        """
        self.predicted, self.left_out = [], [*self._bad_headers]
        if self._split is None:
            yield from self._decode_batches(self._decode_file, self.images)
            self._oddities.log()
        elif not with_mxnet:
            records = self._split.images()
            yield from self._decode_batches(self._decode_record, records)
        else:
            yield from self._load_batches(self._split)
        if not self.predicted:
            raise XenonError(
                f"none of {text.counted(len(self.images), 'image')} can be read",
                text.summarised([(e.image, e.reason) for e in self.left_out], "image"),
            )

    def radiograph(self, number: int, pixels: np.ndarray) -> np.ndarray:
        """Return an image in its own size, before it was scaled for the nets.

        Args:
            number: Its index in `predicted`.
            pixels: Its pixels from `batches`, (S, S) uint8.

        Returns:
            (H, W) uint8. From a .rec file, `pixels`: it holds nothing larger.
        """
        return pixels if self._split else _read_gray(self.predicted[number])

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

        errors: list[FileError] = []
        numbers = itertools.count()
        for batch in record_iter.evaluation_batches(split, self._config.batch_size):
            good = []
            for row, (pixels, number) in enumerate(zip(batch.pixels, numbers)):
                try:
                    images.check_visible(pixels, self._record_name(number))
                    good.append((row, self.images[number]))
                except FileError as error:
                    self._leave_out(self.images[number], error, errors)
            if good and not errors:
                rows, chosen = zip(*good)
                self.predicted += chosen
                yield batch.pixels[list(rows)]
        _check_none(errors)

    def _record_name(self, number: int) -> str:
        return f"{self._config.inputs[0]}: record {number}"

    def _leave_out(
        self, image: mura.Image, error: FileError, errors: list[FileError]
    ) -> None:
        """Note an image without pixels, or its error if none may be left out."""
        if self._config.skip_bad:
            self.left_out.append(LeftOutImage(image.path, image.study, error.reason))
        else:
            errors.append(error)

    def _decode_batches(
        self, decode: Callable[[T], Decoded], items: Iterable[T]
    ) -> Iterator[np.ndarray]:
        """Decode items on several threads, and yield their pixels in batches.

        After a file that is not an image, no more batches are yielded, but all files
        are still read, so that one error names every bad file.

        Args:
            decode: Returns the pixels of an item, or the error if it has none.
            items: The images or their records, in the order of `images`.
        """
        errors: list[FileError] = []
        batch: list[np.ndarray] = []
        chosen: list[mura.Image] = []
        decoded = threads.map_in_order(decode, items, self._config.threads)
        for pixels, image in zip(decoded, self.images):
            if isinstance(pixels, FileError):
                self._leave_out(image, pixels, errors)
                continue
            batch.append(pixels)
            chosen.append(image)
            if len(batch) == self._config.batch_size:
                if not errors:
                    yield self._stack(batch, chosen)
                batch, chosen = [], []
        _check_none(errors)
        if batch:
            yield self._stack(batch, chosen)

    def _stack(
        self, batch: Sequence[np.ndarray], chosen: Sequence[mura.Image]
    ) -> np.ndarray:
        """Return a batch, after noting whose pixels it is of."""
        self.predicted += chosen
        return np.stack(batch)

    def _decode_file(self, image: mura.Image) -> Decoded:
        """Return an image scaled for the nets, or the error if it cannot be read."""
        try:
            data = images.read(image.file, image.name)
            gray = images.decode(data, image.name)
        except FileError as error:
            return error
        self._oddities.add(data)
        return images.fit_square(
            gray, self._preprocessing.size, self._preprocessing.fit
        )

    def _decode_record(self, record: recordio.Record) -> Decoded:
        """Return a record's pixels as packed, or the error if they are damaged."""
        size = self._preprocessing.size
        name = self._record_name(record.number)
        try:
            gray = images.decode(record.image, name)
        except FileError as error:
            return error
        if gray.shape != (size, size):
            shape = f"{gray.shape[1]}x{gray.shape[0]} px"
            return FileError(name, f"{shape}, not {size}x{size}")
        return gray


def _check_none(errors: list[FileError]) -> None:
    """Raise one error of all images that cannot be read, if there are any."""
    if errors:
        raise XenonError(
            f"{text.counted(len(errors), 'image')} cannot be read: repair what is "
            f"listed above, or leave it out with --skip-bad; nothing is written",
            text.summarised([(each.path, each.reason) for each in errors], "image"),
        )


def _read_gray(image: mura.Image) -> np.ndarray:
    return images.decode(images.read(image.file, image.name), image.name)
