"""What --to torch writes, loaded by torchvision and by timm as their users do."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
import synthetic
from support.untrained import write_run

import xenon_mx as xenon
from xenon_mx.commands import export
from xenon_mx.config import ExportConfig
from xenon_mx.models import network
from xenon_mx.runs.run_folder import Run
from xenon_mx.runtime.mxnet import mx

# Nothing here is skipped without the packages: --torch installs them.
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of these packages
    pytest.mark.filterwarnings("ignore:Data has no positive values"),
]

SIZE = 320
NETS = {"resnet18": "resnet18_v1b", "densenet121": "densenet121"}


@pytest.fixture(scope="module", params=NETS)
def exported(request, tmp_path_factory):
    """The name in torchvision, the run, and the folder."""
    folder = tmp_path_factory.mktemp(request.param)
    run = write_run(folder / "run", NETS[request.param], SIZE, members=2)
    export.export(ExportConfig((run,), folder / "out", to="torch"))
    return request.param, run, folder / "out"


def by_torchvision(name, folder):
    import torchvision
    from safetensors.torch import load_file

    net = torchvision.models.get_model(name, weights=None, num_classes=1)
    arrays = load_file(folder / "model.safetensors")
    assert arrays.keys() == net.state_dict().keys()
    net.load_state_dict(arrays, strict=True)
    return net.eval()


def by_timm(name, folder):
    """Build what config.json says; timm loads a checkpoint strictly."""
    import timm
    from safetensors.torch import load_file

    net = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert net.default_cfg["architecture"] == name
    arrays = load_file(folder / "model.safetensors")
    assert arrays.keys() == net.state_dict().keys()
    for key, array in net.state_dict().items():
        assert array.equal(arrays[key]), key
    return net.eval()


@pytest.mark.parametrize("load", [by_torchvision, by_timm])
@pytest.mark.parametrize(("member", "within"), [(0, ""), (1, "members/2")])
def test_the_logits_are_xenons(exported, load, member, within):
    import torch

    name, run, folder = exported
    pixels = synthetic.blobs(4, SIZE)
    batch = network.normalise(mx.nd.array(pixels, dtype="uint8"))
    params = Run.open(run).members()[member].params
    expected = network.build(NETS[name], params)(batch).asnumpy()
    assert np.ptp(expected) > 0.01
    net = load(name, folder / within)
    with torch.no_grad():
        actual = net(torch.from_numpy(batch.asnumpy())).numpy()
    assert actual.shape == expected.shape == (4, 1)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)


def test_timm_is_told_xenons_normalisation_and_size(exported):
    import timm

    name, _, folder = exported
    net = timm.create_model(f"local-dir:{folder}", pretrained=True)
    config = timm.data.resolve_model_data_config(net)
    assert [*config["input_size"]] == [3, SIZE, SIZE]
    assert [*config["mean"]] == [0.485, 0.456, 0.406]
    assert [*config["std"]] == [0.229, 0.224, 0.225]
    assert (config["crop_pct"], config["crop_mode"]) == (1.0, "squash")
    first, last = net.pretrained_cfg["first_conv"], net.pretrained_cfg["classifier"]
    assert tuple(net.get_submodule(first).weight.shape[1:]) == (3, 7, 7)
    assert net.get_submodule(last).weight.shape[0] == net.num_classes == 1
    net = timm.create_model(f"local-dir:{folder}", pretrained=True, features_only=True)
    assert net.feature_info.channels()[-1] == {"resnet18": 512}.get(name, 1024)


def test_the_lines_of_the_card_give_xenons_probability(exported, monkeypatch):
    """On an image of another size, by the words of the card alone."""
    _, run, folder = exported
    image = np.ascontiguousarray(synthetic.blobs(1, 450)[0][:, :400])
    cv2.imwrite(str(folder / "image1.png"), image)
    monkeypatch.chdir(folder)
    card = (folder / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)
    by_timm_, by_torchvision_, *others = blocks
    (line,) = re.findall(r"`(probability\(net, .*?)`", card)
    expected = xenon.load(run, members=1).predict_images(["image1.png"])
    for load in (by_timm_, by_torchvision_):
        names: dict = {}
        for block in (load, *others):
            exec(block, names)  # noqa: S102 - the card's own words
        (actual,) = eval(line, names).tolist()  # noqa: S307
        assert actual == pytest.approx(expected.probability[0], abs=1e-5)
    of_all = line.replace("probability(net, ", "ensemble_probability(")
    (actual,) = eval(of_all, names).tolist()  # noqa: S307
    expected = xenon.load(run).predict_images(["image1.png"])
    assert actual == pytest.approx(expected.probability[0], abs=1e-5)
