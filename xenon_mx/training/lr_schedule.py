"""The learning rate schedule: a division by 10 on each plateau of the validation loss.

Owns when the learning rate falls and when training ends. Must not know MXNet or files.
"""

from __future__ import annotations

import math
from typing import Any

from xenon_mx.runtime import json_numbers

FACTOR = 10.0  # the paper, section 3: the rate is decayed by a factor of 10


class ReduceLROnPlateau:
    """Learning rate schedule that divides by 10 when the validation loss stops falling.

    Args:
        lr: Initial learning rate.
        patience: Epochs without a new lowest loss before the rate is divided; 1 here
            is 0 in PyTorch.
        min_delta: How far below the lowest loss so far a loss must be to replace it.
        min_lr: Lower bound of the learning rate.
    """

    def __init__(
        self, lr: float, patience: int, min_delta: float = 0.0, min_lr: float = 0.0
    ) -> None:
        self._initial_lr = lr
        self._patience = patience
        self._min_delta = min_delta
        self._min_lr = min_lr
        self._best = math.inf
        self._num_bad_epochs = 0
        self._divisions = 0

    @property
    def lr(self) -> float:
        """The learning rate of the next epoch."""
        # From the initial rate each time: 1e-4 / 10 / 10 is not exactly 1e-6.
        return self._initial_lr / FACTOR**self._divisions

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`, as JSON values."""
        return {
            "best": json_numbers.to_json(self._best),
            "waited": self._num_bad_epochs,
            "divisions": self._divisions,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned."""
        self._best = json_numbers.from_json(state["best"])
        self._num_bad_epochs = int(state["waited"])
        self._divisions = int(state["divisions"])

    def step(self, loss: float) -> bool:
        """Update the learning rate after an epoch.

        Args:
            loss: The epoch's validation loss. NaN counts as no new lowest loss.

        Returns:
            Whether training continues: False if the rate would fall below `min_lr`.
        """
        if loss < self._best - self._min_delta:
            self._best, self._num_bad_epochs = loss, 0
            return True
        self._num_bad_epochs += 1
        if self._num_bad_epochs < self._patience:
            return True
        next_lr = self._initial_lr / FACTOR ** (self._divisions + 1)
        if next_lr < self._min_lr * (1 - 1e-9):  # 1e-4 / 100 may miss 1e-6 by rounding
            return False
        self._divisions += 1
        self._num_bad_epochs = 0
        return True
