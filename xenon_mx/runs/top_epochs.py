"""The epochs whose checkpoints are kept: those with the lowest validation losses.

Owns their ranking. Must not know MXNet or files.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple


class RankedEpoch(NamedTuple):
    """An epoch and its validation loss; sorts by loss, ties by epoch."""

    loss: float
    epoch: int


class TopEpochs:
    """The epochs with the lowest validation losses.

    Args:
        keep: Number of epochs to keep.

    Attributes:
        ranked: The epochs kept, the lowest loss first.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self.ranked: list[RankedEpoch] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`, as JSON values."""
        return {"ranked": [list(epoch) for epoch in self.ranked]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self.ranked = [
            RankedEpoch(float(loss), int(epoch)) for loss, epoch in state["ranked"]
        ]

    def step(self, epoch: int, loss: float) -> list[int]:
        """Rank an epoch by its validation loss.

        Of two equal losses, the earlier epoch ranks first. An infinite loss or NaN is
        never kept.

        Returns:
            The epochs to drop, which may include this one.
        """
        if not math.isfinite(loss):
            return [epoch]
        ranked = sorted([*self.ranked, RankedEpoch(loss, epoch)])
        self.ranked = ranked[: self._keep]
        return [dropped.epoch for dropped in ranked[self._keep :]]
