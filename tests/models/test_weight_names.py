"""torchvision's weights in Gluon's nets: the same input yields the same logits.

The expected logits are torchvision's own, see tools/goldens.py.
"""

from __future__ import annotations

import goldens
import numpy as np
import pytest
from goldens import golden, state_dict
from safetensors.numpy import save_file

from xenon_mx.errors import XenonError
from xenon_mx.models import network, weight_files, weight_names
from xenon_mx.runtime.mxnet import mx

NETS = {
    **{name: name for name in ("densenet121", "densenet161", "densenet169")},
    "densenet201": "densenet201",
    **{f"resnet{depth}": f"resnet{depth}_v1b" for depth in (18, 34, 50, 101, 152)},
}
ORDINARY = ["densenet121", "resnet18"]


def legacy(name):
    """Return the key as in torchvision's published DenseNets."""
    if ".denselayer" not in name:
        return name
    for layer in ("norm1", "norm2", "conv1", "conv2"):
        name = name.replace(f".{layer}.", f".{layer[:4]}.{layer[4]}.")
    return name


def weights(name, folder, rename=str):
    file = folder / f"{name}.tv_in1k.safetensors"
    save_file({rename(k): a for k, a in state_dict(name).items()}, file)
    return file


def logits(name, file, size):
    """Compute logits from the net's pooled features and the file's last layer."""
    net = network.build(NETS[name], file)
    pooled = net.features(mx.nd.array(goldens.image(size))).asnumpy()
    arrays = weight_files.read(file)
    head = "classifier" if "classifier.bias" in arrays else "fc"
    return (pooled @ arrays[f"{head}.weight"].T + arrays[f"{head}.bias"])[0]


@pytest.mark.parametrize(
    "name",
    [
        name if name in ORDINARY else pytest.param(name, marks=pytest.mark.slow)
        for name in NETS
    ],
)
def test_the_logits_are_torchvisions_at_224_and_320(name, tmp_path):
    file = weights(name, tmp_path)
    for size in goldens.SIZES:
        expected = golden(name)[f"logits_{size}"]
        difference = np.abs(logits(name, file, size) - expected).max()
        assert difference < 1e-5 * np.abs(expected).max()


def test_the_old_names_of_the_published_densenets_are_supported(tmp_path):
    file = weights("densenet121", tmp_path, legacy)
    assert "features.denseblock1.denselayer1.norm.1.weight" in weight_files.read(file)
    expected = golden("densenet121")["logits_224"]
    assert np.abs(logits("densenet121", file, 224) - expected).max() < 1e-3


def test_batch_norm_statistics_are_loaded(tmp_path):
    net = network.build("resnet18_v1b", weights("resnet18", tmp_path))
    arrays = state_dict("resnet18")
    norm = net.features[1]
    for array, key in [
        (norm.gamma, "bn1.weight"),
        (norm.beta, "bn1.bias"),
        (norm.running_mean, "bn1.running_mean"),
        (norm.running_var, "bn1.running_var"),
    ]:
        assert (array.data().asnumpy() == arrays[key]).all(), key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("layer1.0.bn1.running_var"), "running_var is missing"),
        (lambda a: a.pop("fc.weight"), r"fc\.weight is missing"),
        (lambda a: a.update(extra=a["fc.bias"]), "extra is unknown"),
        (
            lambda a: a.update({"conv1.weight": a["conv1.weight"][:, :2]}),
            r"conv1\.weight is \(64, 2, 7, 7\), not \(64, 3, 7, 7\)",
        ),
        (
            lambda a: a.update({"fc.weight": a["fc.weight"][:, :9]}),
            r"fc\.weight is \(1000, 9\)",
        ),
        (
            lambda a: a.update({"fc.bias": a["fc.bias"][:9]}),
            r"fc\.bias is \(9,\), not \(1000,\)",
        ),
    ],
)
def test_an_array_that_does_not_fit_is_named_as_in_the_file(tmp_path, change, message):
    arrays = state_dict("resnet18")
    change(arrays)
    file = tmp_path / "x.safetensors"
    save_file({k: np.ascontiguousarray(a) for k, a in arrays.items()}, file)
    with pytest.raises(XenonError, match=message):
        network.build("resnet18_v1b", file)


def test_another_net_of_torchvision_is_refused_with_its_name(tmp_path):
    with pytest.raises(XenonError, match="use --model resnet18_v1b, or"):
        network.build("resnet34_v1b", weights("resnet18", tmp_path))


def test_a_net_that_is_none_is_refused_with_a_count(tmp_path):
    arrays = state_dict("resnet34")
    missing = [name for name in arrays if name.startswith("layer4.0.")]
    count = sum(map(weight_names.is_weight, missing))
    kept = {k: np.ascontiguousarray(arrays[k]) for k in arrays.keys() - missing}
    save_file(kept, tmp_path / "x")
    with pytest.raises(XenonError, match=f"fit resnet34_v1b: {count} diff.*--model"):
        network.build("resnet34_v1b", tmp_path / "x")


def test_a_net_of_pytorch_with_one_logit_is_taken_whole(tmp_path):
    arrays = state_dict("resnet18")
    arrays["fc.weight"], arrays["fc.bias"] = (
        arrays["fc.weight"][:1],
        arrays["fc.bias"][:1],
    )
    save_file({k: np.ascontiguousarray(a) for k, a in arrays.items()}, tmp_path / "x")
    net = network.build("resnet18_v1b", tmp_path / "x")
    logit = net(mx.nd.array(goldens.image(224))).asnumpy()[0, 0]
    expected = golden("resnet18")["logits_224"]
    assert abs(logit - expected[0]) < 1e-4 * np.abs(expected).max()


def test_nets_that_torchvision_lacks_have_no_naming():
    assert weight_names.torchvision_naming("resnet50_v1") is None
    assert weight_names.torchvision_naming("squeezenet1.0") is None
