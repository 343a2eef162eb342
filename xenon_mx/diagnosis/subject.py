"""What is checked: a net, its input, and the devices that compute it.

Owns these settings as every check's process receives them. Must not know any check.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Attributes:
        model: The net, one of `net_names.NAMES`.
        size: The side of its square input, px.
        batch_size: Images per step.
        devices: MXNet contexts, such as `gpu(0)`; none until they are known.
        folder: Path of an empty folder for the files of the checks.
    """

    model: str
    size: int
    batch_size: int
    devices: tuple[str, ...]
    folder: str

    @property
    def ctx(self) -> str:
        """The devices as `--ctx` names them."""
        return ",".join(self.devices)

    @property
    def large(self) -> Path:
        """The packed folder to read and to measure rates with."""
        return Path(self.folder) / "packed"

    @property
    def small(self) -> Path:
        """The packed folder of a few images, whose epochs are short."""
        return Path(self.folder) / "packed-small"

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Subject:
        """Return the subject that `asdict` became JSON values of."""
        return cls(**{**content, "devices": tuple(content["devices"])})
