"""The packed folder: RecordIO files with their index and list, and pack.json.

Owns writing it so that nothing unfinished looks finished, verifying it before MXNet
opens it (MXNet 1.9.1 answers a damaged record with a segmentation fault), and reading
it. Knows no data set and no net.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Iterator, NamedTuple

from xenon_mx.data import outputs, recordio
from xenon_mx.errors import XenonError
from xenon_mx.runtime import files, staging

FORMAT = 1  # of pack.json; raised when a reader of the old one would misread the new
PACK_JSON = "pack.json"
SPLITS = ("train", "valid", "holdout")
KINDS = ("rec", "idx", "lst")

# What the fingerprint covers, in the order in which xenon 0.1.0 wrote it.
_FIRST_VERSION = "0.1.0"
_FINGERPRINTED = (
    "format",
    "xenon",
    "size",
    "fit",
    "encoding",
    "quality",
    "seed",
    "holdout",
    "source_sha256",
    "study_types",
    "weights",
    "pooled_weights",
    "splits",
    "skipped",
)

_REPACK = "the file is damaged; pack again with --overwrite"


class RecordLabels(NamedTuple):
    """What a record says of its image; the index is its position in the file."""

    abnormal: int
    study_type: int
    study: int
    path: str


class SplitWriter:
    """Write one split's .rec, .idx and .lst, each row in turn.

    Args:
        folder: Where the files go.
        name: The split.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.records = 0
        self._offset = 0
        self._files: dict[str, IO[bytes]] = {}
        self._sums = {}
        for kind in KINDS:
            self._files[kind] = open(folder / f"{name}.{kind}", "xb")  # noqa: SIM115
            self._sums[kind] = hashlib.sha256()

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        with ExitStack() as closing:  # all of them, even if the disk is full
            for file in self._files.values():
                closing.callback(file.close)
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())

    def add(self, image: bytes, row: RecordLabels) -> None:
        """Append an encoded image with its labels."""
        number = self.records
        record = recordio.pack(number, row[:3], image)
        self._write("rec", record)
        self._write("idx", f"{number}\t{self._offset}\n".encode())
        self._write("lst", ("\t".join(map(str, (number, *row))) + "\n").encode())
        self._offset += len(record)
        self.records += 1

    def summary(self) -> dict[str, Any]:
        """What pack.json records of the split: records, bytes and SHA-256 a file."""
        return {
            "records": self.records,
            "files": {
                f"{self.name}.{kind}": {
                    "bytes": file.tell(),
                    "sha256": self._sums[kind].hexdigest(),
                }
                for kind, file in self._files.items()
            },
        }

    def _write(self, kind: str, data: bytes) -> None:
        self._files[kind].write(data)
        self._sums[kind].update(data)


