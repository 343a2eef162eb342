"""Mixed precision: which layers compute in 16 bits, and that the net stays as it is."""

from __future__ import annotations

import json

import numpy as np
import pytest

from xenon_mx.models import mixed_precision, network
from xenon_mx.models.mixed_precision import MixedPrecisionNet
from xenon_mx.runtime import half_precision, mxnet
from xenon_mx.runtime.half_precision import BFLOAT16, FLOAT16
from xenon_mx.runtime.mxnet import autograd, mx

needs_bfloat16 = pytest.mark.skipif(
    not half_precision.can_gain([mx.cpu()]), reason="this processor has no bfloat16"
)
OTHERS = ["resnet18_v1", "resnet18_v2", "squeezenet1.1"]
NETS = ["densenet121", "resnet18_v1b", *OTHERS]


def build(name, seed=0):
    mxnet.seed(seed)
    return network.build(name)


def pixels(count=8, side=64, seed=0):
    """Smooth images that differ, as noise does not once it is pooled."""
    y, x = np.mgrid[:side, :side] / side
    random = np.random.RandomState(seed)
    gray = [
        random.rand() + np.sin(6 * random.rand() * x) * np.cos(9 * random.rand() * y)
        for _ in range(count)
    ]
    gray = 255 * np.clip(gray, 0, 1)
    return network.normalise(mx.nd.array(gray, dtype="uint8"))


def types(net, dtype, operator):
    """The type in which the data of each such operator comes in."""
    symbol = mixed_precision.cast_features(net, dtype)
    nodes = json.loads(symbol.tojson(remove_amp_cast=False))["nodes"]
    kinds, found = [], []
    for node in nodes:
        if node["op"] == "amp_cast":
            kinds.append(node["attrs"]["dtype"])
        else:  # what comes in goes out; parameters and pixels are float32
            data = node["inputs"][0][0] if node["inputs"] else None
            kinds.append("float32" if data is None else kinds[data])
        if node["op"] == operator:
            found.append(kinds[-1])
    return found


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16])
def test_every_convolution_computes_in_16_bits_but_bfloat16s_first(name, dtype):
    found = types(build(name), dtype, "Convolution")
    expected = [dtype] * len(found)
    if dtype == BFLOAT16:
        expected[0] = "float32"
    assert found == expected
    assert len(found) > 9


@pytest.mark.parametrize("dtype", [BFLOAT16, FLOAT16])
def test_the_last_pooling_is_in_float32(dtype):
    *_, last = types(build("densenet121"), dtype, "Pooling")
    assert last == "float32"


def test_the_parameters_are_the_nets_own():
    net = build("resnet18_v1")
    mixed = MixedPrecisionNet(net, BFLOAT16)
    own = {param.name: param for param in net.collect_params().values()}
    assert {p.name: p for p in mixed.collect_params().values()} == own
    assert {np.dtype(param.dtype) for param in own.values()} == {np.dtype("float32")}


@needs_bfloat16
@pytest.mark.parametrize(
    "name",
    [
        "densenet121",
        "resnet18_v1b",
        *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS),
    ],
)
def test_gradients_point_where_those_of_float32_do(name):
    """Chosen here: within 60 degrees, at random weights, which amplify rounding most.

    Two gradients of millions of values that have nothing to do with one another are at
    90 degrees.
    """
    labels = mx.nd.array([[1], [0]] * 4)
    results = []
    for mixed in (False, True):
        net = build(name)
        block = MixedPrecisionNet(net, BFLOAT16) if mixed else net
        with autograd.record():
            losses = (block(pixels()) - labels).square()
        losses.backward()
        gradients = [
            param.grad().asnumpy().ravel().astype(np.float64)
            for param in net.collect_params().values()
            if param.grad_req != "null"
        ]
        results.append((losses.asnumpy(), np.concatenate(gradients)))
    losses, gradients = zip(*results)
    assert 0 < np.abs(losses[1] - losses[0]).max() < 0.2 * losses[0].max()
    cosine = gradients[0] @ gradients[1] / np.linalg.norm(gradients, axis=1).prod()
    assert 0.5 < cosine < 1 - 1e-6


@needs_bfloat16
def test_a_step_writes_batch_norms_statistics_in_float32():
    net = build("resnet18_v1")
    mixed = MixedPrecisionNet(net, BFLOAT16)
    before = {key: value.copy() for key, value in network.state_dict(net).items()}
    with autograd.record():
        logits = mixed(pixels())
    logits.backward()
    mx.nd.waitall()
    after = dict(network.state_dict(net))
    moved = {key for key in before if (before[key] != after[key]).any()}
    assert moved == {key for key in before if "running" in key}
    assert all(array.dtype == np.float32 for array in after.values())


@needs_bfloat16
def test_the_net_itself_computes_as_if_there_were_no_mixed_net():
    """MXNet's own `amp.init` would change its operators for the whole process."""
    net = build("densenet121")
    expected = net(pixels()).asnumpy()
    mixed = MixedPrecisionNet(net, BFLOAT16)
    assert (mixed(pixels()).asnumpy() != expected).any()
    assert (net(pixels()).asnumpy() == expected).all()
    assert (build("densenet121")(pixels()).asnumpy() == expected).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("densenet169", True),
        ("resnet50_v2", True),
        ("squeezenet1.0", True),
        ("resnext50_32x4d", False),
        ("se_resnext101_64x4d", False),
        ("mobilenetv2_1.0", False),
    ],
)
def test_grouped_convolutions_gain_nothing_in_bfloat16(name, expected):
    assert mixed_precision.can_gain(name, BFLOAT16) is expected
    assert mixed_precision.can_gain(name, FLOAT16)
