"""What a report must not tell: who uses this computer, and where things lie on it.

Owns what is taken out of a line. Must not know what lines say.
"""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import Callable


def hider(folder: Path) -> Callable[[str], str]:
    """Return a function that takes names and paths out of a line.

    Args:
        folder: The folder of the checks' files, which becomes FOLDER.
    """
    replaced = {
        str(folder): "FOLDER",
        str(folder.resolve()): "FOLDER",
        os.path.abspath(folder.parent): "OUT",
        str(folder.parent.resolve()): "OUT",
        os.path.expanduser("~"): "~",
        _user(): "USER",
        socket.gethostname(): "HOST",
    }
    # Short names, such as `root` and `a`, are words of other meanings.
    names = sorted((name for name in replaced if len(name) > 4), key=len, reverse=True)

    def hide(line: str) -> str:
        for name in names:
            line = line.replace(name, replaced[name])
        return line

    return hide


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""
