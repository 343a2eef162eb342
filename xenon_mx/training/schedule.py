"""What training decides after an epoch: small state machines. Know no MXNet, no disk.

`ReduceLROnPlateau` sets the learning rate, `TopEpochs` chooses the checkpoints to keep;
both look at nothing but the validation loss.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

FACTOR = 10.0  # the paper, section 3: the rate is decayed by a factor of 10


class ReduceLROnPlateau:
    """Divide the learning rate by 10 when the validation loss stops falling.

    Args:
        lr: The initial learning rate.
        patience: Epochs without a new best until the rate is divided.
        min_delta: How much lower than the best so far a loss must be to be a new best.
        min_lr: The rate never falls below it.
    """

    def __init__(
        self, lr: float, patience: int, min_delta: float = 0.0, min_lr: float = 0.0
    ) -> None:
        self._initial_lr = lr
        self._patience = patience
        self._min_delta = min_delta
        self._min_lr = min_lr
        self._best = math.inf
        self._waited = 0
        self._divisions = 0

    @property
    def lr(self) -> float:
        """The learning rate of the next epoch."""
        # From the initial rate each time: 1e-4 / 10 / 10 is not exactly 1e-6.
        return self._initial_lr / FACTOR**self._divisions

    def state_dict(self) -> dict[str, Any]:
        """Give what `load_state_dict` takes to go on from here, for JSON."""
        return {
            "best": self._best,
            "waited": self._waited,
            "divisions": self._divisions,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where a `state_dict` was taken."""
        self._best = float(state["best"])
        self._waited = int(state["waited"])
        self._divisions = int(state["divisions"])

    def step(self, loss: float) -> bool:
        """Take an epoch's validation loss; tell whether training should go on.

        A loss that is not a number is no new best.

        Returns:
            False when the rate would have to fall below `min_lr`: training is over.
        """
        if loss < self._best - self._min_delta:
            self._best, self._waited = loss, 0
            return True
        self._waited += 1
        if self._waited < self._patience:
            return True
        lower = self._initial_lr / FACTOR ** (self._divisions + 1)
        if lower < self._min_lr * (1 - 1e-9):  # 1e-4 / 100 may miss 1e-6 by rounding
            return False
        self._divisions += 1
        self._waited = 0
        return True


class RankedEpoch(NamedTuple):
    """An epoch and its validation loss; the lower loss is better, then the earlier."""

    loss: float
    epoch: int


class TopEpochs:
    """Keep the epochs with the lowest validation losses.

    Args:
        keep: How many.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self.ranked: list[RankedEpoch] = []

    def state_dict(self) -> dict[str, Any]:
        """Give what `load_state_dict` takes to go on from here, for JSON."""
        return {"ranked": [list(each) for each in self.ranked]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where a `state_dict` was taken."""
        self.ranked = [RankedEpoch(float(loss), int(e)) for loss, e in state["ranked"]]

    def step(self, epoch: int, loss: float) -> list[int]:
        """Take an epoch's validation loss; give the epochs to drop, perhaps this one.

        A tie keeps the earlier epoch. What is not a finite number is never kept.
        """
        if not math.isfinite(loss):
            return [epoch]
        ranked = sorted([*self.ranked, RankedEpoch(loss, epoch)])
        self.ranked = ranked[: self._keep]
        return [each.epoch for each in ranked[self._keep :]]
