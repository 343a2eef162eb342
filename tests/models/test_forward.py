"""The forward pass: its results do not depend on batches, devices or overlap."""

from __future__ import annotations

import numpy as np
import pytest
import synthetic

from xenon_mx.models import network
from xenon_mx.models.forward import cams, logits
from xenon_mx.runtime.mxnet import mx


@pytest.fixture(scope="module")
def nets():
    """Two nets on two contexts each."""
    return [
        network.build("mobilenet0.25", ctx=[mx.cpu(0), mx.cpu(1)]) for _ in range(2)
    ]


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 7])
@pytest.mark.parametrize("devices", [1, 2])
def test_logits_do_not_depend_on_batches_or_devices(
    nets, batch_size, devices, reference
):
    pixels = synthetic.blobs(7)
    expected = np.concatenate(
        [
            net(network.normalise(mx.nd.array(pixels, dtype="uint8"))).asnumpy()
            for net in nets
        ],
        axis=1,
    )
    batches = [pixels[i : i + batch_size] for i in range(0, 7, batch_size)]
    ctxs = [mx.cpu(i) for i in range(devices)]
    results = logits(nets, batches, ctxs, reference)
    assert results.shape == (7, 2)
    np.testing.assert_allclose(results, expected, rtol=1e-4, atol=1e-5)


def test_no_images_give_no_logits(nets):
    assert logits(nets, [], [mx.cpu()]).shape == (0, 2)


def test_one_net_gives_a_column(nets):
    assert logits(nets[:1], [synthetic.blobs(3)], [mx.cpu()]).shape == (3, 1)


def test_results_are_copied_before_mxnet_reuses_their_memory(nets):
    """With many passes queued, none returns what a later one has written."""
    pixels = synthetic.blobs(60)
    results = logits(nets, (pixels[i : i + 4] for i in range(0, 60, 4)), [mx.cpu()])
    single = [logits(nets, [image[None]], [mx.cpu()])[0] for image in pixels]
    np.testing.assert_allclose(results, single, rtol=1e-4, atol=1e-5)


def expected_maps(nets, pixels):
    """Compute the members' maps, (M, N, h, w), from the last features by NumPy."""
    maps = []
    for net in nets:
        last = network.normalise(mx.nd.array(pixels, dtype="uint8"))
        for layer in list(net.features._children.values())[:-2]:
            last = layer(last)
        weights = net.output.weight.data(mx.cpu()).asnumpy()[0]
        maps.append(np.einsum("k,nkhw->nhw", weights, last.asnumpy()))
    return np.array(maps)


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("batch_size", [1, 5, 20])
@pytest.mark.parametrize("devices", [1, 2])
def test_cams_returns_logits_and_maps_in_order(nets, batch_size, devices, reference):
    pixels = synthetic.blobs(20, 64)
    batches = [pixels[i : i + batch_size] for i in range(0, 20, batch_size)]
    ctxs = [mx.cpu(i) for i in range(devices)]
    results = list(cams(nets, batches, ctxs, reference))
    assert np.array_equal(np.concatenate([batch.pixels for batch in results]), pixels)
    np.testing.assert_allclose(
        np.concatenate([batch.logits for batch in results]),
        logits(nets, batches, ctxs, reference),
        atol=1e-6,
    )
    maps = np.concatenate([batch.maps for batch in results])
    expected = expected_maps(nets, pixels).mean(axis=0)
    assert maps.shape == (20, 2, 2)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-4)


def test_the_mean_of_the_ensembles_map_is_that_of_the_logits():
    """Also of nets whose maps differ in size."""
    nets = [network.build(name) for name in ("mobilenet0.25", "squeezenet1.1")]
    for net, bias in zip(nets, (0.5, -2.0)):
        net.output.bias.set_data(mx.nd.array([bias]))
    (results,) = cams(nets, [synthetic.blobs(2, 96)], [mx.cpu()])
    assert results.maps.shape == (2, 5, 5)
    means = results.maps.mean(axis=(1, 2)) + (0.5 - 2.0) / 2
    np.testing.assert_allclose(means, results.logits.mean(axis=1), atol=1e-4)


def test_cams_reads_only_a_few_batches_ahead(nets):
    requested = []

    def batches():
        for number in range(50):
            requested.append(number)
            yield synthetic.blobs(2, 32, number)

    for number, _ in enumerate(cams(nets, batches(), [mx.cpu()])):
        assert len(requested) <= number + 4
    assert len(requested) == 50