@dataclass(frozen=True)
class Split:
    """One split of a packed folder.

    Attributes:
        folder: The packed folder.
        name: `train`, `valid` or `holdout`.
        records: How many images it holds.
        size: Side of the square images, px.
        study_types: The names behind the study type's number.
        files: What pack.json records of each file.
        stamps: What the system says of each file: as long as that is so, it is the
            file that was verified.
    """

    folder: Path
    name: str
    records: int
    size: int
    study_types: tuple[str, ...]
    files: dict[str, dict[str, Any]]
    stamps: dict[str, tuple[int, ...]]

    def path(self, kind: str) -> Path:
        """The split's `rec`, `idx` or `lst`."""
        return self.folder / f"{self.name}.{kind}"

    def rows(self) -> list[RecordLabels]:
        """Read the list, in record order."""
        lst = self.path("lst")
        try:
            with self._open("lst") as file:
                lines = file.read().decode().split("\n")[:-1]
        except (OSError, UnicodeDecodeError) as error:
            raise _unread(lst, error) from error
        rows = []
        for number, line in enumerate(lines):
            fields = line.split("\t")
            numbers = fields[:4]
            if len(fields) != 5 or not all(f.isdecimal() for f in numbers):
                raise XenonError(f"{lst}:{number + 1}: not a row of a list: {_REPACK}")
            index, abnormal, study_type, study = map(int, numbers)
            if index != number or abnormal > 1 or study_type >= len(self.study_types):
                raise XenonError(f"{lst}:{number + 1}: out of range: {_REPACK}")
            rows.append(RecordLabels(abnormal, study_type, study, fields[4]))
        return rows

    def images(self) -> Iterator[recordio.Record]:
        """Yield each record, in file order."""
        rec = self.path("rec")
        try:
            with self._open("rec") as file:
                yield from recordio.read(file)
        except (OSError, recordio.DamageError) as error:
            raise _unread(rec, error) from error

    def verify(self) -> None:
        """Check sizes, every record, the index and the list against one another.

        Raises:
            XenonError: A file is missing or anything disagrees.
        """
        self._verify_sizes()
        rows, index = self.rows(), self._index()
        if not len(rows) == len(index) == self.records:
            raise XenonError(
                f"{self.path('lst')} lists {len(rows)} images, {self.path('idx')} "
                f"{len(index)}, {PACK_JSON} {self.records}: {_REPACK}"
            )
        found = 0
        for record, row, offset in zip(self.images(), rows, index):
            if record.offset != offset:
                raise XenonError(f"{self.path('idx')}:{found + 1}: {_REPACK}")
            if (record.number, *record.labels.tolist()) != (found, *row[:3]):
                raise XenonError(
                    f"{self.path('rec')}: record {found} and {self.path('lst')} "
                    f"disagree: {_REPACK}"
                )
            found += 1
        if found != self.records:
            raise XenonError(
                f"{self.path('rec')}: {found} of {self.records} records: {_REPACK}"
            )

    def verify_unchanged(self) -> None:
        """Check, in a moment, that the files are still those that were verified.

        Raises:
            XenonError: One is not: the folder was packed again, or it is gone.
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
        """Check that the files are there, and as large as pack.json says."""
        for name, recorded in self.files.items():
            file = self.folder / name
            if not file.is_file():
                raise XenonError(f"{file}: the file is missing; pack again")
            actual = file.stat().st_size
            if actual != recorded["bytes"]:
                raise XenonError(
                    f"{file}: {actual} bytes, but {PACK_JSON} says "
                    f"{recorded['bytes']}: {_REPACK}"
                )

    def verify_checksums(self) -> None:
        """Compare every file with its SHA-256 in pack.json."""
        for name, recorded in self.files.items():
            if files.sha256(self.folder / name) != recorded["sha256"]:
                raise XenonError(f"{self.folder / name}: changed on disk: {_REPACK}")

    def _index(self) -> list[int]:
        idx = self.path("idx")
        try:
            with self._open("idx") as file:
                lines = file.read().decode("ascii").split("\n")[:-1]
        except (OSError, UnicodeDecodeError) as error:
            raise _unread(idx, error) from error
        offsets = []
        for number, line in enumerate(lines):
            key, _, offset = line.partition("\t")
            # MXNet crashes on keys that are no numbers, and sorts offsets itself.
            if key != str(number) or not offset.isdecimal():
                raise XenonError(f"{idx}:{number + 1}: not a row of an index")
            offsets.append(int(offset))
        return offsets


@dataclass(frozen=True)
class PackedFolder:
    """A packed folder and its pack.json."""

    folder: Path
    meta: dict[str, Any]

    @property
    def splits(self) -> list[str]:
        """The names of the splits it holds."""
        return [name for name in SPLITS if name in self.meta["splits"]]

    @property
    def study_types(self) -> tuple[str, ...]:
        """The study types, by the number that records carry."""
        return tuple(self.meta["study_types"])

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What was done to the pixels, and has to be done to others like them."""
        return {key: self.meta[key] for key in ("size", "fit")}

    @property
    def fingerprint(self) -> str:
        """What tells these data from others: a SHA-256 of what pack.json says of them.

        It is that of the bytes that xenon 0.1.0 would have written, so that runs of
        all versions call the same data by the same name. It covers the other files,
        whose SHA-256 pack.json holds; it does not cover the version that packed them,
        nor what later versions add to pack.json.
        """
        known = {**self.meta, "xenon": _FIRST_VERSION}
        content = {key: known[key] for key in _FINGERPRINTED if key in known}
        return hashlib.sha256(files.json_bytes(content)).hexdigest()

    def split(self, name: str) -> Split:
        """Give one split, verified."""
        if name not in self.splits:
            raise XenonError(
                f"{self.folder}: holds no {name} split, only {', '.join(self.splits)}"
            )
        meta = self.meta["splits"][name]
        there = [file for file in meta["files"] if (self.folder / file).exists()]
        split = Split(
            folder=self.folder,
            name=name,
            records=meta["records"],
            size=self.meta["size"],
            study_types=self.study_types,
            files=meta["files"],
            stamps={file: _stamp(self.folder / file) for file in there},
        )
        split.verify()
        split.verify_checksums()
        return split


