"""The nets: one logit, pooled over the whole feature map, with the zoo's weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import synthetic

from xenon_mx.distributed.process_group import ProcessGroup
from xenon_mx.errors import XenonError
from xenon_mx.models import cam_block, forward, net_names, net_size, network
from xenon_mx.runtime.mxnet import autograd, model_zoo, mx, nn
from xenon_mx.training import batch_norm

SMALL = [
    "densenet121",
    "resnet18_v1",
    "resnet18_v2",
    "resnet18_v1b",
    "mobilenet0.25",
    "mobilenetv2_0.25",
    "squeezenet1.1",
]


@pytest.fixture(scope="module")
def zoo_params(tmp_path_factory):
    """Return a function that saves random weights of a zoo net with 1000 classes."""
    files = {}

    def make(name):
        if name not in files:
            net = model_zoo.get_model(name, classes=1000, pretrained=False)
            net.initialize(mx.init.Xavier())
            net(mx.nd.zeros((1, 3, 224, 224)))
            files[name] = tmp_path_factory.mktemp("zoo") / f"{name}.params"
            net.save_parameters(str(files[name]))
        return files[name]

    return make


def image(size, seed=0):
    pixels = np.random.RandomState(seed).uniform(-2, 2, (2, 3, size, size))
    return mx.nd.array(pixels)


@pytest.mark.parametrize("name", SMALL)
def test_net_returns_one_logit_per_image(name):
    net = network.build(name)
    assert net(image(64)).shape == (2, 1)
    assert net.features(image(64)).ndim == 2


def test_densenet_pools_the_whole_map_at_320():
    net = network.build("densenet121")
    maps = image(320)
    for layer in list(net.features._children.values())[:-2]:
        maps = layer(maps)
    assert maps.shape[2:] == (10, 10)
    pooled, whole = net.features(image(320)).asnumpy(), maps.asnumpy()
    np.testing.assert_allclose(pooled, whole.mean(axis=(2, 3)), rtol=1e-4, atol=1e-6)
    cropped = whole[:, :, :7, :7].mean(axis=(2, 3))  # what the zoo's own net pools
    assert np.abs(pooled - cropped).max() > 1e-2


def last_layer(zoo):
    """Return weight (K, C) and bias (K,) of a zoo net's linear layer."""
    params = zoo._collect_params_with_prefix()
    last = {k.split(".")[-1]: p for k, p in params.items() if k[:2] in ("ou", "fc")}
    weight = last["weight"].data().asnumpy()
    bias = last["bias"].data().asnumpy() if "bias" in last else np.zeros(len(weight))
    return weight.reshape(len(weight), -1), bias


@pytest.mark.parametrize("name", SMALL)
def test_pretrained_features_are_those_of_the_zoo_at_224(name, zoo_params):
    zoo = model_zoo.get_model(name, classes=1000, pretrained=False)
    zoo.load_parameters(str(zoo_params(name)))
    net = network.build(name, zoo_params(name))
    weight, bias = last_layer(zoo)
    logits = net.features(image(224)).asnumpy() @ weight.T + bias
    if name == "squeezenet1.1":  # the zoo's net applies a ReLU before pooling
        zoo.output._children["1"] = nn.HybridLambda("identity")
    expected = zoo(image(224)).asnumpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_a_logit_of_squeezenet_is_linear_in_its_last_layer():
    net = network.build("squeezenet1.0")
    before = net(image(64)).asnumpy()
    net.output.weight.set_data(-net.output.weight.data())
    assert (before != 0).all()
    assert (net(image(64)).asnumpy() == -before).all()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("densenet121", marks=pytest.mark.slow),
        "resnet18_v1",
        "squeezenet1.1",
    ],
)
def test_names_without_dots_as_mxnet_once_saved_them_are_understood(
    name, zoo_params, tmp_path
):
    zoo = model_zoo.get_model(name, classes=1000, pretrained=False)
    zoo.load_parameters(str(zoo_params(name)))
    zoo.collect_params().save(str(tmp_path / "old.params"), strip_prefix=zoo.prefix)
    assert not any("." in key for key in mx.nd.load(str(tmp_path / "old.params")))
    old, new = network.build(name, tmp_path / "old.params"), zoo_params(name)
    expected = network.build(name, new).features(image(64)).asnumpy()
    assert (old.features(image(64)).asnumpy() == expected).all()


