"""Adam with the paper's settings, and a state that is saved without pickle.

Owns MXNet's Trainer. Must not know the loss, the data or files.
"""

from __future__ import annotations

from typing import Mapping

import numpy as np

from xenon_mx.distributed.process_group import ProcessGroup
from xenon_mx.errors import XenonError
from xenon_mx.runtime.lazy import LazyMapping
from xenon_mx.runtime.mxnet import gluon, mx
from xenon_mx.training.loss_scale import LossScale

BETAS = {"beta1": 0.9, "beta2": 0.999}  # the paper, section 3

_MOMENTS = ("mean", "var")
MOMENTS_PER_PARAM = len(_MOMENTS)  # arrays of the state, each as large as the parameter


class Adam:
    """Adam optimizer of the parameters of a block.

    Args:
        block: Initialized on all devices that it is trained on.
        lr: The learning rate of the first step.
        group: The workers that train the same block.
        loss_scale: What the losses are multiplied by; None is 1.
    """

    def __init__(
        self,
        block: gluon.Block,
        lr: float,
        group: ProcessGroup,
        loss_scale: LossScale | None = None,
    ) -> None:
        params = block._collect_params_with_prefix()
        self._group = group
        self._loss_scale = loss_scale
        self._params = params
        self._keys = {param.name: key for key, param in params.items()}
        self._trainer = gluon.Trainer(
            block.collect_params(),
            "adam",
            {"learning_rate": lr, **BETAS},
            # The gradients of several workers are summed in `step`.
            kvstore="device" if group.num_workers == 1 else None,
            # If True, MXNet's servers would keep the initial learning rate.
            update_on_kvstore=False,
        )
        # Left to the first step, MXNet would then copy every array from the first
        # device to the others, also BatchNorm's statistics: those that the backward
        # pass has just written would be lost, on which devices depending on a race.
        self._trainer._init_kvstore()
        self._trainer._init_params()

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self._trainer.learning_rate

    @lr.setter
    def lr(self, lr: float) -> None:
        self._trainer.set_learning_rate(lr)

    def step(self, images: int) -> None:
        """Update the parameters by the gradients of a batch.

        With a loss scale, a batch whose gradients overflow updates nothing.

        Args:
            images: Number of images of this worker, the same on all workers. The
                gradients are sums over their losses.
        """
        self._group.all_reduce_gradients(self._params)
        count = images * self._group.num_workers
        if self._loss_scale is None:
            self._trainer.step(count)
            return
        self._trainer.allreduce_grads()
        scale = self._loss_scale.value
        if not self._loss_scale.has_overflow(self._trainer._params):
            self._trainer.update(count * scale)

    def state(self) -> tuple[Mapping[str, np.ndarray], int]:
        """Return the state for `load_state`.

        Returns:
            Float32 arrays `<key>.mean` and `<key>.var`, the moments of each parameter,
            each read when it is asked for; and the number of steps taken.
        """
        updater = self._trainer._updaters[0]
        counts = self._trainer._optimizer._index_update_count
        arrays = {
            f"{key}.{moment}": array.asnumpy
            for index, key in self._trainable()
            if index in updater.states
            for moment, array in zip(_MOMENTS, updater.states[index])
        }
        return LazyMapping(arrays), max(counts.values(), default=0)

    def zero_state(self) -> dict[str, np.ndarray]:
        """Return the arrays of `state` before the first step: zeros."""
        return {
            f"{key}.{moment}": np.zeros(self._trainer._params[index].shape, np.float32)
            for index, key in self._trainable()
            for moment in _MOMENTS
        }

    def load_state(self, arrays: Mapping[str, np.ndarray], steps: int) -> None:
        """Load a state that `state` returned.

        Raises:
            XenonError: The arrays do not fit these parameters.
        """
        expected = {name: array.shape for name, array in self.zero_state().items()}
        if {name: array.shape for name, array in arrays.items()} != expected:
            raise XenonError("the state of Adam does not fit this net")
        optimizer = self._trainer._optimizer
        for updater, ctx in zip(self._trainer._updaters, self._trainer._contexts):
            for index, key in self._trainable():
                updater.states[index] = tuple(
                    mx.nd.array(arrays[f"{key}.{moment}"], ctx=ctx)
                    for moment in _MOMENTS
                )
                updater.states_synced[index] = True
            optimizer._set_current_context(ctx.device_id)
            for index, _ in self._trainable():
                optimizer._index_update_count[index] = steps
        optimizer.num_update = steps

    def _trainable(self) -> list[tuple[int, str]]:
        """Return the index in the Trainer and the key of each trainable parameter."""
        return [
            (index, self._keys[param.name])
            for index, param in enumerate(self._trainer._params)
            if param.grad_req != "null"
        ]
