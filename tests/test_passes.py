"""The forward pass: the same logits however the work is cut and overlapped."""

from __future__ import annotations

import numpy as np
import pytest
import small

from xenon_mx import models
from xenon_mx.engine import mx
from xenon_mx.passes import logits


@pytest.fixture(scope="module")
def nets():
    """Two nets on two contexts each."""
    return [models.build("resnet18_v1b", ctx=[mx.cpu(0), mx.cpu(1)]) for _ in range(2)]


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 7])
@pytest.mark.parametrize("devices", [1, 2])
def test_logits_do_not_depend_on_batches_or_devices(
    nets, batch_size, devices, reference
):
    pixels = small.blobs(7)
    expected = np.concatenate(
        [
            net(models.normalise(mx.nd.array(pixels, dtype="uint8"))).asnumpy()
            for net in nets
        ],
        axis=1,
    )
    batches = [pixels[i : i + batch_size] for i in range(0, 7, batch_size)]
    ctxs = [mx.cpu(i) for i in range(devices)]
    found = logits(nets, batches, ctxs, reference)
    assert found.shape == (7, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_no_images_give_no_logits(nets):
    assert logits(nets, [], [mx.cpu()]).shape == (0, 2)


def test_one_net_gives_a_column(nets):
    assert logits(nets[:1], [small.blobs(3)], [mx.cpu()]).shape == (3, 1)


def test_results_are_taken_before_mxnet_needs_their_memory_again(nets):
    """Many passes under way: none reads what a later one has written."""
    pixels = small.blobs(60)
    found = logits(nets, (pixels[i : i + 4] for i in range(0, 60, 4)), [mx.cpu()])
    alone = [logits(nets, [each[None]], [mx.cpu()])[0] for each in pixels]
    np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)
