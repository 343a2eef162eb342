"""Reading and verifying a packed folder: RecordIO files, index, list, pack.json.

Owns verifying the files before MXNet opens them (MXNet 1.9.1 crashes with a
segmentation fault on a damaged record) and reading them; must not know data sets or
nets.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Callable, Iterator, Mapping, NamedTuple, Sequence

from xenon_mx.data import manifest, mura, pack_meta, recordio
from xenon_mx.data.pack_meta import MANIFEST, REPACK, FileMeta, PackMeta
from xenon_mx.errors import XenonError, os_error
from xenon_mx.runtime import files, text
from xenon_mx.settings import AnyPath

PACK_JSON = "pack.json"
SPLITS = manifest.SPLITS

_CHUNK = 1 << 20  # bytes


class RecordLabels(NamedTuple):
    """Labels and path of a record's image; its index is its position in the file."""

    abnormal: int
    study_type: int
    study: int
    path: str


@dataclass(frozen=True)
class Split:
    """One split of a packed folder.

    Attributes:
        folder: The packed folder.
        name: One of `SPLITS`.
        records: Number of images.
        size: Side of the square images, px.
        study_types: The study types, by the number that records carry.
        files: Size and SHA-256 of each file, from pack.json.
        stamps: Device, inode, size and modification time of each file: while these
            are unchanged, it is the file that was verified.
    """

    folder: Path
    name: str
    records: int
    size: int
    study_types: tuple[str, ...]
    files: Mapping[str, FileMeta]
    stamps: Mapping[str, tuple[int, ...]]

    def path(self, kind: str) -> Path:
        """Return the path of the split's `rec`, `idx` or `lst`."""
        return self.folder / f"{self.name}.{kind}"

    def rows(self) -> list[RecordLabels]:
        """Read the list, in record order."""
        lst = self.path("lst")
        rows = []
        for number, line in enumerate(self._lines("lst", "utf-8")):
            fields = line.split("\t")
            numbers = fields[:4]
            if len(fields) != 5 or not all(f.isdecimal() for f in numbers):
                raise XenonError(f"{lst}:{number + 1}: not a row of a list: {REPACK}")
            index, abnormal, study_type, study = map(int, numbers)
            if index != number or abnormal > 1 or study_type >= len(self.study_types):
                raise XenonError(f"{lst}:{number + 1}: out of range: {REPACK}")
            rows.append(RecordLabels(abnormal, study_type, study, fields[4]))
        return rows

    def listed(self) -> list[mura.Image]:
        """Return the image that each record stands for, in record order."""
        rows, file = self.rows(), self.path("rec")
        if self.path(MANIFEST).name not in self.files:
            images = [mura.parse(row.path, file) for row in rows]
        else:
            images = self._read_manifest()
            if [image.path for image in images] != [row.path for row in rows]:
                raise XenonError(
                    f"{self.path(MANIFEST)} and {self.path('lst')} disagree: {REPACK}"
                )
        return [
            replace(
                image,
                study_type=self.study_types[row.study_type],
                label=row.abnormal,
            )
            for image, row in zip(images, rows)
        ]

    def _read_manifest(self) -> list[mura.Image]:
        try:
            with self._open(MANIFEST) as file:
                return manifest.from_packed(file.read(), self.path("rec"))
        except (OSError, ValueError, csv.Error) as error:
            raise _read_error(self.path(MANIFEST), error) from error

    def images(self) -> Iterator[recordio.Record]:
        """Yield each record, in file order."""
        try:
            with self._open("rec") as file:
                yield from recordio.read(file)
        except (OSError, recordio.DamageError) as error:
            raise _read_error(self.path("rec"), error) from error

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[int], recordio.Record]]:
        """Open the records; yield a function that reads one by its number, from 0."""
        offsets = self._offsets()
        try:
            with self._open("rec") as file:

                def read(number: int) -> recordio.Record:
                    file.seek(offsets[number])
                    return next(recordio.read(file))

                yield read
        except (OSError, recordio.DamageError) as error:
            raise _read_error(self.path("rec"), error) from error

    def verify(self) -> None:
        """Check the files' sizes, content and SHA-256, and that they agree.

        Raises:
            XenonError: A file is missing, damaged, or contradicts another.
        """
        self._verify_sizes()
        rows, offsets = self.rows(), self._offsets()
        if not len(rows) == len(offsets) == self.records:
            raise XenonError(
                f"{self.path('lst')} lists {text.counted(len(rows), 'image')}, "
                f"{self.path('idx')} {len(offsets):,}, {PACK_JSON} {self.records:,}: "
                f"{REPACK}"
            )
        self.verify_checksums(self._verify_records(rows, offsets))

    def verify_checksums(self, rec_sha256: str | None = None) -> None:
        """Compare every file with its SHA-256 in pack.json.

        Args:
            rec_sha256: That of the .rec file, if it has been computed already.

        Raises:
            XenonError: A file differs.
        """
        for name, recorded in self.files.items():
            file = self.folder / name
            is_rec = file == self.path("rec")
            sha256 = rec_sha256 if is_rec and rec_sha256 else files.sha256(file)
            if sha256 != recorded.sha256:
                raise XenonError(f"{file}: changed on disk: {REPACK}")

    def verify_unchanged(self) -> None:
        """Check quickly that the files are still those that were verified.

        Raises:
            XenonError: One was replaced, changed or removed.
        """
        for name in self.files:
            file = self.folder / name
            self._expect_stamp(name, _stamp(file) if file.exists() else ())

    def _open(self, kind: str) -> IO[bytes]:
        """Open a file, which must be the one that was verified."""
        file = open(self.path(kind), "rb")  # noqa: SIM115 - the caller closes it
        try:
            self._expect_stamp(self.path(kind).name, _stamp(file.fileno()))
        except XenonError:
            file.close()
            raise
        return file

    def _expect_stamp(self, name: str, stamp: tuple[int, ...]) -> None:
        if stamp != self.stamps.get(name):
            raise XenonError(
                f"{self.folder / name}: was packed again, changed or removed while it "
                f"was being read: start again, with the data as they are now"
            )

    def _verify_sizes(self) -> None:
        """Check that the files exist, in the sizes that pack.json records."""
        for name, recorded in self.files.items():
            file = self.folder / name
            if not file.is_file():
                raise XenonError(f"{file}: the file is missing; pack again")
            actual = file.stat().st_size
            if actual != recorded.bytes:
                raise XenonError(
                    f"{file}: {text.counted(actual, 'byte')}, but {PACK_JSON} says "
                    f"{recorded.bytes:,}: {REPACK}"
                )

    def _verify_records(
        self, rows: Sequence[RecordLabels], offsets: Sequence[int]
    ) -> str:
        """Check every record against list and index; return the .rec file's SHA-256."""
        rec, count = self.path("rec"), 0
        try:
            with self._open("rec") as file:
                reader = _HashingReader(file)
                for record, row, offset in zip(recordio.read(reader), rows, offsets):
                    if record.offset != offset:
                        raise XenonError(f"{self.path('idx')}:{count + 1}: {REPACK}")
                    if (record.number, *record.labels.tolist()) != (count, *row[:3]):
                        raise XenonError(
                            f"{rec}: record {count} and {self.path('lst')} disagree: "
                            f"{REPACK}"
                        )
                    count += 1
                sha256 = reader.finish()
        except (OSError, recordio.DamageError) as error:
            raise _read_error(rec, error) from error
        if count != self.records:
            raise XenonError(
                f"{rec}: {count:,} of {text.counted(self.records, 'record')}: {REPACK}"
            )
        return sha256

    def _offsets(self) -> list[int]:
        """Read the index: the offset of each record in the .rec file."""
        idx = self.path("idx")
        offsets = []
        for number, line in enumerate(self._lines("idx", "ascii")):
            key, _, offset = line.partition("\t")
            # MXNet crashes on keys that are not numbers, and sorts offsets itself.
            if key != str(number) or not offset.isdecimal():
                raise XenonError(f"{idx}:{number + 1}: not a row of an index")
            offsets.append(int(offset))
        return offsets

    def _lines(self, kind: str, encoding: str) -> list[str]:
        try:
            with self._open(kind) as file:
                return file.read().decode(encoding).split("\n")[:-1]
        except (OSError, UnicodeDecodeError) as error:
            raise _read_error(self.path(kind), error) from error


