"""Nets for radiographs: the features that PyTorch computes on their own input.

The expected features are PyTorch's own, see tools/goldens.py.
"""

from __future__ import annotations

import goldens
import numpy as np
import pytest
from goldens import golden, state_dict
from safetensors.numpy import save_file

from xenon_mx.errors import XenonError
from xenon_mx.models import network
from xenon_mx.models.weight_input import DRAWN_ANEW, KEPT, Taken
from xenon_mx.runtime.mxnet import mx

XRV, HALF = "torchxrayvision", "radimagenet"
NET = "resnet18_v1b"
NAMES = {"resnet18": NET, "resnet50": "resnet50_v1b"}  # of torchvision, and Gluon's


def saved(arrays, folder):
    file = folder / "x.safetensors"
    save_file({k: np.ascontiguousarray(a) for k, a in arrays.items()}, file)
    return file


def built(name, arrays, folder, **options):
    return network.build(name, saved(arrays, folder), **options)


def relative_difference(net, name):
    """Return the largest difference from a golden, as a share of its largest value."""
    pixels = mx.nd.array(goldens.gray_image()[None], dtype=np.uint8)
    features = net.features(network.normalise(pixels)).asnumpy()[0]
    expected = golden(name)["features"]
    return np.abs(features - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", goldens.RADIOGRAPH_NETS)
def test_the_features_are_those_of_the_net_on_its_own_input(name, tmp_path):
    source, net_name = name.split("-")
    net = built(NAMES.get(net_name, net_name), state_dict(name), tmp_path)
    assert net.taken == Taken(DRAWN_ANEW, {XRV: "xrv", HALF: "half"}[source])
    # The limit leaves room for another build of oneDNN; 5e-7 was seen.
    assert relative_difference(net, name) < 1e-5


def test_on_another_input_the_features_are_others(tmp_path):
    """Which shows that the test above can fail."""
    arrays = state_dict(f"{HALF}-densenet121")
    net = built("densenet121", arrays, tmp_path, pretrained_input="imagenet")
    assert relative_difference(net, f"{HALF}-densenet121") > 1e-2


@pytest.mark.parametrize("given", ["2048,-1024", "xrv"])
def test_an_input_can_be_given_for_a_net_without_a_known_layout(tmp_path, given):
    name = f"{XRV}-resnet50"
    arrays = state_dict(name)
    del arrays["op_threshs"], arrays["model.fc.weight"], arrays["model.fc.bias"]
    with pytest.raises(XenonError, match="one input channel.*--pretrained-input"):
        built("resnet50_v1b", arrays, tmp_path)
    net = built("resnet50_v1b", arrays, tmp_path, pretrained_input=given)
    assert net.taken == Taken(DRAWN_ANEW, "xrv")
    assert relative_difference(net, name) < 1e-5


def test_thresholds_may_be_missing_numbers(tmp_path):
    """Those of torchxrayvision are NaN for findings that a data set does not label."""
    arrays = state_dict(f"{XRV}-resnet50")
    arrays["op_threshs"][3:] = np.nan
    net = built("resnet50_v1b", arrays, tmp_path)
    assert net.taken.input == "xrv"
    arrays["model.bn1.weight"][3] = np.nan
    with pytest.raises(
        XenonError, match=r"model\.bn1\.weight holds values that are not"
    ):
        built("resnet50_v1b", arrays, tmp_path)


def one_logit(arrays, head):
    return {
        **arrays,
        **{f"{head}.{k}": arrays[f"{head}.{k}"][:1] for k in ("weight", "bias")},
    }


def test_one_logit_with_thresholds_is_refused(tmp_path):
    arrays = one_logit(state_dict(f"{XRV}-resnet50"), "model.fc")
    with pytest.raises(XenonError, match=r"net\.op_threshs = None, and save"):
        built("resnet50_v1b", arrays, tmp_path)
    del arrays["op_threshs"]
    net = built("resnet50_v1b", arrays, tmp_path, pretrained_input="xrv")
    assert net.taken == Taken(KEPT, "xrv")
    weight = net.output.weight.data().asnumpy()
    assert (weight == arrays["model.fc.weight"]).all()


@pytest.mark.parametrize(
    ("prefix", "others", "expected"),
    [
        ("backbone.", {}, "half"),
        ("module.backbone.", {}, "half"),
        ("", {}, None),
        ("backbone.", {"projection.bias": np.ones(3, np.float32)}, None),
    ],
    ids=["as published", "in parallel", "without a prefix", "beside another layer"],
)
def test_numbers_alone_do_not_tell_the_input(tmp_path, prefix, others, expected):
    """Self-supervised nets of other authors have them too, with ImageNet's input."""
    arrays = numbered(state_dict("resnet18"), prefix)
    if expected:
        assert built(NET, {**arrays, **others}, tmp_path).taken.input == expected
        return
    with pytest.raises(XenonError, match="numbered layers, .*imagenet, xrv"):
        built(NET, {**arrays, **others}, tmp_path)
    net = built(NET, {**arrays, **others}, tmp_path, pretrained_input="imagenet")
    same(net, built(NET, state_dict("resnet18"), tmp_path))


def numbered(arrays, prefix):
    """Return a ResNet's arrays as of `nn.Sequential(*list(net.children())[:-1])`."""
    numbers = {"conv1": 0, "bn1": 1, **{f"layer{n}": 3 + n for n in range(1, 5)}}
    split = {name: name.split(".", 1) for name in arrays}
    return {
        f"{prefix}{numbers[child]}.{rest}": arrays[name]
        for name, (child, rest) in split.items()
        if child != "fc"
    }


def same(net, other):
    arrays, others = network.state_dict(net), network.state_dict(other)
    assert arrays.keys() == others.keys()
    assert all(
        (arrays[key] == others[key]).all()
        for key in arrays
        if not key.startswith("output")
    )


def test_a_numbered_layer_that_is_unknown_is_refused(tmp_path):
    arrays = numbered(state_dict("resnet18"), "backbone.")
    arrays["backbone.8.weight"] = arrays["backbone.1.weight"]
    with pytest.raises(XenonError, match=r"backbone\.8\.weight is unknown to the net"):
        built(NET, arrays, tmp_path)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_a_backbone_without_a_last_layer_gets_a_new_one(tmp_path, name):
    """As the files of DINO, MoCo and others, with the names of torchvision and timm."""
    arrays = state_dict(name)
    whole = built(NAMES.get(name, name), arrays, tmp_path)
    headless = {k: a for k, a in arrays.items() if not k.startswith(("fc", "class"))}
    assert len(headless) == len(arrays) - 2
    net = built(NAMES.get(name, name), headless, tmp_path)
    assert net.taken == whole.taken == Taken(DRAWN_ANEW, "imagenet")
    same(net, whole)
    assert net.output.weight.shape[0] == 1
    assert np.abs(net.output.weight.data().asnumpy()).max() > 0


def test_half_a_last_layer_is_refused(tmp_path):
    arrays = state_dict("resnet18")
    del arrays["fc.bias"]
    with pytest.raises(XenonError, match=r"fc\.bias is missing"):
        built(NET, arrays, tmp_path)


def test_three_channels_of_one_gray_value_are_summed(tmp_path):
    arrays = state_dict("resnet18")
    net = built(NET, arrays, tmp_path, pretrained_input="half")
    summed = {**arrays, "conv1.weight": arrays["conv1.weight"].sum(1, keepdims=True)}
    other = built(NET, summed, tmp_path, pretrained_input="half")
    kernel, expected = (
        each.features[0].weight.data().asnumpy() for each in (net, other)
    )
    np.testing.assert_allclose(kernel, expected, rtol=1e-4, atol=1e-6)


def test_a_net_that_begins_with_batch_norm_keeps_its_input(tmp_path):
    net = network.build("resnet18_v2")
    net.save_parameters(str(tmp_path / "x.params"))
    taken = network.build("resnet18_v2", tmp_path / "x.params").taken
    assert taken == Taken(KEPT, "imagenet")
    with pytest.raises(
        XenonError, match="resnet18_v2 does not begin with a convolution"
    ):
        network.build("resnet18_v2", tmp_path / "x.params", pretrained_input="half")
