"""A folder's new files: written aside, then moved into place, all of them or none.

Owns the staging folder inside OUT, the lock on OUT, and what is left by a process that
was killed. Does not know what is in the files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Iterator, Mapping, TypeVar

from xenon_mx.errors import XenonError
from xenon_mx.runtime import files

T = TypeVar("T", bound="Staging")

_MANIFEST = ".manifest.json"  # in the staging folder: what is moved, what is replaced


class Staging:
    """Write the files of a folder so that all of them are there, or none.

    One process at a time: OUT is locked until the end.

    Args:
        out: The folder; made where there is none.
        mark: The name of the file that is moved last: where it is, all are.

    Attributes:
        out: The folder.
        folder: Where to write the files, under the names that they will have in OUT.

    Raises:
        XenonError: On entering, because OUT is no folder, may not be written to, holds
            what may not be replaced, or another process writes into it; on leaving,
            because of a full disk.
    """

    def __init__(self, out: Path, mark: str) -> None:
        self.out = out
        self.folder = out / files.partial_name()
        self._mark = mark
        self._stack = contextlib.ExitStack()

    def check(self) -> None:
        """Stop if OUT, which is locked by now, holds what may not be replaced."""

    def __enter__(self: T) -> T:
        with self._stack, self._naming():
            made = not self.out.exists()
            self.out.mkdir(parents=True, exist_ok=True)
            if made:
                self._stack.callback(self._remove_if_empty)
            held = files.Folder(self.out)
            self._stack.callback(held.close)
            if not held.lock():
                raise XenonError(f"{self.out}: another process is writing into it")
            self._clear_leftovers(held)
            self.check()
            self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.folder.mkdir()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._stack.close()
        if isinstance(error, OSError):
            raise self._failure(error) from error

    def prepare(self, sums: Mapping[str, str], replaced: Mapping[str, str]) -> None:
        """Write down what `move` is to do.

        With this, the next process can remove what was moved, and what was to be
        replaced, by one that was killed within.

        Args:
            sums: SHA-256 of each file in the staging folder, by its name below it.
            replaced: The files in OUT to be removed before, likewise; an empty sum is
                that of a file which only `--overwrite` may remove.
        """
        self._sums, self._replaced = dict(sums), dict(replaced)
        content = {"mark": self._mark, "files": sums, "replaced": replaced}
        with self._naming():
            files.write_json(self.folder / _MANIFEST, content)

    def move(self) -> None:
        """Move the files into place, the mark last."""
        with self._naming():
            for name in sorted(self._replaced, key=lambda name: name != self._mark):
                _remove(self.out, name)
            for name in sorted(self._sums, key=lambda name: (name == self._mark, name)):
                target = self.out / name
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(self.folder / name, target)

    def _clear_leftovers(self, held: files.Folder) -> None:
        """Remove what killed processes left: with the lock, no other one lives."""
        for name in filter(files.is_partial, held.names()):
            leftover = self.out / name
            if leftover.is_dir() and not leftover.is_symlink():
                self._undo(leftover)
                shutil.rmtree(leftover)

    def _undo(self, leftover: Path) -> None:
        """Remove what was moved into place by a process that could not finish."""
        try:
            manifest = files.read_json(leftover / _MANIFEST)
        except XenonError:  # it moved nothing yet
            return
        mark, sums = manifest["mark"], manifest["files"]
        if _is(self.out / mark, sums.get(mark)):
            return  # it was killed after it had finished
        for known in (sums, manifest["replaced"]):
            for name, digest in known.items():
                if _is(self.out / name, digest):
                    _remove(self.out, name)

    def _remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):  # it is not, or somebody else was quicker
            self.out.rmdir()

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Let every OSError name OUT."""
        try:
            yield
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> XenonError:
        return XenonError(f"{self.out}: {error.strerror or error}")


def _is(file: Path, digest: str | None) -> bool:
    """Return whether a file is there with these bytes."""
    is_file = file.is_file() and not file.is_symlink()
    return is_file and files.sha256(file) == digest


def _remove(out: Path, name: str) -> None:
    """Remove a file of a folder, and the folders that it leaves empty."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        return
    with contextlib.suppress(FileNotFoundError):
        (out / name).unlink()
    for parent in list(relative.parents)[:-1]:
        with contextlib.suppress(OSError):  # it holds something else
            (out / parent).rmdir()
