"""The loss against its formula in float64."""

from __future__ import annotations

import numpy as np
import pytest

from xenon_mx.runtime.mxnet import autograd, mx
from xenon_mx.training.losses import WeightedBCE

TABLE = np.array([[0.4, 0.6], [0.25, 0.75], [0.5, 0.5]])


def closed_form(logits, labels, types, table=TABLE):
    prob = 1 / (1 + np.exp(-logits.astype(np.float64)))
    positive = -table[types, 1] * labels * np.log(prob)
    return positive - table[types, 0] * (1 - labels) * np.log1p(-prob)


@pytest.fixture
def drawn():
    rng = np.random.RandomState(3)
    logits = rng.uniform(-6, 6, 50).astype(np.float32)
    return logits, rng.randint(0, 2, 50), rng.randint(0, 3, 50)


def column(values):
    return mx.nd.array(np.reshape(values, (-1, 1)))


def test_each_loss_follows_the_formula(drawn):
    logits, labels, types = drawn
    loss = WeightedBCE(TABLE)
    values = loss(column(logits), column(labels), column(loss.weights(labels, types)))
    assert values.shape == (50,)
    expected = closed_form(logits, labels, types)
    # float32, and summed as max(z, 0) - zy + log(1 + exp(-|z|))
    np.testing.assert_allclose(values.asnumpy(), expected, rtol=1e-5, atol=5e-7)


def test_mean_averages_over_images_and_not_over_weights(drawn):
    expected = closed_form(*drawn).mean()
    assert WeightedBCE(TABLE).mean(*drawn) == pytest.approx(expected, rel=1e-6)


def test_a_table_of_ones_is_the_plain_loss(drawn):
    plain = WeightedBCE(np.ones((3, 2))).mean(*drawn)
    assert plain == pytest.approx(closed_form(*drawn, table=np.ones((3, 2))).mean())


def test_the_gradient_is_the_weight_times_the_error(drawn):
    logits, labels, types = drawn
    loss = WeightedBCE(TABLE)
    z, weights = column(logits), loss.weights(labels, types)
    z.attach_grad()
    with autograd.record():
        value = loss(z, column(labels), column(weights))
    value.backward()
    expected = weights * (1 / (1 + np.exp(-logits)) - labels)
    np.testing.assert_allclose(z.grad.asnumpy()[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("logit", [-100.0, 100.0])
def test_an_extreme_logit_stays_finite(logit):
    ones = np.array([1])
    value = WeightedBCE(np.ones((1, 2))).mean(np.array([logit]), ones, ones * 0)
    assert value == pytest.approx(max(0.0, -logit))


def test_weights_that_would_broadcast_to_a_square_are_refused(drawn):
    logits, labels, _ = drawn
    with pytest.raises(ValueError, match=r"\(N, 1\)"):
        WeightedBCE(TABLE)(column(logits), column(labels), mx.nd.ones(50))
