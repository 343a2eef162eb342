"""The settings of a training as its run records them, and what may differ on resuming.

Owns which settings those are. Must not know run folders or nets.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Mapping

from xenon_mx.config import TrainConfig
from xenon_mx.settings import flag_name

# Paths, duration and speed, but nothing that changes the result of an epoch.
_MAY_CHANGE = {"packed", "run", "resume", "epochs", "threads", "ctx"}


def recorded(config: TrainConfig) -> dict[str, Any]:
    """Return the settings as JSON values; `folds` only where there are folds."""
    left_out = {"resume"} | (set() if config.folds else {"folds"})
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(config).items()
        if key not in left_out
    }


def changes(config: TrainConfig, before: Mapping[str, Any]) -> list[str]:
    """Return in words which settings differ that may not.

    Args:
        config: The settings now.
        before: What `recorded` returned for the settings then, perhaps of a xenon that
            had fewer, which then had their defaults.
    """
    found = []
    for name, value in recorded(config).items():
        old = before.get(name, getattr(TrainConfig, name, None))
        if name not in _MAY_CHANGE and old != value:
            found.append(f"{flag_name(name)} was {old} and is {value}")
    return found
