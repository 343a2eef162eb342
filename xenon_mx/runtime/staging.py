"""A staging folder: new files of OUT are written in it, then moved, all or none.

Owns the staging folder inside OUT, the lock on OUT, and the removal of what killed
processes left; must not know the content of the files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Iterable, Iterator, Mapping, TypeVar

from xenon_mx.errors import XenonError, os_error
from xenon_mx.runtime import files, signals

T = TypeVar("T", bound="Staging")

_MANIFEST = ".manifest.json"  # in the staging folder: the files to move and to replace


class Staging:
    """A context that writes the files of a folder, all or none.

    OUT is locked until the end, so that only one process writes at a time.

    Args:
        out: The folder; created if it does not exist.
        marker: The name of the file that is moved last: if it exists, all files do.

    Attributes:
        out: The folder.
        folder: The staging folder, for files under the names that they get in OUT.

    Raises:
        XenonError: On entering, if OUT is not a folder, is not writable, contains
            files that must not be replaced, or is locked by another process; on
            leaving, if writing failed, as on a full disk.
    """

    def __init__(self, out: Path, marker: str) -> None:
        self.out = out
        self.folder = out / files.partial_name()
        self._marker = marker
        self._stack = contextlib.ExitStack()

    def check(self) -> None:
        """Check that OUT, now locked, contains nothing that must not be replaced."""

    def __enter__(self: T) -> T:
        with self._stack, self._named():
            is_new = not self.out.exists()
            self.out.mkdir(parents=True, exist_ok=True)
            folder = files.Folder(self.out)
            self._stack.callback(folder.close)
            if not folder.lock():
                raise XenonError(
                    f"{self.out}: another process is writing into it: wait for its end"
                )
            if is_new:  # only under the lock: another process may just have locked it
                self._stack.callback(self._remove_if_empty)
            self._remove_leftovers(folder.names())
            self.check()
            self._stack.callback(_remove_whole, self.folder)
            self.folder.mkdir()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._stack.close()
        if isinstance(error, OSError):
            raise os_error(self.out, error) from error

    def prepare(self, sums: Mapping[str, str], replaced: Mapping[str, str]) -> None:
        """Record the changes that `move` makes, in the manifest.

        If this process is killed in `move`, the next one can thereby remove the files
        already moved and those to be replaced.

        Args:
            sums: SHA-256 of each file in the staging folder, by its relative path.
            replaced: The same of the files in OUT to remove first; an empty sum is that
                of a file which only `--overwrite` may remove.
        """
        self._sums, self._replaced = dict(sums), dict(replaced)
        content = {"mark": self._marker, "files": sums, "replaced": replaced}
        with self._named():
            files.write_json(self.folder / _MANIFEST, content)

    def move(self) -> None:
        """Move the files into place, the marker last."""
        with self._named():
            for name in sorted(self._replaced, key=lambda name: name != self._marker):
                _remove(self.out, name)
            for name in sorted(self._sums, key=lambda n: (n == self._marker, n)):
                target = self.out / name
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(self.folder / name, target)

    def _remove_leftovers(self, names: Iterable[str]) -> None:
        """Remove what killed processes left: while OUT is locked, no other writes."""
        for name in filter(files.is_partial, names):
            leftover = self.out / name
            if leftover.is_dir() and not leftover.is_symlink():
                self._undo(leftover)
                shutil.rmtree(leftover)

    def _undo(self, leftover: Path) -> None:
        """Remove the files that a killed process moved, unless it had moved all."""
        try:
            manifest = files.read_json(leftover / _MANIFEST)
        except XenonError:  # killed before it moved anything
            return
        marker, sums = manifest["mark"], manifest["files"]
        if _has_sum(self.out / marker, sums.get(marker)):
            return  # killed after it had moved everything
        for recorded in (sums, manifest["replaced"]):
            for name, digest in recorded.items():
                if _has_sum(self.out / name, digest):
                    _remove(self.out, name)

    def _remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):  # not empty, or already removed
            self.out.rmdir()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Convert an OSError to an error that names OUT."""
        try:
            yield
        except OSError as error:
            raise os_error(self.out, error) from error


def _remove_whole(folder: Path) -> None:
    """Remove a folder; a signal that arrives meanwhile is raised afterwards."""
    with signals.deferred():
        shutil.rmtree(folder, ignore_errors=True)


def _has_sum(file: Path, digest: str | None) -> bool:
    """Return whether a regular file exists and has this SHA-256."""
    is_file = file.is_file() and not file.is_symlink()
    return is_file and files.sha256(file) == digest


def _remove(out: Path, name: str) -> None:
    """Remove a file of a folder, and the subfolders that become empty."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        return
    with contextlib.suppress(FileNotFoundError):
        (out / name).unlink()
    for parent in list(relative.parents)[:-1]:
        with contextlib.suppress(OSError):  # not empty
            (out / parent).rmdir()
