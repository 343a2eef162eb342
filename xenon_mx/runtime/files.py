"""Atomic writing of files, and JSON files with a checksum.

Owns how files are written and verified, and folders that stay open during writing; must
not know the content of a file, nor which files may be replaced.

A file is written under a temporary name in its own folder, then renamed. The temporary
name is unique and created exclusively, so that two writers never share one. The file is
locked while its writer runs: a file that can be locked was left by a killed process,
and the next writer in that folder removes it.
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

from xenon_mx.errors import XenonError, os_error

# A temporary name; short enough for every file system.
_PARTIAL_NAME = re.compile(r"\.xenon-[0-9a-f]{16}\.partial")
_LOCK = ".xenon.lock"  # exists while outputs of several files are replaced
_CHECKSUM = "checksum"
_CHUNK_SIZE = 1 << 20  # bytes
_MODE = 0o666  # permissions of a new file, of which the umask takes some away
SECRET = 0o600  # those of a file that identifies patients


def partial_name() -> str:
    """Return a new random temporary name, unique across processes."""
    return f".xenon-{os.urandom(8).hex()}.partial"


def is_partial(name: str) -> bool:
    """Return whether a name is one of xenon's temporary names."""
    return bool(_PARTIAL_NAME.fullmatch(name))


class Folder:
    """A folder open by its descriptor, so that another folder cannot replace it.

    If the folder is moved, files are written at its new place; if it is removed,
    writing fails.

    Args:
        path: The folder; if `parent` is given, it may not be a symbolic link.
        parent: The open folder that contains it, if there is one.

    Raises:
        OSError: The folder does not exist, is not a folder, or is not readable.
    """

    def __init__(self, path: Path, parent: Folder | None = None) -> None:
        self.path = path
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        if parent is None:
            self._descriptor = os.open(path, flags)
        else:
            self._descriptor = os.open(
                path.name, flags | os.O_NOFOLLOW, dir_fd=parent._descriptor
            )

    def close(self) -> None:
        """Close the descriptor, which releases the lock."""
        os.close(self._descriptor)

    def lock(self) -> bool:
        """Lock the folder without waiting; return False if another process has it."""
        return _lock(self._descriptor)

    def is_in_place(self) -> bool:
        """Return whether the path still leads to this folder."""
        try:
            current = os.stat(self.path)
        except OSError:
            return False
        return os.path.samestat(current, os.fstat(self._descriptor))

    def names(self) -> list[str]:
        """Return the names of its entries."""
        return os.listdir(self._descriptor)

    def make(self, name: str) -> Folder:
        """Open a subfolder, after creating it if it does not exist."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=self._descriptor)
        return Folder(self.path / name, parent=self)

    def irregular(self, names: Iterable[str]) -> list[str]:
        """Return which of some entries are not regular files: links, pipes, folders."""
        irregular = []
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                state = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
                if not stat.S_ISREG(state.st_mode):
                    irregular.append(name)
        return irregular

    def write(self, name: str, data: bytes | Iterable[bytes]) -> str:
        """Write a file in the folder atomically, replacing also a link of that name.

        Args:
            name: Its name.
            data: The bytes, or parts of them in order, which need not all be in memory.

        Returns:
            SHA-256 of the bytes.
        """
        remove_leftovers(self._descriptor)
        digest = hashlib.sha256()

        def digested() -> Iterator[bytes]:
            for part in [data] if isinstance(data, bytes) else data:
                digest.update(part)
                yield part

        with _named(self.path / name):
            with _partial(self._descriptor, digested()) as partial:
                partial.move(name)
        return digest.hexdigest()

    def write_json(self, name: str, content: Mapping[str, Any]) -> str:
        """Write a JSON object in the folder, as the function `write_json` does."""
        return self.write(name, json_bytes(content))

    def remove(self, name: str) -> None:
        """Remove a file in the folder."""
        os.unlink(name, dir_fd=self._descriptor)


class _Partial:
    """A file under a temporary name.

    Args:
        folder: Descriptor of the folder that contains it.
        mode: Its permissions, of which the umask takes some away.
    """

    def __init__(self, folder: int, mode: int) -> None:
        self._folder = folder
        self._name, self.file = _create(folder, mode)

    def move(self, name: str) -> None:
        """Rename the file, replacing a file of that name."""
        os.replace(self._name, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._name = ""

    def discard(self) -> None:
        """Remove the file, unless it has been moved."""
        if self._name:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._folder)


def _create(folder: int, mode: int) -> tuple[str, int]:
    """Create and lock a temporary file, so that no other process removes it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        name = partial_name()
        file = os.open(name, flags, mode, dir_fd=folder)
        # Between open and lock, another process may have locked and removed the file.
        if _lock(file) and os.fstat(file).st_nlink:
            return name, file
        os.close(file)


