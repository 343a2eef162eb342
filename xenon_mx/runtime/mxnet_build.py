"""Which MXNet is installed, and which GPUs it is known to have machine code for.

Owns the names of MXNet's distributions and what was read off their files, and the
version of gluoncv; must neither import them nor ask a GPU.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from typing import NamedTuple

from xenon_mx.errors import XenonError
from xenon_mx.runtime import extras

INSTALL = f"{extras.install('cpu')}, or '.[gpu]' beside an NVIDIA GPU"


class Build(NamedTuple):
    """The MXNet that is installed.

    Attributes:
        name: Its distribution, such as `mxnet-cu112`; `mxnet` also stands for an MXNet
            that was built from source or came with a container.
        version: The version of the distribution; None without one.
    """

    name: str
    version: str | None

    def __str__(self) -> str:
        return " ".join(filter(None, self))


class Capabilities(NamedTuple):
    """The compute capabilities of GPUs that a build runs on, both ends included."""

    lowest: tuple[int, int]
    highest: tuple[int, int]


# All fat binaries of these wheels contain machine code for 5.0, 6.0, 7.0, 8.0 and 8.6,
# and no PTX, from which a driver would compile code for newer GPUs. Code for 8.6 runs
# on 8.7 and 8.9, too.
_WHEEL = Capabilities((5, 0), (8, 9))
_KNOWN = {Build(f"mxnet-cu{cuda}", "1.9.1"): _WHEEL for cuda in ("112", "113", "117")}


def capabilities(build: Build) -> Capabilities | None:
    """Return which GPUs a build runs on; None if only the build itself can tell."""
    return _KNOWN.get(build)


def of_extra() -> Capabilities:
    """Return which GPUs xenon's extra `[gpu]` runs on."""
    return _WHEEL


def installed() -> Build:
    """Return the MXNet that is installed.

    Raises:
        XenonError: There is none, or there are several in one place.
    """
    found = [
        Build(name, dist.version)
        for dist in importlib.metadata.distributions()
        for name in [(dist.metadata["Name"] or "").lower().replace("_", "-")]
        if re.fullmatch(r"mxnet(-\w+)?", name)
    ]
    names = sorted({build.name for build in found})
    if len(names) > 1:
        raise XenonError(
            f"{' and '.join(names)} are both installed and overwrite one another: "
            f"uninstall both, then {INSTALL}"
        )
    if found:
        return found[0]  # the one that Python imports
    spec = importlib.util.find_spec("mxnet")
    if spec is None or spec.origin is None:  # None: a folder without __init__.py
        raise XenonError(f"MXNet is not installed: {INSTALL}")
    return Build("mxnet", None)


def gluoncv_version() -> str:
    """Return the version of gluoncv, whose module tells another; or `unknown`."""
    try:
        return importlib.metadata.version("gluoncv")
    except importlib.metadata.PackageNotFoundError:  # a folder that was put there
        return "unknown"
