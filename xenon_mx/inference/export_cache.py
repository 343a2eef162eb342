"""The cache of exported graphs: `$XDG_CACHE_HOME/xenon`.

Owns where an entry is, how it is written, verified and removed, and the lock under
which entries are made. Must not know runs, or how a graph is made.

An entry is written whole or not at all, and whoever reads one has all of its bytes
before it is used: entries may be removed at any time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import Iterator, Mapping

from xenon_mx.errors import XenonError, os_error
from xenon_mx.inference import onnx_metadata
from xenon_mx.runtime import disk_space, files, text

_log = logging.getLogger(__name__)

# Chosen here: twenty times the five DenseNet169 of the paper (254 MB).
LIMIT = 5 * 2**30  # bytes
_SUFFIX = ".onnx"
_WAIT_S = 0.2  # chosen here: between attempts to get the lock


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the cache is.

    That is `$XDG_CACHE_HOME/xenon`, and `~/.cache` in place of the variable if it is
    not set or no absolute path (XDG Base Directory Specification).
    """
    folder = Path(environment.get("XDG_CACHE_HOME", ""))
    if not folder.is_absolute():
        folder = Path(environment.get("HOME") or os.path.expanduser("~"), ".cache")
    return folder / "xenon"


class ExportCache:
    """The entries in a folder, each by its key.

    Args:
        folder: The folder; made when the first entry is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, key: str) -> bytes | None:
        """Return an entry's bytes, and note that it was used.

        A damaged entry is removed, which is logged, and then missing.

        Returns:
            None if there is no such entry.

        Raises:
            XenonError: The entry cannot be read.
        """
        file = self._file(key)
        try:
            data = file.read_bytes()
            if onnx_metadata.has_checksum(data):
                with contextlib.suppress(OSError):  # somebody else's, or removed
                    os.utime(file)
                return data
            _log.warning("%s: damaged: exporting that net again", file)
            file.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._failure(error) from error
        return None

    def write(self, key: str, data: bytes) -> None:
        """Write an entry; `making` must be held.

        Raises:
            XenonError: The disk is full, or the folder cannot be written.
        """
        try:
            files.write(self._file(key), data)
        except OSError as error:
            raise self._failure(error) from error

    @contextlib.contextmanager
    def making(self, needed: int) -> Iterator[None]:
        """Hold the lock under which entries are made, waiting if necessary.

        Args:
            needed: Bytes of the entries to make.

        Raises:
            XenonError: The folder cannot be made, or its disk has not enough space.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            folder = files.Folder(self.folder)
        except OSError as error:
            raise self._failure(error) from error
        with contextlib.closing(folder):
            if not folder.lock():
                _log.info("waiting for another xenon that exports into %s", self.folder)
                while not folder.lock():
                    time.sleep(_WAIT_S)
            with self._with_advice():
                disk_space.check(self.folder, needed)
            yield

    def trim(self, keep: set[str], limit: int = LIMIT) -> None:
        """Remove the entries used longest ago until the others fit; hold `making`.

        Args:
            keep: Keys of entries that stay in any case.
            limit: Bytes of all entries.
        """
        entries = []
        for file in self.folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                state = file.stat()
                entries.append((state.st_mtime_ns, state.st_size, file))
        total = sum(size for _, size, _ in entries)
        for _, size, file in sorted(entries):
            if total <= limit:
                return
            if file.stem not in keep:
                with contextlib.suppress(OSError):
                    file.unlink()
                    total -= size

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _failure(self, error: OSError) -> XenonError:
        """Return the error of a folder that cannot be used, and what to do."""
        return _advised(os_error(text.folder_name(self.folder), error))

    @contextlib.contextmanager
    def _with_advice(self) -> Iterator[None]:
        try:
            yield
        except XenonError as error:
            raise _advised(error) from error


def _advised(error: XenonError) -> XenonError:
    return XenonError(
        f"{error}: exported runs are kept there: set XDG_CACHE_HOME to another folder, "
        f"or use --runtime mxnet"
    )
