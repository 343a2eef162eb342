"""Weights for PyTorch: torchvision's own names, shapes and values come out again."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from goldens import state_dict
from models.test_weight_names import NETS, ORDINARY

from xenon_mx.errors import XenonError
from xenon_mx.models import network, torch_config, torch_weights, weight_names

each_net = pytest.mark.parametrize(
    "name",
    [n if n in ORDINARY else pytest.param(n, marks=pytest.mark.slow) for n in NETS],
)


def one_logit(name):
    """Return weights that torchvision's net has with one class."""
    heads = ("classifier.", "fc.")
    return {
        key: array[:1] if key.startswith(heads) else array
        for key, array in state_dict(name).items()
    }


@each_net
def test_what_torchvision_saves_comes_out_as_it_was(name, tmp_path):
    given = one_logit(name)
    safetensors.numpy.save_file(given, tmp_path / "given.safetensors")
    net = network.build(NETS[name], tmp_path / "given.safetensors")
    data = torch_weights.encode(NETS[name], network.state_dict(net))
    written = safetensors.numpy.load(data)
    assert written.keys() == given.keys()
    for key, array in written.items():
        assert (array.shape, array.dtype) == (given[key].shape, given[key].dtype)
        if weight_names.is_weight(key):
            assert array.tobytes() == given[key].tobytes(), key


def test_the_file_says_that_it_is_pytorchs(tmp_path):
    """Which the hub's libraries ask for."""
    arrays = network.state_dict(network.build("resnet18_v1b"))
    (tmp_path / "x").write_bytes(torch_weights.encode("resnet18_v1b", arrays))
    with safetensors.safe_open(str(tmp_path / "x"), "np") as file:
        assert file.metadata() == {"format": "pt"}
    assert torch_weights.is_same(
        torch_weights.read_back("resnet18_v1b", tmp_path / "x"), arrays
    )


def test_one_bit_makes_weights_differ():
    one = {"a": np.float32([0.0, 1.0])}
    assert torch_weights.is_same(one, {"a": np.float32([0.0, 1.0])})
    assert not torch_weights.is_same(one, {"a": np.float32([-0.0, 1.0])})
    assert not torch_weights.is_same(one, {"b": one["a"]})


@pytest.mark.parametrize(
    "name", ["resnet50_v1", "resnet50_v2", "mobilenet1.0", "se_resnext50_32x4d"]
)
def test_a_net_that_torchvision_lacks_leads_to_onnx(name):
    with pytest.raises(XenonError, match="--to onnx") as caught:
        torch_weights.check_model(name)
    assert f"torchvision has no {name}" in str(caught.value)
    for net in NETS.values():
        assert net in str(caught.value)
        torch_weights.check_model(net)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"architecture": "resnet34"}', "resnet34, not of resnet18_v1b: use --model "
         "resnet34_v1b"),
        ('{"architecture": "densenet169"}', "use --model densenet169"),
        ('{"architecture": "resnet18_v1b"}', "torchvision's DenseNets and ResNets"),
        ('{"architecture": "vit_base"}', "torchvision's DenseNets and ResNets"),
        ('{"model_type": "bert"}', "has no architecture"),
        ('{"architecture": 3}', "has no architecture"),
        ("[]", "not a JSON object"),
        ('{"architecture":', "damaged"),
    ],
)  # fmt: skip
def test_the_architecture_of_a_folder_is_compared_with_the_net(
    tmp_path, content, message
):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(XenonError, match=message):
        torch_config.check_architecture(tmp_path, "resnet18_v1b")
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}')
    torch_config.check_architecture(tmp_path, "resnet18_v1b")