class _HashingReader:
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data

    def tell(self) -> int:
        return self._file.tell()

    def finish(self) -> str:
        """Read to the end, and return the SHA-256 of the whole file."""
        while self.read(_CHUNK):
            pass
        return self._digest.hexdigest()


@dataclass(frozen=True)
class PackedFolder:
    """A packed folder and its pack.json."""

    folder: Path
    meta: PackMeta

    def __fspath__(self) -> str:
        """Return the folder's path, so that the object stands for its folder."""
        return str(self.folder)

    @property
    def splits(self) -> list[str]:
        """Return the names of the splits it holds."""
        return [name for name in SPLITS if name in self.meta.splits]

    @property
    def validation_split(self) -> str | None:
        """Return the split that training chooses its checkpoints on, if there is one.

        A holdout split leaves `valid` untouched.
        """
        return next(
            (name for name in ("holdout", "valid") if name in self.splits), None
        )

    @property
    def study_types(self) -> tuple[str, ...]:
        """Return the study types, by the number that records carry."""
        return self.meta.study_types

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Return `size` and `fit`, as a net trained on these data needs its images."""
        return {"size": self.meta.size, "fit": self.meta.fit}

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 that identifies the data, see `PackMeta.fingerprint`."""
        return self.meta.fingerprint

    def split(self, name: str) -> Split:
        """Return one split, verified.

        Raises:
            XenonError: The folder has no such split, or the split is damaged.
        """
        if name not in self.splits:
            raise XenonError(
                f"{text.folder_name(self.folder)}: holds no {name} split, only "
                f"{', '.join(self.splits)}"
            )
        meta = self.meta.splits[name]
        existing = [file for file in meta.files if (self.folder / file).exists()]
        split = Split(
            folder=self.folder,
            name=name,
            records=meta.records,
            size=self.meta.size,
            study_types=self.study_types,
            files=meta.files,
            stamps={file: _stamp(self.folder / file) for file in existing},
        )
        split.verify()
        return split


