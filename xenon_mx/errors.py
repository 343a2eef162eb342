"""Errors that the user can correct.

Owns the exception classes; must not know any other module.
"""

from __future__ import annotations

import os
from typing import Sequence


class XenonError(Exception):
    """One sentence for the user: what went wrong, where, and what to do.

    Args:
        message: One line.
        details: One line for each thing at fault when there are several (every
            unreadable file, every contradictory label). Shown above the message.
    """

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


class ConfigError(XenonError):
    """A setting outside its range, which the command line reports as wrong usage.

    Args:
        flag: The setting as the command line spells it, such as `--batch-size`.
        message: What the setting must be.
    """

    def __init__(self, flag: str, message: str) -> None:
        super().__init__(f"{flag}: {message}")
        self.flag = flag


class FileError(XenonError):
    """A file that cannot be used.

    Args:
        path: The file, as messages name it.
        reason: What is wrong with the file, without its name.
    """

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


def os_error(path: object, error: OSError) -> FileError:
    """Return the error that names a path and the operating system's reason.

    Args:
        path: The file or folder, or what else was used, such as `standard output`.
        error: The operating system's error.
    """
    return FileError(path, os.strerror(error.errno) if error.errno else str(error))


def link_loop(path: object) -> FileError:
    """Return the error of a symbolic link that leads to itself."""
    return FileError(path, "a link that leads to itself")