def _stamp(file: Path | int) -> tuple[int, ...]:
    """Return what changes when another file takes this one's place, or it changes."""
    state = os.stat(file)
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def open_packed(folder: Path) -> PackedFolder:
    """Open a packed folder.

    Raises:
        XenonError: It is none, or of another format.
    """
    path = folder / PACK_JSON
    if not path.is_file():
        raise XenonError(
            f"{folder}: not a packed folder: it has no {PACK_JSON}; make one with "
            f"xenon-pack"
        )
    try:
        meta = files.read_json(path)
        _expect(meta, format=int)
        if meta["format"] == FORMAT:
            _check(meta)
    except XenonError as error:
        if isinstance(error.__cause__, OSError):  # which packing again may not mend
            raise
        raise XenonError(f"{error}; {_REPACK}") from error
    except ValueError as error:
        raise XenonError(f"{path}: damaged: {error}; {_REPACK}") from error
    if meta["format"] != FORMAT:
        raise XenonError(
            f"{path}: format {meta['format']}, but this xenon reads {FORMAT}: pack "
            f"again"
        )
    return PackedFolder(folder, meta)


def _unread(file: Path, error: Exception) -> XenonError:
    """Say why a file could not be read; whether it is damaged, the system knows not."""
    if isinstance(error, OSError):
        return XenonError(f"{file}: {os.strerror(error.errno or 0)}")
    return XenonError(f"{file}: cannot be read: {error}; {_REPACK}")


def _check(meta: dict[str, Any]) -> None:
    """Raise a ValueError if pack.json lacks what its readers take for granted."""
    _expect(meta, size=int, fit=str, study_types=list, weights=dict, splits=dict)
    types = meta["study_types"]
    if not all(isinstance(name, str) for name in types):
        raise ValueError("study_types are no names")
    pairs = [*meta["weights"].values()]
    pairs += [meta.get("pooled_weights", ())] if "train" in meta["splits"] else []
    if not all(_is_pair(pair) for pair in pairs) or not {*meta["weights"]} <= {*types}:
        raise ValueError("weights are no pairs of numbers, one a study type")
    for name, split in meta["splits"].items():
        _expect(split, records=int, files=dict, counts=dict)
        if {*split["files"]} != {f"{name}.{kind}" for kind in KINDS}:
            raise ValueError(f"the files of {name} are not {', '.join(KINDS)}")
        for file in split["files"].values():
            _expect(file, bytes=int, sha256=str)


def _expect(value: Any, **fields: type) -> None:
    """Raise a ValueError unless a JSON value is an object with these fields."""
    if not isinstance(value, dict):
        raise ValueError(f"not a JSON object: {value!r:.40}")
    for key, kind in fields.items():
        if type(value.get(key)) is not kind:
            raise ValueError(f"{key!r} is missing or not of type {kind.__name__}")


def _is_pair(value: Any) -> bool:
    """Tell whether a JSON value is two numbers."""
    return isinstance(value, list) and [type(v) for v in value] == [float, float]


def open_rec(rec: Path) -> tuple[PackedFolder, Split]:
    """Open the packed folder and the split that a .rec file belongs to."""
    if not rec.is_file():
        raise XenonError(f"{rec}: no such file")
    packed = open_packed(rec.parent)
    return packed, packed.split(rec.stem)


class PackTransaction(staging.Staging):
    """Write a packed folder so that it is there whole, or not at all.

    Files are written to a staging folder inside OUT, and moved into place by `commit`,
    with pack.json last: a folder without it is not packed.

    Args:
        out: The packed folder.
        overwrite: Whether it may replace what OUT holds.

    """

    def __init__(self, out: Path, overwrite: bool) -> None:
        super().__init__(out, PACK_JSON)
        self._overwrite = overwrite

    def check(self) -> None:
        """Stop if OUT holds files of the names that are to be written."""
        present = self._present()
        if present and not self._overwrite:
            raise XenonError(
                f"{self.out}: already holds {present[0]}; choose another folder, or "
                f"--overwrite"
            )
        for name in present:
            if (self.out / name).is_file():
                outputs.check_unprotected(self.out / name)

    def commit(self, meta: dict[str, Any]) -> PackedFolder:
        """Verify what was written, byte by byte, and move it into place."""
        files.write_json(self.folder / PACK_JSON, {"format": FORMAT, **meta})
        written = open_packed(self.folder)
        sums = {PACK_JSON: files.sha256(self.folder / PACK_JSON)}
        for name in written.splits:
            recorded = written.split(name).files
            sums.update({file: each["sha256"] for file, each in recorded.items()})
        self.prepare(sums, dict.fromkeys(self._present(), ""))
        self.move()
        return open_packed(self.out)

    def _present(self) -> list[str]:
        """Return the names of a packed folder that OUT already holds."""
        names = [PACK_JSON]
        names += [f"{split}.{kind}" for split in SPLITS for kind in KINDS]
        return [name for name in names if os.path.lexists(self.out / name)]
