"""What a report must not tell: who uses this computer, and where things lie on it.

Owns what is taken out of a line. Must not know what lines say.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
import sys
from pathlib import Path

# An absolute path, or one below the home folder, up to its last part. Neither a URL nor
# a unit (img/s) has a slash after a space or a sign.
_PATH = re.compile(r"(?<![\w./~\-])~?(?:/[^\s/'\"`:;,()<>\[\]{}=|]+)*/(?=[^\s/])")
# Names that every computer has.
_COMMON = ("root", "localhost")


class Hider:
    """Takes names and paths out of a line.

    Args:
        folder: The folder of the checks' files, which becomes FOLDER; that around it
            becomes OUT.
    """

    def __init__(self, folder: Path) -> None:
        self._folders = {
            os.path.abspath(folder): "FOLDER",
            str(folder.resolve()): "FOLDER",
            os.path.abspath(folder.parent): "OUT",
            str(folder.parent.resolve()): "OUT",
            # Known folders, because a name with a space ends a path that is not known.
            os.getcwd(): "/.",
            sys.prefix: "/.",
            os.path.expanduser("~"): "~",
        }
        self._names = {_user(): "USER"}
        host = socket.gethostname()
        self._names.update({host: "HOST", host.partition(".")[0]: "HOST"})

    def paths(self, line: str) -> str:
        """Return a line with the last part of each absolute path alone."""
        for path in sorted(self._folders, key=len, reverse=True):
            if path != "/":
                line = re.sub(
                    rf"(?<![\w.\-]){re.escape(path)}(?![\w\-])",
                    self._folders[path],
                    line,
                )
        return _PATH.sub("", line)

    def message(self, line: str) -> str:
        """Return what another program has said, or an error, without names and paths.

        Only in these can names occur; in lines of xenon's own words, they may be words.
        """
        line = self.paths(line)
        for name in sorted(self._names, key=len, reverse=True):
            # A single letter tells nobody, and is a word.
            if len(name) > 1 and name not in _COMMON:
                line = re.sub(
                    rf"(?<!xenon-)(?<!\w){re.escape(name)}(?!\w)",
                    self._names[name],
                    line,
                )
        return line


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""
