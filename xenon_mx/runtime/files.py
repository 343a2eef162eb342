"""Files that are there whole or not at all, and that tell when they were changed.

Owns how a file is written and checked, and folders that are held while they are written
to. Does not know what is in a file, nor which may be replaced.

A file is written under a temporary name in its own folder, and renamed. The temporary
name is unique and created exclusively, so that two writers never share one, and the
file is locked while its writer lives: one that can be locked was left by a killed
process, and is removed by the next writer in that folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping

from xenon_mx.errors import XenonError

# The name of what is being written; as long as any file system takes.
_PARTIAL = re.compile(r"\.xenon-[0-9a-f]{16}\.partial")
_LOCK = ".xenon.lock"  # there while outputs of several files change places
_CHECKSUM = "checksum"
_CHUNK = 1 << 20


def partial_name() -> str:
    """Return a new temporary name, which no other process draws."""
    return f".xenon-{os.urandom(8).hex()}.partial"


def is_partial(name: str) -> bool:
    """Return whether a name is a temporary one of xenon's."""
    return bool(_PARTIAL.fullmatch(name))


class Folder:
    """A folder held by its descriptor, so that no other can take its place.

    Moved, it takes along what is written into it; removed, it takes no more.

    Args:
        path: The folder. As one within another, it may not be a link.
        within: The folder that it lies in, if that is held.

    Raises:
        OSError: It is not there, is no folder, or may not be read.
    """

    def __init__(self, path: Path, within: Folder | None = None) -> None:
        self.path = path
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        if within is None:
            self._descriptor = os.open(path, flags)
        else:
            self._descriptor = os.open(
                path.name, flags | os.O_NOFOLLOW, dir_fd=within._descriptor
            )

    def close(self) -> None:
        """Let the folder go, and with it the lock."""
        os.close(self._descriptor)

    def lock(self) -> bool:
        """Keep other processes from locking it; return whether none did before."""
        return _lock(self._descriptor)

    def is_in_place(self) -> bool:
        """Return whether its path still leads to this folder."""
        try:
            there = os.stat(self.path)
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._descriptor))

    def names(self) -> list[str]:
        """Return the names of all that it holds."""
        return os.listdir(self._descriptor)

    def make(self, name: str) -> Folder:
        """Return a folder within it, made if it is not there."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=self._descriptor)
        return Folder(self.path / name, within=self)

    def irregular(self, names: Iterable[str]) -> list[str]:
        """Return which of some names stand for a link, a pipe or a folder in it."""
        found = []
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                state = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
                if not stat.S_ISREG(state.st_mode):
                    found.append(name)
        return found

    def write(self, name: str, data: bytes) -> str:
        """Write a file of it, as `write` does; a link of that name is replaced."""
        remove_leftovers(self._descriptor)
        with _naming(self.path / name), _partial(self._descriptor, data) as partial:
            partial.move(name)
        return hashlib.sha256(data).hexdigest()

    def write_json(self, name: str, content: Mapping[str, Any]) -> str:
        """Write what `read_json` reads."""
        return self.write(name, json_bytes(content))

    def remove(self, name: str) -> None:
        """Remove a file of it."""
        os.unlink(name, dir_fd=self._descriptor)


class _Partial:
    """A file under a temporary name, until it takes its place.

    Args:
        folder: The descriptor of its folder.
    """

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._name, self.file = _create(folder)

    def move(self, name: str) -> None:
        """Give the file its name; what had it before is gone."""
        os.replace(self._name, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._name = ""

    def discard(self) -> None:
        """Remove the file, unless it has been moved."""
        if self._name:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._folder)


def _create(folder: int) -> tuple[str, int]:
    """Create a temporary file that no other process takes for a leftover."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        name = partial_name()
        file = os.open(name, flags, 0o666, dir_fd=folder)
        # Between the two lines, another process may have locked and removed it.
        if _lock(file) and os.fstat(file).st_nlink:
            return name, file
        os.close(file)


