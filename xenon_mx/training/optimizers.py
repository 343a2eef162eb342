"""Adam as the paper sets it, with a state that can be kept without pickle.

Owns MXNet's Trainer. Knows no loss, no data and no disk.
"""

from __future__ import annotations

from typing import Mapping

import numpy as np

from xenon_mx.distributed.process_group import ProcessGroup
from xenon_mx.errors import XenonError
from xenon_mx.runtime.mxnet import gluon, mx

BETAS = {"beta1": 0.9, "beta2": 0.999}  # the paper, section 3

_MOMENTS = ("mean", "var")


class Adam:
    """Adam on the parameters of a block.

    Args:
        block: Initialised on every device that it is trained on.
        lr: The learning rate of the first step.
        group: The workers that train the same block.
    """

    def __init__(self, block: gluon.Block, lr: float, group: ProcessGroup) -> None:
        params = block._collect_params_with_prefix()
        self._group = group
        self._params = params
        self._keys = {param.name: key for key, param in params.items()}
        self._trainer = gluon.Trainer(
            block.collect_params(),
            "adam",
            {"learning_rate": lr, **BETAS},
            # Several workers sum their gradients themselves, see step.
            kvstore="device" if group.num_workers == 1 else None,
            # With it on, MXNet's servers keep the learning rate they started with.
            update_on_kvstore=False,
        )

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self._trainer.learning_rate

    @lr.setter
    def lr(self, lr: float) -> None:
        self._trainer.set_learning_rate(lr)

    def step(self, images: int) -> None:
        """Move the parameters by the gradients, which are sums over `images` losses.

        Args:
            images: Of this worker; every worker has as many.
        """
        self._group.all_reduce_gradients(self._params)
        self._trainer.step(images * self._group.num_workers)

    def state(self) -> tuple[dict[str, np.ndarray], int]:
        """Give what `restore` takes to go on from here.

        Returns:
            Float32 arrays `<key>.mean` and `<key>.var`, the moments of each parameter,
            and the number of steps taken.
        """
        updater = self._trainer._updaters[0]
        counts = self._trainer._optimizer._index_update_count
        arrays = {
            f"{key}.{moment}": array.asnumpy()
            for index, key in self._trained()
            if index in updater.states
            for moment, array in zip(_MOMENTS, updater.states[index])
        }
        return arrays, max(counts.values(), default=0)

    def zero_state(self) -> dict[str, np.ndarray]:
        """Give the arrays of a `state` before the first step: zeros."""
        return {
            f"{key}.{moment}": np.zeros(self._trainer._params[index].shape, np.float32)
            for index, key in self._trained()
            for moment in _MOMENTS
        }

    def restore(self, arrays: Mapping[str, np.ndarray], steps: int) -> None:
        """Go on from where a `state` was taken.

        Raises:
            XenonError: The arrays are not those of these parameters.
        """
        expected = {name: array.shape for name, array in self.zero_state().items()}
        if {name: array.shape for name, array in arrays.items()} != expected:
            raise XenonError("the state of Adam is not one of this net")
        optimizer = self._trainer._optimizer
        for updater, ctx in zip(self._trainer._updaters, self._trainer._contexts):
            for index, key in self._trained():
                updater.states[index] = tuple(
                    mx.nd.array(arrays[f"{key}.{moment}"], ctx=ctx)
                    for moment in _MOMENTS
                )
                updater.states_synced[index] = True
            optimizer._set_current_context(ctx.device_id)
            for index, _ in self._trained():
                optimizer._index_update_count[index] = steps
        optimizer.num_update = steps

    def _trained(self) -> list[tuple[int, str]]:
        """The number in the Trainer and the key of every parameter that is trained."""
        return [
            (index, self._keys[param.name])
            for index, param in enumerate(self._trainer._params)
            if param.grad_req != "null"
        ]
