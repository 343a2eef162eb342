"""The loss scale: what it does to a step, when it changes, and that it is resumed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from xenon_mx.distributed.process_group import ProcessGroup
from xenon_mx.runtime.mxnet import autograd, mx, nn
from xenon_mx.training.loss_scale import LossScale
from xenon_mx.training.optimizers import Adam

FIRST = 2.0**16  # MXNet's


def trained(loss_scale, gradients):
    """The weights of two outputs after a step with each gradient; and the optimizer."""
    block = nn.Dense(2, in_units=1, use_bias=False)
    block.initialize(mx.init.Constant(0.5))
    adam = Adam(block, 0.1, ProcessGroup(), loss_scale)
    for gradient in gradients:
        scale = loss_scale.value if loss_scale else 1
        with autograd.record():
            loss = (block(mx.nd.array([[gradient]])) * scale).sum()
        loss.backward()
        adam.step(1)
    return block.weight.data().asnumpy(), adam


def test_the_scale_is_taken_out_of_the_gradients_again():
    gradients = [1.0, -3.0, 0.25]
    plain, _ = trained(None, gradients)
    scaled, _ = trained(LossScale(), gradients)
    np.testing.assert_array_equal(scaled, plain)  # a power of 2 rounds nothing


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_step_that_overflows_is_left_out(bad):
    scale = LossScale()
    weights, adam = trained(scale, [1.0, bad, 2.0])
    expected, _ = trained(None, [1.0, 2.0])
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert adam.state()[1] == 2
    assert scale.value == FIRST / 2


def test_after_two_thousand_steps_it_is_doubled():
    scale = LossScale()
    block = nn.Dense(1, in_units=1)
    block.initialize()
    params = list(block.collect_params().values())
    for _ in range(2000):
        assert scale.value == FIRST
        assert not scale.has_overflow(params)
    assert not scale.has_overflow(params)
    assert scale.value == 2 * FIRST


def test_its_state_is_json_and_comes_back():
    scale, resumed = LossScale(), LossScale()
    trained(scale, [np.inf, 1.0, np.inf, 1.0])
    state = json.loads(json.dumps(scale.state_dict()))
    resumed.load_state_dict(state)
    assert resumed.state_dict() == scale.state_dict() != LossScale().state_dict()
    for own in (scale, resumed):
        trained(own, [np.inf, 1.0])
    assert resumed.value == scale.value


def test_a_state_of_something_else_is_refused():
    with pytest.raises(KeyError):
        LossScale().load_state_dict({"scale": 1.0})
