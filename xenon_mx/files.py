"""Files that are there whole or not at all, and that tell when they were changed.

Owns how a file is written and checked. Knows nothing of what is in it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Mapping

from xenon_mx.errors import XenonError

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

    Raises:
        OSError: As the system gives it. Nothing is left behind.
    """
    partials = {path: path.with_name(path.name + PARTIAL) for path in contents}
    try:
        for path, data in contents.items():
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
