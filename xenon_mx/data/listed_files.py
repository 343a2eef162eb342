"""The files that a CSV lists by their paths.

Owns finding them below their root, and that none leads out of it; must not know what
the CSV's columns are.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Sequence

from xenon_mx.data import roots
from xenon_mx.data.roots import Root
from xenon_mx.errors import XenonError
from xenon_mx.runtime import text


def locate(
    csv: Path, paths: Sequence[str], root: Path | None
) -> tuple[list[Path], Root]:
    """Find the files of a CSV's paths.

    Args:
        csv: The CSV.
        paths: Its paths.
        root: The folder that they are relative to; None searches, see `roots`.

    Returns:
        The files, of which some may be missing, and the folder they are relative to.

    Raises:
        XenonError: A path is listed twice or leaves the root, or no file exists.
    """
    duplicates = [path for path, n in Counter(paths).items() if n > 1]
    if duplicates:
        raise XenonError(
            f"{csv}: {text.counted(len(duplicates), 'image is', 'images are')} listed "
            f"twice",
            duplicates,
        )
    outside = [path for path in paths if _is_outside(path, root)]
    if outside:
        raise XenonError(
            f"{csv}: {text.counted(len(outside), 'path leaves', 'paths leave')} the "
            f"root; absolute paths need --root",
            outside,
        )
    return _resolve(paths, csv, root)


def _is_outside(path: str, root: Path | None) -> bool:
    """Return whether a path of a CSV points outside its root."""
    pure = PurePosixPath(path)
    if ".." in pure.parts:
        return True
    return pure.is_absolute() and (
        root is None or root.resolve() not in Path(path).resolve().parents
    )


def _resolve(
    paths: Sequence[str], csv: Path, root: Path | None
) -> tuple[list[Path], Root]:
    """Find the folder that a CSV's paths are relative to, and join it with them."""
    tried = roots.candidates(paths, csv.parent, root)
    found = roots.find(paths, tried)
    if found is None:
        folders = dict.fromkeys(str(each.base.resolve()) for each in tried)
        raise XenonError(
            f"{csv}: none of its {text.counted(len(paths), 'image')} was found, such "
            f"as {paths[0]}; looked below {', '.join(folders)}; name the right folder "
            f"with --root"
        )
    files = [found.join(path) for path in paths]
    real = os.path.realpath(found.base)
    inside = os.path.join(real, "")
    outside = [
        path
        for path, file in zip(paths, files)
        if not os.path.realpath(file).startswith(inside)
    ]
    if outside:
        raise XenonError(
            f"{csv}: {text.counted(len(outside), 'link leads', 'links lead')} out of "
            f"{real}; name the folder that holds links and files with --root",
            outside,
        )
    return files, found
