"""Scaling of the loss for float16, in which small gradients would become 0.

Owns MXNet's dynamic scale and its state. Must not know the optimizer or nets.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from xenon_mx.runtime.mxnet import loss_scaler

# The names of the state in state.json, and MXNet's attributes.
_STATE = {
    "scale": "_loss_scale",
    "next_scale": "_next_loss_scale",
    "unskipped": "_unskipped",
}


class LossScale:
    """MXNet's dynamic loss scale: halved by an overflow, doubled after 2,000 steps."""

    def __init__(self) -> None:
        self._scaler = loss_scaler.LossScaler()

    @property
    def value(self) -> float:
        """What the losses of the next step are multiplied by."""
        return float(self._scaler.loss_scale)

    def has_overflow(self, params: Sequence[Any]) -> bool:
        """Return whether a gradient is not finite, and adapt the scale to it.

        Args:
            params: With the sums of their gradients over all devices and workers, so
                that all workers find the same.
        """
        trainable = [param for param in params if param.grad_req != "null"]
        return bool(self._scaler.has_overflow(trainable))

    def state_dict(self) -> dict[str, float]:
        """Return the state as JSON values."""
        return {key: getattr(self._scaler, name) for key, name in _STATE.items()}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Load what `state_dict` returned; KeyError if it is something else."""
        for key, name in _STATE.items():
            setattr(self._scaler, name, state[key])
