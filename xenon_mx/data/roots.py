"""Where the paths of a CSV begin: the folder that they are relative to.

Owns the order in which folders are tried; must not know CSVs, labels or pixels.

What the user named comes first and the working directory last, and the first folder
that holds any of the images is used: an incomplete copy of a data set is an error about
missing images, and is never replaced by another data set that happens to be complete.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Callable, NamedTuple, Sequence

from xenon_mx.data.mura import SPLITS
from xenon_mx.errors import os_error

# How images are found, as in pack.json: below SOURCE, which is the folder that the user
# named or that holds the CSV; with SOURCE, or a folder beside it, as the paths' first
# folder; below `--root`; below the working directory.
SOURCE, PARENT, ROOT = "source", "parent", "root"
WORKING_DIRECTORY = "working directory"
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


class Root(NamedTuple):
    """A folder that paths may be relative to.

    Attributes:
        rule: Why it is tried: `source`, `parent`, `root` or `working directory`.
        base: The folder.
        drop: Whether the paths' first folder, the data set's former name, is dropped.
    """

    rule: str
    base: Path
    drop: bool

    def join(self, path: str) -> Path:
        """Return the file of a path; an absolute path is returned unchanged."""
        pure = PurePosixPath(path)
        is_dropped = self.drop and len(pure.parts) > 1 and not pure.is_absolute()
        return self.base.joinpath(*pure.parts[is_dropped:])

    def data_set(self, paths: Sequence[str]) -> Path:
        """Return the folder of the data set, as far as the paths tell."""
        first = _first_folder(paths)
        is_name = bool(first) and first not in SPLITS
        return self.base / first if is_name and not self.drop else self.base


def candidates(paths: Sequence[str], source: Path, root: Path | None) -> list[Root]:
    """List the folders that paths may be relative to, in the order to try them.

    Args:
        paths: The paths, with the data set's name or without.
        source: The folder of their CSV, or that of a table of predictions.
        root: The folder, if it is known; nothing else is tried then.
    """
    source = source.absolute()
    whole, dropped = False, True
    if root is not None:
        tried = [Root(ROOT, root, whole), Root(ROOT, root, dropped)]
    else:
        tried = [
            Root(SOURCE, source, whole),
            Root(PARENT, source, dropped),
            Root(PARENT, source.parent, whole),
            Root(PARENT, source.parent, dropped),
            Root(WORKING_DIRECTORY, Path(), whole),
            Root(WORKING_DIRECTORY, Path(), dropped),
        ]
    # Two data sets of one CSV must not become one.
    can_drop = bool(_first_folder(paths))
    return [each for each in tried if can_drop or not each.drop]


def find(
    paths: Sequence[str],
    tried: Sequence[Root],
    holds: Callable[[Root, str], bool] | None = None,
) -> Root | None:
    """Return the first folder that holds any of the paths; None if none does.

    Args:
        paths: The paths.
        tried: What `candidates` returned.
        holds: Returns whether a folder holds a path; None looks for a file.
    """
    holds = holds or _holds_file
    return next((r for r in tried if any(holds(r, path) for path in paths)), None)


def _holds_file(root: Root, path: str) -> bool:
    # Without pathlib, which makes 40,000 paths below a wrong folder take a second.
    file = root.join(path) if root.drop else os.path.join(root.base, path)
    try:
        return stat.S_ISREG(os.stat(file).st_mode)
    except ValueError:  # a null byte
        return False
    except OSError as error:
        if error.errno in _NOT_THERE:
            return False
        # A folder that may not be read is not one without images.
        raise os_error(file, error) from error


def _first_folder(paths: Sequence[str]) -> str:
    """Return the first folder of the relative paths; empty if they have none alike."""
    pure = map(PurePosixPath, paths)
    firsts = {p.parts[0] for p in pure if len(p.parts) > 1 and not p.is_absolute()}
    return firsts.pop() if len(firsts) == 1 else ""