def test_a_last_layer_of_the_wrong_width_is_refused(zoo_params, tmp_path):
    arrays = mx.nd.load(str(zoo_params("resnet18_v1")))
    arrays["output.weight"] = mx.nd.zeros((1, 9))
    arrays["output.bias"] = mx.nd.zeros((1,))
    mx.nd.save(str(tmp_path / "x.params"), arrays)
    with pytest.raises(XenonError, match=r"output\.weight is \(1, 9\), not \(1, 512\)"):
        network.build("resnet18_v1", tmp_path / "x.params")


def test_the_new_last_layer_depends_on_the_seed(zoo_params):
    from xenon_mx.runtime import mxnet

    def last(seed):
        mxnet.seed(seed)
        net = network.build("resnet18_v1", zoo_params("resnet18_v1"))
        return net.output.weight.data().asnumpy()

    assert (last(1) == last(1)).all()
    assert (last(1) != last(2)).any()


@pytest.mark.parametrize(
    ("name", "size", "gflop"),
    [
        # 2 x the multiply-adds in torchvision's documentation at 224 px, minus the 999
        # logits that this net lacks.
        ("densenet121", 224, 2 * (2.834 - 999 * 1024e-9)),
        ("densenet161", 224, 2 * (7.728 - 999 * 2208e-9)),
        ("resnet18_v1b", 224, 2 * (1.814 - 999 * 512e-9)),
        ("resnet152_v1b", 224, 2 * (11.514 - 999 * 2048e-9)),
    ],
)
def test_the_gflop_are_those_that_torchvision_documents(name, size, gflop):
    assert net_size.count_size(name, size)[1] == pytest.approx(gflop, rel=2e-3)


@pytest.mark.parametrize("name", SMALL)
def test_count_size_agrees_with_the_built_net(name):
    assert net_size.count_size(name, 64)[0] == net_size.count_parameters(
        network.build(name)
    )


def test_parameter_keys_are_those_of_the_zoo(zoo_params):
    params = network.build("densenet121")._collect_params_with_prefix()
    assert set(params) == set(mx.nd.load(str(zoo_params("densenet121"))))


def test_a_saved_net_is_loaded_whole(tmp_path):
    net = network.build("mobilenet0.25")
    net.save_parameters(str(tmp_path / "net.params"))
    again = network.build("mobilenet0.25", tmp_path / "net.params")
    assert (net(image(64)).asnumpy() == again(image(64)).asnumpy()).all()


def test_random_weights_repeat_with_the_seed_and_only_with_it():
    from xenon_mx.runtime import mxnet

    def first_layer(seed):
        mxnet.seed(seed)
        return network.build("mobilenet0.25").features[0].weight.data().asnumpy()

    assert (first_layer(1) == first_layer(1)).all()
    assert (first_layer(1) != first_layer(2)).any()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet18", "resnet18_v1, resnet18_v2, resnet18_v1b"),
        ("densenet", "densenet121, densenet161, densenet169, densenet201"),
        ("DenseNet-169", "densenet169"),
        ("resnet50v2", "resnet50_v2"),
        ("desnet121", "densenet121"),
        ("squeeznet1.1", "squeezenet1.1, squeezenet1.0"),
        ("seresnext50", "se_resnext50_32x4d"),
    ],
)
def test_an_unknown_name_is_refused_with_the_names_that_were_meant(name, near):
    with pytest.raises(XenonError) as caught:
        network.build(name)
    assert str(caught.value) == (
        f"there is no net '{name}': did you mean {near}? xenon-train --list-models "
        f"shows all nets"
    )


@pytest.mark.parametrize("name", ["vgg16", "", "-"])
def test_a_name_like_none_is_sent_to_the_list(name):
    with pytest.raises(XenonError) as caught:
        network.build(name)
    assert str(caught.value) == (
        f"there is no net '{name}': xenon-train --list-models shows all nets"
    )


def test_weights_of_another_net_are_refused_with_its_name(zoo_params):
    with pytest.raises(XenonError) as caught:
        network.build("resnet18_v2", zoo_params("resnet18_v1"))
    assert str(caught.value).endswith(
        "holds the weights of resnet18_v1, not of resnet18_v2: use --model "
        "resnet18_v1, or name other weights"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "no weights"), (b"\x12\x01" + b"\0" * 30, "no named arrays")],
)
def test_a_file_that_holds_no_params_is_refused(tmp_path, content, message):
    (tmp_path / "x.params").write_bytes(content)
    with pytest.raises(XenonError, match=message):
        network.build("mobilenet0.25", tmp_path / "x.params")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(XenonError, match="No such file"):
        network.build("mobilenet0.25", tmp_path / "x.params")


