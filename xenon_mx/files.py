"""Files that are there whole or not at all, and that tell when they were changed.

Owns what may be written where, and how a file is written and checked. Knows nothing of
what is in it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, Sequence

from xenon_mx.errors import ConfigError, XenonError

PARTIAL = ".partial"  # the end of the name of a file that is being written
_CHECKSUM = "checksum"
_CHUNK = 1 << 20


def write(path: Path, data: bytes) -> str:
    """Write a file so that its name never stands for half of it.

    Args:
        path: The file; what it held before stays until the new bytes are on disk.
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

    A link is followed, and stays one.

    Raises:
        OSError: As the system gives it. Nothing is left behind.
    """
    real = {path.resolve(): data for path, data in contents.items()}
    partials = {path: path.with_name(path.name + PARTIAL) for path in real}
    try:
        for path, data in real.items():
            with open(partials[path], "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        for path, partial in partials.items():
            os.replace(partial, path)
    except BaseException:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
        raise


def unwritten(error: OSError, paths: Iterable[Path]) -> XenonError:
    """Say which of some files could not be written; all of them, if it is not told."""
    name = error.filename or ", ".join(map(str, paths))
    return XenonError(f"{name}: {os.strerror(error.errno or 0)}")


def check_output(
    path: Path,
    flag: str,
    suffixes: Sequence[str],
    writer: str,
    is_ours: Callable[[Path], bool],
) -> None:
    """Refuse an output that cannot be written, or would replace something else.

    Args:
        path: The file; a link is followed.
        flag: How the command line spells it.
        suffixes: What its name may end in.
        writer: The program that writes it, as errors call it.
        is_ours: Tells a file that it wrote before from any other.

    Raises:
        ConfigError: The name ends otherwise: it may be that of another file.
        XenonError: It cannot be written, or is something else.
    """
    if path.is_dir():
        raise XenonError(f"{path}: is a folder; name a file for {flag}")
    if path.suffix.lower() not in suffixes:
        raise ConfigError(
            flag, f"{path} is not named {suffixes[0]}: which file to write?"
        )
    folder = path.resolve().parent
    if not folder.is_dir():
        raise XenonError(f"{path}: its folder does not exist")
    if not os.access(folder, os.W_OK):
        raise XenonError(f"{path}: its folder may not be written to")
    if not path.exists():
        return
    if not path.is_file():
        raise XenonError(f"{path}: is no ordinary file; name another one for {flag}")
    if path.stat().st_size and not is_ours(path):
        raise XenonError(
            f"{path}: exists and was not written by {writer}: name another file for "
            f"{flag}"
        )


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object, with a checksum of its own among its keys."""
    whole = {**content, _CHECKSUM: _checksum(content)}
    write(path, (json.dumps(whole, indent=2) + "\n").encode())


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


def _checksum(content: dict[str, Any]) -> str:
    """Of the content and not of the bytes: a file may be laid out anew."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()
