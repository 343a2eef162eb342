"""What a model card says of the files of `xenon-export --to torch`.

Owns these values; must not know how the files are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from xenon_mx.config import MEAN, STD
from xenon_mx.models.torch_config import WEIGHTS


@dataclass(frozen=True)
class TorchMember:
    """A member: where its files are, its net, and the checkpoint that it was."""

    folder: str
    architecture: str
    epoch: int
    loss: float

    @property
    def file(self) -> str:
        """Return the path of its weights within the folder."""
        return self.folder + WEIGHTS


@dataclass(frozen=True)
class TorchCard:
    """The files, and what the nets in them need.

    Attributes:
        members: The members, the first of which is the one that timm loads.
        size: Side of the square input, px.
        fit: How a radiograph is fitted into it, one of `config.FITS`.
        threshold: A study is called abnormal if its probability is strictly above.
        is_decided: Whether the threshold was decided by `xenon-decide`.
    """

    members: Sequence[TorchMember]
    size: int
    fit: str
    threshold: float
    is_decided: bool
    mean: Sequence[float] = MEAN
    std: Sequence[float] = STD
