"""Whether a disk has room for what is to be written.

Owns the check before the work. Must not know what is written.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from xenon_mx.errors import XenonError
from xenon_mx.runtime import text


def free(folder: Path) -> int:
    """Return the free bytes of the disk of a folder, which may not exist yet."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def check(folder: Path, needed: float, margin: float = 1.0) -> None:
    """Check that a folder's disk has room.

    Args:
        folder: The folder.
        needed: Bytes.
        margin: A factor, where `needed` is an estimate.

    Raises:
        XenonError: It has not.
    """
    available = free(folder)
    if needed * margin > available:
        raise XenonError(
            f"{text.folder_name(folder)}: the disk has {text.format_bytes(available)} "
            f"free, but about {text.format_bytes(needed)} are needed"
        )
