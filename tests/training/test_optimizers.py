"""Adam follows the paper's formula, and continues from a state as if never stopped."""

from __future__ import annotations

import numpy as np
import pytest

from xenon_mx.config import SMALLEST_LR
from xenon_mx.distributed.process_group import ProcessGroup
from xenon_mx.errors import XenonError
from xenon_mx.runtime.mxnet import autograd, mx, nn
from xenon_mx.training.optimizers import Adam


def net(units=3):
    block = nn.Dense(units, in_units=2)
    block.initialize(mx.init.Constant(0.5))
    return block


def step(block, adam, scale=1.0):
    """One step on a loss whose gradient is known: the inputs times `scale`."""
    with autograd.record():
        loss = (block(mx.nd.array([[1.0, 2.0]])) * scale).sum()
    loss.backward()
    adam.step(1)


def weights(block):
    return block.weight.data().asnumpy()


def test_steps_are_those_of_kingma_and_ba():
    block = net()
    adam = Adam(block, 0.1, ProcessGroup())
    expected = np.full((3, 2), 0.5)
    mean = var = np.zeros((3, 2))
    for t in range(1, 6):
        gradient = np.array([[1.0, 2.0]] * 3) * t
        step(block, adam, t)
        mean = 0.9 * mean + 0.1 * gradient
        var = 0.999 * var + 0.001 * gradient**2
        rate = 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        expected = expected - rate * mean / (np.sqrt(var) + 1e-8)
        np.testing.assert_allclose(weights(block), expected, atol=1e-5)


def test_it_takes_the_smallest_rate_that_may_be_set():
    """MXNet refuses a rate that is no normal float32, and Adam's own is smaller."""
    block = net()
    adam = Adam(block, SMALLEST_LR, ProcessGroup())
    for _ in range(50):  # the rate of the ninth to the twelfth step is the smallest
        step(block, adam)
    assert (weights(block) == 0.5).all()


def test_restored_it_takes_the_same_steps():
    whole, parts = net(), net()
    adam = Adam(whole, 0.1, ProcessGroup())
    first = Adam(parts, 0.1, ProcessGroup())
    for scale in (1, 2, 3):
        step(whole, adam, scale)
        step(parts, first, scale)
    second = Adam(parts, 0.1, ProcessGroup())
    second.load_state(*first.state())
    for scale in (4, 5):
        step(whole, adam, scale)
        step(parts, second, scale)
    assert (weights(whole) == weights(parts)).all()
    assert second.state()[1] == 5


class Pair(ProcessGroup):
    """Two workers with the same batch."""

    num_workers = 2

    def all_reduce_gradients(self, params):
        """Add the gradients of the other worker."""
        for param in params.values():
            param.grad()[:] *= 2


def test_of_several_workers_the_gradients_are_averaged():
    """A factor would not change Adam's steps, but its state and its epsilon's share."""
    one, two = net(), net()
    alone, together = Adam(one, 0.1, ProcessGroup()), Adam(two, 0.1, Pair())
    for scale in (1, 2):
        step(one, alone, scale)
        step(two, together, scale)
    expected, actual = alone.state()[0], together.state()[0]
    assert expected.keys() == actual.keys()
    for key, array in expected.items():
        np.testing.assert_allclose(actual[key], array, rtol=1e-6)


def test_the_state_of_another_net_is_refused():
    adam = Adam(net(), 0.1, ProcessGroup())
    with pytest.raises(XenonError, match="does not fit this net"):
        adam.load_state(Adam(net(4), 0.1, ProcessGroup()).zero_state(), 1)


def test_the_first_step_keeps_the_running_statistics_of_each_device():
    """MXNet would overwrite them by those of the first device."""
    norm = nn.BatchNorm(in_channels=2)
    ctxs = [mx.cpu(0), mx.cpu(1)]
    norm.initialize(ctx=ctxs)
    adam = Adam(norm, 1e-3, ProcessGroup())
    with autograd.record():
        losses = [
            norm(mx.nd.random.normal(loc=number + 1, shape=(2, 2, 4, 4), ctx=ctx))
            for number, ctx in enumerate(ctxs)
        ]
    autograd.backward(losses)
    mx.nd.waitall()
    before = [array.asnumpy() for array in norm.running_mean.list_data()]
    assert np.abs(before[0] - before[1]).min() > 0.05
    adam.step(4)
    mx.nd.waitall()
    for array, expected in zip(norm.running_mean.list_data(), before):
        np.testing.assert_array_equal(array.asnumpy(), expected)
