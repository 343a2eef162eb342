"""Bone radiographs to study-level predictions, by the recipe of the MURA paper.

    import xenon_mx as xenon

    ensemble = xenon.load("runs/a")
    studies = ensemble.predict("images/")

Importing this package is quick; what a function needs is imported when it is called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xenon_mx.api import (
        decide,
        doctor,
        export,
        launch,
        pack,
        predict,
        report,
        train,
    )
    from xenon_mx.ensemble import Ensemble, load
    from xenon_mx.errors import XenonError

__version__ = "0.1.0"
__all__ = [
    "Ensemble",
    "XenonError",
    "decide",
    "doctor",
    "export",
    "launch",
    "load",
    "pack",
    "predict",
    "report",
    "train",
]
# The module of each public name that is not in `api`.
_HOMES = {"Ensemble": "ensemble", "XenonError": "errors", "load": "ensemble"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"xenon_mx.{_HOMES.get(name, 'api')}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