def _lock(descriptor: int) -> bool:
    """Lock a file or folder without waiting; return False if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


@contextlib.contextmanager
def _partial(
    folder: int, parts: Iterable[bytes], mode: int = _MODE
) -> Iterator[_Partial]:
    """Write bytes to disk under a temporary name; remove the file if not moved."""
    partial = _Partial(folder, mode)
    try:
        with open(partial.file, "wb", closefd=False) as stream:
            stream.writelines(parts)
            stream.flush()
            os.fsync(partial.file)
        yield partial
    finally:
        partial.discard()
        os.close(partial.file)


def remove_leftovers(folder: int) -> None:
    """Remove the temporary files that killed processes left in a folder.

    Args:
        folder: Descriptor of the folder.
    """
    for name in filter(is_partial, os.listdir(folder)):
        with contextlib.suppress(OSError):  # another process may remove it, too
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
def _named(path: Path) -> Iterator[None]:
    """Replace the temporary name in an OSError by that of the file to be written."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write(path: Path, data: bytes, mode: int = _MODE) -> str:
    """Write a file atomically.

    Args:
        path: The file; its old content stays until the new bytes are on disk. A
            symbolic link is followed, and kept.
        data: The bytes.
        mode: The file's permissions, less the umask, whatever it had before.

    Returns:
        SHA-256 of the bytes.

    Raises:
        OSError: From the system, usually a full disk. No partial file is left.
    """
    write_all({path: data}, mode)
    return hashlib.sha256(data).hexdigest()


def write_all(contents: Mapping[Path, bytes], mode: int = _MODE) -> None:
    """Write several files, and rename none before all are on disk.

    Each is written as by `write`; they are renamed in the order given.

    Raises:
        OSError: From the system. No partial file is left.
    """
    with contextlib.ExitStack() as stack:
        partials = []
        for path, data in contents.items():
            target = path.resolve()
            with _named(path):
                folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, folder)
                remove_leftovers(folder)
                partial = stack.enter_context(_partial(folder, [data], mode))
            partials.append((path, partial, target.name))
        for path, partial, name in partials:
            with _named(path):
                partial.move(name)


@contextlib.contextmanager
def locked(folders: Iterable[Path]) -> Iterator[None]:
    """Lock folders against other processes' changes of outputs, waiting if necessary.

    Raises:
        OSError: A folder is not writable.
    """
    with contextlib.ExitStack() as stack:
        # Sorted, so that two processes cannot wait for each other.
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
        if os.fstat(file).st_nlink:  # else its previous owner has removed it
            break
        os.close(file)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(file)


def write_error(error: OSError, paths: Iterable[Path]) -> XenonError:
    """Return an error that names the file, or all `paths`, that cannot be written."""
    name = error.filename or ", ".join(map(str, paths))
    return os_error(name, error)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object, with a checksum of its content as one more key."""
    write(path, json_bytes(content))


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """Return a JSON object with its checksum as bytes, in UTF-8."""
    checked = {**content, _CHECKSUM: json_sha256(content)}
    return (json.dumps(checked, indent=2, allow_nan=False) + "\n").encode()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that `write_json` wrote, and verify and drop its checksum.

    Raises:
        XenonError: The file is missing, or its content was changed.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise os_error(path, error) from error
    except (ValueError, RecursionError) as error:
        raise XenonError(f"{path}: damaged: {error}") from error
    if not isinstance(content, dict):
        raise XenonError(f"{path}: damaged: not a JSON object")
    if content.pop(_CHECKSUM, None) != json_sha256(content):
        raise XenonError(f"{path}: damaged: its content does not match its checksum")
    return content


def json_sha256(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of JSON values, whatever their order and white space."""
    canonical = json.dumps(
        content,
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=True,  # xenon 0.1.0 wrote NaN, and such files must still verify
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK_SIZE), b""):
            digest.update(chunk)
    return digest.hexdigest()


def check_sha256(file: Path, recorded: str, data: bytes | None = None) -> None:
    """Check that a file has the SHA-256 that was recorded when it was written.

    Args:
        file: The file.
        recorded: The SHA-256, in hexadecimal.
        data: The file's bytes, if they have been read already.

    Raises:
        XenonError: The file has another SHA-256, or cannot be read.
    """
    try:
        actual = sha256(file) if data is None else hashlib.sha256(data).hexdigest()
    except OSError as error:
        raise os_error(file, error) from error
    if actual != recorded:
        raise XenonError(f"{file}: damaged: its SHA-256 is not the one recorded")
