"""Prefixes that wrappers put before the names of weights: understood, or refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from goldens import state_dict
from safetensors.numpy import save_file

from xenon_mx.errors import XenonError
from xenon_mx.models import network

NET = "resnet18_v1b"


@pytest.fixture(scope="module")
def arrays():
    return state_dict("resnet18")


@pytest.fixture(scope="module")
def expected(arrays, tmp_path_factory):
    """Return the net's arrays as loaded from a file without prefixes."""
    file = tmp_path_factory.mktemp("plain") / "x.safetensors"
    save_file(arrays, file)
    return features(file)


def features(file):
    """Return the arrays that a file puts into the net, without the new last layer."""
    loaded = network.state_dict(network.build(NET, file))
    return {key: a for key, a in loaded.items() if not key.startswith("output")}


def same(actual, expected):
    assert actual.keys() == expected.keys()
    assert all((actual[key] == expected[key]).all() for key in expected)


def prefixed(arrays, prefix):
    return {prefix + name: array for name, array in arrays.items()}


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "model.",
        "backbone.",
        "net.",
        "_orig_mod.",
        "module.model.",
        "model.module.",
        "model.backbone.",
        "module._orig_mod.",
        "net._orig_mod.module.",
    ],
)
def test_a_prefix_that_all_names_share_is_understood(
    tmp_path, arrays, expected, prefix
):
    save_file(prefixed(arrays, prefix), tmp_path / "x.safetensors")
    same(features(tmp_path / "x.safetensors"), expected)


@pytest.mark.parametrize(
    "others",
    [
        ["criterion.weight"],
        ["loss.pos_weight", "train_accuracy.total"],
        ["n_averaged"],  # of torch.optim.swa_utils.AveragedModel
        ["ema.decay"],
    ],
)
def test_what_a_training_script_keeps_beside_the_net_is_left_out(
    tmp_path, arrays, expected, others
):
    extra = {name: np.ones((1,), np.float32) for name in others}
    save_file({**prefixed(arrays, "model."), **extra}, tmp_path / "x.safetensors")
    same(features(tmp_path / "x.safetensors"), expected)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("model.", "ema."),
        ("model.", "ema.module."),
        ("model.", "module."),
        ("model.", "teacher.encoder."),
        ("", "module."),
        ("module.model.", "module."),
    ],
)
def test_two_nets_in_a_file_are_refused_with_a_name_of_each(
    tmp_path, arrays, first, second
):
    file = tmp_path / "x.safetensors"
    save_file({**prefixed(arrays, first), **prefixed(arrays, second)}, file)
    with pytest.raises(XenonError, match="two arrays for the same weight") as caught:
        network.build(NET, file)
    named = re.search(r"weight, (\S+) and (\S+):", str(caught.value))
    assert set(named.groups()) in [{first + name, second + name} for name in arrays]


def test_one_weight_twice_is_refused(tmp_path, arrays):
    file = tmp_path / "x.safetensors"
    again = {"ema.conv1.weight": arrays["conv1.weight"]}
    save_file({**prefixed(arrays, "model."), **again}, file)
    with pytest.raises(
        XenonError, match=r"model\.conv1\.weight and ema\.conv1\.weight"
    ):
        network.build(NET, file)


def test_a_densenet_with_an_old_and_a_new_name_of_a_weight_is_refused(tmp_path):
    arrays = state_dict("densenet121")
    old = "features.denseblock1.denselayer1.norm.1.bias"
    arrays[old] = arrays["features.denseblock1.denselayer1.norm1.bias"]
    save_file(arrays, tmp_path / "x.safetensors")
    with pytest.raises(XenonError, match=r"two arrays .*norm\.1\.bias"):
        network.build("densenet121", tmp_path / "x.safetensors")


def test_part_of_a_net_outside_the_prefix_is_refused(tmp_path, arrays):
    file = tmp_path / "x.safetensors"
    wrapped = prefixed(arrays, "model.")
    wrapped["head.bias"] = wrapped.pop("model.fc.bias")
    save_file(wrapped, file)
    with pytest.raises(XenonError, match=r"model\.fc\.bias is missing"):
        network.build(NET, file)


def test_what_is_unknown_within_the_prefix_is_refused(tmp_path, arrays):
    file = tmp_path / "x.safetensors"
    save_file(prefixed({**arrays, "extra": arrays["fc.bias"]}, "model."), file)
    with pytest.raises(XenonError, match=r"model\.extra is unknown to the net"):
        network.build(NET, file)


def test_an_array_with_a_prefix_beside_a_net_without_one_is_refused(tmp_path, arrays):
    file = tmp_path / "x.safetensors"
    save_file({**arrays, "model.scale": arrays["fc.bias"]}, file)
    with pytest.raises(XenonError, match=r"model\.scale is unknown to the net"):
        network.build(NET, file)


def module_of(arrays):
    """Build a module of PyTorch whose state dict is the given arrays."""
    import torch

    root = torch.nn.Module()
    for name, array in arrays.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, torch.nn.Module())
            module = module._modules[part]
        module.register_buffer(last, torch.tensor(array))
    return root


def compiled(net):
    import torch

    return torch.compile(net)


def averaged(net):
    from torch.optim.swa_utils import AveragedModel

    return AveragedModel(net, use_buffers=True)


def parallel(net):
    import torch

    return torch.nn.DataParallel(net)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (compiled, "_orig_mod."),
        (averaged, "module."),
        (parallel, "module."),
        (lambda net: compiled(parallel(net)), "_orig_mod.module."),
        (lambda net: parallel(compiled(net)), "module._orig_mod."),
    ],
)
def test_what_pytorchs_wrappers_save_is_understood_in_both_formats(
    tmp_path, arrays, expected, wrap, prefix
):
    import torch

    state = wrap(module_of(arrays)).state_dict()
    assert prefix + "conv1.weight" in state
    torch.save(state, tmp_path / "x.pth")
    same(features(tmp_path / "x.pth"), expected)
    save_file({k: t.numpy() for k, t in state.items()}, tmp_path / "x.safetensors")
    same(features(tmp_path / "x.safetensors"), expected)
