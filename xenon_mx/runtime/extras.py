"""How to install what a feature needs.

Owns the command that messages give, and the import of a library that may be missing.
xenon is on no package index, so the command is one for its checkout. Must not know the
features.
"""

from __future__ import annotations

import importlib
from typing import Any

from xenon_mx.errors import XenonError


def install(extra: str) -> str:
    """Return the command that installs an extra of setup.py, such as `report`."""
    return f"pip install '.[{extra}]' in a checkout of xenon"


def load(package: str, name: str, extra: str) -> Any:
    """Import the library of an extra.

    Args:
        package: The package to import.
        name: What the library is called.
        extra: The extra of setup.py that installs it.

    Raises:
        XenonError: It, or a package that it needs, is missing or cannot be loaded.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise XenonError(f"{error.name} is not installed: {install(extra)}") from error
    except ImportError as error:
        raise XenonError(
            f"{name} cannot be loaded: {error}; reinstall it: {install(extra)}"
        ) from error