def _lock(descriptor: int) -> bool:
    """Lock a file or folder, without waiting; return whether nobody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks, where nobody can have it
        return True
    return True


@contextlib.contextmanager
def _partial(folder: int, data: bytes) -> Iterator[_Partial]:
    """Write bytes to disk under a temporary name; remove them unless they are moved."""
    partial = _Partial(folder)
    try:
        with open(partial.file, "wb", closefd=False) as stream:
            stream.write(data)
            stream.flush()
            os.fsync(partial.file)
        yield partial
    finally:
        partial.discard()
        os.close(partial.file)


def remove_leftovers(folder: int) -> None:
    """Remove the temporary files that killed processes left in a folder.

    Args:
        folder: Its descriptor.
    """
    for name in filter(is_partial, os.listdir(folder)):
        with contextlib.suppress(OSError):  # another process removes it, too
            _remove_leftover(folder, name)


def _remove_leftover(folder: int, name: str) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.open(name, flags, dir_fd=folder)
    try:
        if stat.S_ISREG(os.fstat(file).st_mode):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=folder)
    finally:
        os.close(file)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an OSError name the file that was to be written, not the temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write(path: Path, data: bytes) -> str:
    """Write a file so that its name never stands for half of it.

    Args:
        path: The file; what it held before stays until the new bytes are on disk. A
            link is followed, and stays one.
        data: Its bytes.

    Returns:
        Their SHA-256.

    Raises:
        OSError: As the system gives it, a full disk mostly. Nothing is left behind.
    """
    write_all({path: data})
    return hashlib.sha256(data).hexdigest()


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Write several files, each as `write` does, and none before all are on disk.

    They change places in the order given.

    Raises:
        OSError: As the system gives it. Nothing is left behind.
    """
    with contextlib.ExitStack() as stack:
        partials = []
        for path, data in contents.items():
            real = path.resolve()
            with _naming(path):
                folder = os.open(real.parent, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, folder)
                remove_leftovers(folder)
                partial = stack.enter_context(_partial(folder, data))
            partials.append((path, partial, real.name))
        for path, partial, name in partials:
            with _naming(path):
                partial.move(name)


@contextlib.contextmanager
def locked(folders: Iterable[Path]) -> Iterator[None]:
    """Wait until no other process changes outputs in some folders, and keep it so.

    Raises:
        OSError: A folder may not be written to.
    """
    with contextlib.ExitStack() as stack:
        # In one order for all processes, lest two wait for one another.
        for folder in sorted({folder.resolve() for folder in folders}):
            stack.enter_context(_locked(folder / _LOCK))
        yield


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        file = os.open(path, flags, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_nlink:  # else who had it before has removed it
            break
        os.close(file)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(file)


def unwritten(error: OSError, paths: Iterable[Path]) -> XenonError:
    """Return the error that names which of some files could not be written."""
    name = error.filename or ", ".join(map(str, paths))
    return XenonError(f"{name}: {os.strerror(error.errno or 0)}")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, with a checksum of its own among its keys."""
    write(path, json_bytes(content))


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """Return the bytes that `read_json` reads as this content."""
    whole = {**content, _CHECKSUM: _checksum(content)}
    return (json.dumps(whole, indent=2) + "\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote, without the checksum.

    Raises:
        XenonError: The file is missing, or its content is not as it was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise XenonError(f"{path}: {os.strerror(error.errno or 0).lower()}") from error
    except (ValueError, RecursionError) as error:
        raise XenonError(f"{path}: damaged: {error}") from error
    if not isinstance(content, dict):
        raise XenonError(f"{path}: damaged: not a JSON object")
    if content.pop(_CHECKSUM, None) != _checksum(content):
        raise XenonError(f"{path}: damaged: it is not as it was written")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    """Compute it of the content and not of the bytes: a file may be laid out anew."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()
