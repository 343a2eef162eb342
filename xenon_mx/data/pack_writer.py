"""Writing a packed folder: whole, or not at all.

Owns the order in which files are written, verified and moved into place; must not know
data sets or nets.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Mapping

from xenon_mx.data import outputs, packed_folder, recordio
from xenon_mx.data.pack_meta import (
    KINDS,
    MANIFEST,
    FileMeta,
    PackMeta,
    SplitMeta,
    TypeCounts,
)
from xenon_mx.data.packed_folder import PACK_JSON, SPLITS, PackedFolder, RecordLabels
from xenon_mx.errors import XenonError
from xenon_mx.runtime import files, staging, text


class SplitWriter:
    """Writer of one split's .rec, .idx and .lst, record by record.

    Args:
        folder: Where the files go.
        name: The split.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.records = 0
        self._offset = 0
        self._files: dict[str, IO[bytes]] = {}
        self._digests: dict[str, Any] = {}
        self._folder = folder
        for kind in KINDS:
            self._open(kind)

    def __enter__(self) -> SplitWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        with ExitStack() as stack:  # closes all of them, even if the disk is full
            for file in self._files.values():
                stack.callback(file.close)
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())

    def add(self, image: bytes, labels: RecordLabels) -> None:
        """Append an encoded image with its labels."""
        number = self.records
        record = recordio.pack(number, labels[:3], image)
        self._write("rec", record)
        self._write("idx", f"{number}\t{self._offset}\n".encode())
        self._write("lst", ("\t".join(map(str, (number, *labels))) + "\n").encode())
        self._offset += len(record)
        self.records += 1

    def add_manifest(self, data: bytes) -> None:
        """Write the file that tells what the records are, see `manifest`."""
        self._open(MANIFEST)
        self._write(MANIFEST, data)

    def summary(self, counts: Mapping[str, TypeCounts]) -> SplitMeta:
        """Return the split's entry in pack.json.

        Args:
            counts: What the split holds of each study type.
        """
        return SplitMeta(
            records=self.records,
            files={
                f"{self.name}.{kind}": FileMeta(
                    file.tell(), self._digests[kind].hexdigest()
                )
                for kind, file in self._files.items()
            },
            counts=counts,
        )

    def _open(self, kind: str) -> None:
        path = self._folder / f"{self.name}.{kind}"
        self._files[kind] = open(path, "xb")  # noqa: SIM115 - `__exit__` closes it
        self._digests[kind] = hashlib.sha256()

    def _write(self, kind: str, data: bytes) -> None:
        self._files[kind].write(data)
        self._digests[kind].update(data)


class PackTransaction(staging.Staging):
    """A packed folder being written: it appears whole, or not at all.

    Files are written to a staging folder inside OUT and moved into place by `commit`,
    pack.json last: a folder without it is not a packed folder.

    Args:
        out: The packed folder.
        overwrite: Whether existing files of a packed folder in OUT may be replaced.
    """

    def __init__(self, out: Path, overwrite: bool) -> None:
        super().__init__(out, PACK_JSON)
        self._overwrite = overwrite

    def check(self) -> None:
        """Raise an error if OUT holds files that may not be replaced.

        Raises:
            XenonError: They exist without `overwrite`, or are write-protected.
        """
        existing = self._existing()
        if existing and not self._overwrite:
            raise XenonError(
                f"{text.folder_name(self.out)}: already holds {existing[0]}; choose "
                f"another folder, or --overwrite"
            )
        for name in existing:
            if (self.out / name).is_file():
                outputs.check_unprotected(self.out / name)

    def commit(self, meta: PackMeta) -> PackedFolder:
        """Verify what was written, byte by byte, and move it into place."""
        files.write_json(self.folder / PACK_JSON, meta.to_json())
        written = packed_folder.open_packed(self.folder)
        sums = {PACK_JSON: files.sha256(self.folder / PACK_JSON)}
        for name in written.splits:
            split = written.split(name)
            sums.update({file: entry.sha256 for file, entry in split.files.items()})
        self.prepare(sums, dict.fromkeys(self._existing(), ""))
        self.move()
        return PackedFolder(self.out, written.meta)

    def _existing(self) -> list[str]:
        """Return the names of a packed folder's files that OUT already holds."""
        names = [PACK_JSON]
        names += [f"{split}.{kind}" for split in SPLITS for kind in (*KINDS, MANIFEST)]
        return [name for name in names if os.path.lexists(self.out / name)]