def test_values_that_are_not_finite_are_refused(tmp_path):
    net = network.build("mobilenet0.25")
    net.output.bias.set_data(mx.nd.array([np.nan]))
    net.save_parameters(str(tmp_path / "x.params"))
    with pytest.raises(XenonError, match="finite"):
        network.build("mobilenet0.25", tmp_path / "x.params")


def test_a_misshapen_array_is_named(tmp_path):
    net = network.build("mobilenet0.25")
    arrays = {k: p.data() for k, p in net._collect_params_with_prefix().items()}
    arrays["features.0.weight"] = mx.nd.zeros((64, 3, 5, 5))
    mx.nd.save(str(tmp_path / "x.params"), arrays)
    with pytest.raises(XenonError, match=r"features\.0\.weight"):
        network.build("mobilenet0.25", tmp_path / "x.params")


def test_normalise_follows_the_formula():
    pixels = np.array([[[0, 128], [255, 7]]], dtype=np.uint8)
    result = network.normalise(mx.nd.array(pixels, dtype="uint8")).asnumpy()
    assert result.shape == (1, 3, 2, 2)
    assert result.dtype == np.float32
    for channel, (mean, std) in enumerate(
        zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    ):
        expected = (pixels[0] / 255 - mean) / std
        np.testing.assert_allclose(result[0, channel], expected, rtol=1e-5)


def test_count_parameters_counts_trainable_parameters():
    net = nn.HybridSequential()
    net.add(nn.Dense(3, in_units=2), nn.BatchNorm(in_channels=3))
    assert net_size.count_parameters(net) == 3 * 2 + 3 + 3 + 3  # without running means


@pytest.mark.slow
@pytest.mark.parametrize("name", net_names.NAMES)
def test_every_listed_net_takes_a_step_at_320(name):
    from xenon_mx.runtime.mxnet import autograd, gluon

    net = network.build(name)
    trainer = gluon.Trainer(net.collect_params(), "adam", update_on_kvstore=False)
    with autograd.record():
        loss = net(image(320)).mean()
    loss.backward()
    trainer.step(2)
    assert np.isfinite(net(image(320)).asnumpy()).all()


FAST = [
    *(pytest.param(x, marks=pytest.mark.slow) for x in ("densenet121", "resnet18_v1")),
    *("resnet18_v2", "mobilenet0.25"),
]


def step(net, pixels):
    """Compute one step of gradient descent; return the loss and the new state dict."""
    with autograd.record():
        loss = (net(pixels) ** 2).mean()
    loss.backward()
    for param in net.collect_params().values():
        if param.grad_req != "null":
            param.set_data(param.data() - 0.01 * param.grad())
    return float(loss.asscalar()), network.state_dict(net)


@pytest.mark.parametrize("name", FAST)
def test_the_fused_net_equals_the_reference_to_the_bit(name, tmp_path):
    network.build(name).save_parameters(str(tmp_path / "x.params"))
    fast = network.build(name, tmp_path / "x.params")
    plain = network.build(name, tmp_path / "x.params", reference=True)
    assert network.state_dict(fast).keys() == network.state_dict(plain).keys()
    pixels = image(64)
    np.testing.assert_array_equal(fast(pixels).asnumpy(), plain(pixels).asnumpy())
    for _ in range(2):
        loss, arrays = step(fast, pixels)
        expected_loss, expected = step(plain, pixels)
        assert loss == expected_loss
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, expected[key], err_msg=key)


@pytest.mark.parametrize("name", ["densenet121"])
def test_a_relu_is_fused_into_the_batch_norm_before_it(name):
    def operators(net):
        return [n["op"] for n in json.loads(net(mx.sym.var("x")).tojson())["nodes"]]

    fast = operators(network.build(name))
    plain = operators(network.build(name, reference=True))
    fused = fast.count("_contrib_BatchNormWithReLU")
    assert fused > 1
    assert plain.count("_contrib_BatchNormWithReLU") == 0
    assert plain.count("BatchNorm") == fast.count("BatchNorm") + fused
    assert plain.count("Activation") == fast.count("Activation") + fused


def settled(name):
    """Return a net with random weights, BatchNorm statistics of images, and a bias."""
    net = network.build(name)
    with autograd.train_mode():
        for seed in range(5):
            net(image(64, seed)).wait_to_read()
    net.output.bias.set_data(mx.nd.array([0.75]))
    return net