def _stamp(file: Path | int) -> tuple[int, ...]:
    """Return numbers that change when a file is changed or replaced."""
    state = os.stat(file)
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def open_packed(folder: AnyPath) -> PackedFolder:
    """Open a packed folder.

    Raises:
        XenonError: It is not a packed folder, or has another format.
    """
    folder = Path(folder)
    path = folder / PACK_JSON
    if not folder.exists():
        raise XenonError(f"{folder}: no such folder; make one with xenon-pack")
    if not path.is_file():
        raise XenonError(
            f"{text.folder_name(folder)}: not a packed folder: it has no {PACK_JSON}; "
            f"make one with xenon-pack"
        )
    return PackedFolder(folder, pack_meta.read(path))


def open_rec(rec: Path) -> tuple[PackedFolder, Split]:
    """Open the packed folder and the split that a .rec file belongs to.

    Raises:
        XenonError: There is no such file, it is outside the packed folder that it was
            written to, or it has another name than there.
    """
    if not rec.is_file():
        raise XenonError(f"{rec}: no such file")
    if not (rec.parent / PACK_JSON).is_file():
        raise XenonError(
            f"{rec}: there is no {PACK_JSON} beside it, which tells what its records "
            f"are: give the .rec file in the folder that xenon-pack wrote"
        )
    packed = open_packed(rec.parent)
    if rec.stem not in packed.splits:
        raise XenonError(
            f"{rec}: the packed folder that it is in holds no {rec.stem} split, only "
            f"{', '.join(packed.splits)}: a .rec file keeps its name"
        )
    return packed, packed.split(rec.stem)


def _read_error(file: Path, error: Exception) -> XenonError:
    """Return the error for a file that cannot be read, or not as what it should be.

    An OSError does not mean that the file is damaged.
    """
    if isinstance(error, OSError):
        return os_error(file, error)
    return XenonError(f"{file}: cannot be read: {error}; {REPACK}")