@pytest.mark.parametrize("size", [96, pytest.param(320, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SMALL)
def test_the_mean_of_a_map_plus_the_bias_is_the_logit(name, size):
    net = settled(name)
    expected = net(image(size)).asnumpy()
    logits, maps = (a.asnumpy() for a in cam_block.build(net)(image(size)))
    assert maps.shape[:2] == (2, 1)
    assert np.abs(maps).max() > 1e-3
    np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        maps.mean(axis=(1, 2, 3)) + 0.75, expected[:, 0], rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("name", ["resnet18_v1b", "squeezenet1.1"])
def test_a_map_is_the_weighted_sum_of_the_last_features_channels(name):
    """Computed by NumPy from the paper's formula: sum_k w_k f_k."""
    net = settled(name)
    last = image(96)
    for layer in list(net.features._children.values())[:-2]:
        last = layer(last)
    weights = net.output.weight.data().asnumpy()[0]
    expected = np.einsum("k,nkhw->nhw", weights, last.asnumpy())
    for reference in (False, True):
        _, maps = cam_block.build(net, reference)(image(96))
        np.testing.assert_allclose(maps.asnumpy()[:, 0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("densenet121", -1.5, 318.5),  # 2x2 poolings between its blocks
        ("resnet18_v1b", -15.5, 304.5),
        ("mobilenet0.25", -15.5, 304.5),
        ("se_resnext50_32x4d", -15.5, 304.5),
        ("squeezenet1.1", 7.5, 311.5),  # unpadded: 19 cells, 16 px apart
    ],
)
def test_cam_extent_of_known_nets(name, start, end):
    assert cam_block.cam_extent(network.build(name), 320) == (start, end)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("densenet121", marks=pytest.mark.slow),
        pytest.param("resnet18_v1b", marks=pytest.mark.slow),
        "mobilenet0.25",
        "squeezenet1.1",
    ],
)
def test_a_cell_is_centred_where_cam_extent_puts_it(name):
    """Measured by the gradient of the middle cell with respect to the pixels."""
    net = network.build(name, reference=True)
    pixels = image(320)
    pixels.attach_grad()
    with autograd.record():  # oneDNN has no gradients in prediction mode
        last = pixels
        for layer in list(net.features._children.values())[:-2]:
            last = layer(last)
        cells = last.shape[-1]
        middle = cells // 2
        weights = mx.nd.array(np.random.normal(size=(1, last.shape[1])))
        cell = (last[:, :, middle, middle] * weights).sum()
    cell.backward()
    power = (pixels.grad.asnumpy().astype(float) ** 2).sum(axis=(0, 1))
    positions = np.arange(320) + 0.5
    centre = [(power.sum(axis) @ positions) / power.sum() for axis in (0, 1)]
    start, end = cam_block.cam_extent(net, 320)
    expected = start + (middle + 0.5) * (end - start) / cells
    # The error of a naive extent is half a stride: 16 px.
    np.testing.assert_allclose(centre, expected, rtol=0, atol=7)


def test_a_cam_block_does_not_change_its_net():
    net = settled("mobilenet0.25")
    before = net(image(64)).asnumpy()
    keys = list(net._collect_params_with_prefix())
    cam_block.build(net)(image(64))
    assert list(net._collect_params_with_prefix()) == keys
    assert np.array_equal(net(image(64)).asnumpy(), before)


def test_averaged_statistics_include_the_last_batch():
    """MXNet lets them be read and set before the backward pass has updated them."""

    def after_three_steps(wait):
        mx.random.seed(0)
        ctxs = [mx.cpu(0), mx.cpu(1)]
        net = network.build("mobilenet0.25", ctx=ctxs)
        for _ in range(3):
            parts = forward.split_to_devices(synthetic.blobs(8, 64), ctxs)
            with autograd.record():
                sums = [net(network.normalise(part)).sum() for part in parts]
            autograd.backward(sums)
        if wait:
            mx.nd.waitall()
        batch_norm.average_running_statistics(net, ProcessGroup())
        mx.nd.waitall()
        params = net._collect_params_with_prefix()
        statistics = {k: p for k, p in params.items() if p.grad_req == "null"}
        return {k: [a.asnumpy() for a in p.list_data()] for k, p in statistics.items()}

    expected, actual = after_three_steps(wait=True), after_three_steps(wait=False)
    assert len(actual) > 50
    for key, (first, second) in actual.items():
        assert np.array_equal(first, second), key
        assert np.array_equal(first, expected[key][0]), key
