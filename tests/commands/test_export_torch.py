"""xenon-export --to torch: a folder that torchvision, timm and the hub take."""

from __future__ import annotations

import json
import re
import shutil

import cv2
import numpy as np
import pytest
import synthetic
from huggingface_hub import ModelCard
from support import drawn_once, mura_tree, paths
from support.untrained import write_run

from xenon_mx.commands import export, predict
from xenon_mx.config import ExportConfig, PredictConfig
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.models import network, torch_weights
from xenon_mx.runs.run_folder import Run
from xenon_mx.runtime import files
from xenon_mx.runtime.mxnet import mx
from xenon_mx.training import pretrained

SIZE = 64
NETS = {"resnet": "resnet18_v1b", "densenet": "densenet121"}
# The learning rate of a run that no test trained is 0, which has no logarithm.
pytestmark = pytest.mark.filterwarnings("ignore:Data has no positive values")


@pytest.fixture(autouse=True)
def _drawn_once(monkeypatch):
    drawn_once.patch(monkeypatch)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run of each net, images with labels, and the export of the ResNet's run."""
    folder = tmp_path_factory.mktemp("world")
    for name, model in NETS.items():
        write_run(folder / name, model, SIZE, members=2)
    root = folder / mura_tree.NAME
    pixels = synthetic.blobs(8, 96)
    studies = [mura_tree.Study("valid", "XR_HAND", 11185 + n, n % 2) for n in range(8)]
    mura_tree.write_images(
        root, studies, lambda file, n: cv2.imwrite(str(file), pixels[n])
    )
    run = folder / "resnet"
    given = (root / "valid",)
    predict.predict(PredictConfig(given, run / "validation.csv", (run,), ctx="cpu()"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        drawn_once.patch(patch)
        export.export(to_torch("resnet", "out"))
    return folder


@pytest.fixture
def here(world, tmp_path, monkeypatch):
    """A working directory with the world's runs and the export, to be changed."""
    for name in (*NETS, "out"):
        shutil.copytree(world / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def to_torch(*words, **options):
    *runs, out = words
    return ExportConfig(tuple(runs), out, to="torch", **options)


def names(folder):
    found = folder.rglob("*")
    return sorted(str(f.relative_to(folder)) for f in found if f.is_file())


def contents(folder):
    return {name: (folder / name).read_bytes() for name in names(folder)}


def test_the_folder_holds_every_member_and_nothing_else(world):
    assert names(world / "out") == [
        "README.md",
        "config.json",
        "members/2/config.json",
        "members/2/model.safetensors",
        "model.safetensors",
        "xenon.json",
    ]


def test_a_member_is_taken_back_bit_for_bit(world):
    """The first as the folder itself, compared with what MXNet reads of the run."""
    members = Run.open(world / "resnet").members()
    for folder, member in zip((world / "out", world / "out/members/2"), members):
        found = pretrained.find("resnet18_v1b", str(folder))
        assert (found.source, found.origin) == ("file", str(folder))
        arrays = network.state_dict(network.build("resnet18_v1b", found.file))
        expected = mx.nd.load(str(member.params))
        assert arrays.keys() == expected.keys()
        for key, array in arrays.items():
            assert array.tobytes() == expected[key].asnumpy().tobytes(), key


@pytest.mark.parametrize(
    ("mean", "std", "given", "expected"),
    [
        ([0.5] * 3, [0.5] * 3, None, "half"),
        ([0.5] * 3, [0.5] * 3, "2,-1", "half"),
        (None, None, None, None),
    ],
)
def test_the_input_is_that_of_config_json(world, tmp_path, mean, std, given, expected):
    folder = changed_config(world, tmp_path, mean=mean, std=std)
    found = pretrained.find("resnet18_v1b", str(folder), pretrained_input=given)
    assert found.pretrained_input == expected


def test_another_input_than_that_of_config_json_is_refused(world):
    with pytest.raises(ConfigError, match="xrv contradicts .*config.json.* imagenet"):
        pretrained.find("resnet18_v1b", str(world / "out"), pretrained_input="xrv")


def test_an_input_that_gray_values_cannot_have_is_an_error(world, tmp_path):
    folder = changed_config(world, tmp_path, mean=[0.1, 0.2, 0.3], std=[1, 1, 1])
    with pytest.raises(XenonError, match=r"config.json: mean \[0.1, .*-input"):
        pretrained.find("resnet18_v1b", str(folder))


def test_a_link_to_nothing_is_no_folder(world, tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "nothing")
    config = ExportConfig((world / "resnet",), tmp_path / "out", to="torch")
    with pytest.raises(
        XenonError, match="out: No such file or directory; --to torch writes"
    ):
        export.export(config)


def changed_config(world, tmp_path, **changes):
    """Copy an exported folder, with other values of timm's `pretrained_cfg`."""
    folder = shutil.copytree(world / "out", tmp_path / "changed")
    file = folder / "config.json"
    content = json.loads(file.read_text())
    content["pretrained_cfg"].update(changes)
    file.write_text(json.dumps(content))
    return folder


def test_another_net_is_not_taken_back(world):
    with pytest.raises(XenonError, match="use --model resnet18_v1b"):
        pretrained.find("densenet121", str(world / "out"))


def test_timm_is_told_the_net_and_its_pixels(world):
    config = json.loads((world / "out/config.json").read_text())
    assert config["architecture"] == "resnet18"
    assert (config["num_classes"], config["num_features"]) == (1, 512)
    cfg = config["pretrained_cfg"]
    assert cfg["input_size"] == [3, SIZE, SIZE]
    assert (cfg["crop_pct"], cfg["crop_mode"]) == (1.0, "squash")


def test_the_folder_records_what_it_was_made_from(world):
    record = files.read_json(world / "out/xenon.json")
    run = Run.open(world / "resnet")
    assert record["written_by"] == "xenon-export"
    assert [member["sha256"] for member in record["members"]] == [
        member.sha256 for member in run.members()
    ]
    assert record["preprocessing"]["size"] == SIZE
    assert record["sha256"] == {
        name: files.sha256(world / "out" / name)
        for name in names(world / "out")
        if name != "xenon.json"
    }


def test_the_hub_reads_the_card(world):
    """As huggingface_hub does; its validate() asks a server, which tests must not.

    What that server refuses is YAML that cannot be parsed and values that the library
    refuses, too; it only warns of a missing licence, which is the user's to choose.
    """
    card = ModelCard.load(world / "out/README.md")
    assert card.data.library_name == "timm"
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.license is None
    assert "timm" in card.data.tags
    assert card.data.eval_results is None  # results are the ensemble's, in the text
    assert "AUROC" in card.text
    again = ModelCard(str(card))  # what push_to_hub would send
    assert again.data.to_dict() == card.data.to_dict()


def test_the_card_says_what_the_nets_need(world):
    card = (world / "out/README.md").read_text()
    for words in (
        "**Not for medical use.**",
        "repeated as red, green and blue",
        "by the sigmoid",
        "Stanford's own agreement",
        "torchvision.models.resnet18(num_classes=1)",
        "`members/2/model.safetensors`",
        "of 8 patients",
    ):
        assert words in card
    recipe = re.search(r"^```python\nimport cv2\n.*?^```$", card, re.DOTALL | re.M)
    page = (paths.ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    assert recipe is not None
    assert recipe.group() in page  # where tests compare its pixels with xenon's


@pytest.mark.parametrize("members", [1, 2])
def test_a_card_has_no_results_of_other_members(here, caplog, members):
    export.export(to_torch("resnet", "new", members=members))
    card = (here / "new/README.md").read_text()
    assert ("Not evaluated" in card) == (members == 1)
    assert ("has no results" in caplog.text) == (members == 1)


def test_members_of_several_runs_have_each_its_own_net(here, caplog):
    export.export(to_torch("resnet", "densenet", "new", members=4))
    found = [
        json.loads((here / "new" / folder / "config.json").read_text())["architecture"]
        for folder in ("", "members/2", "members/3", "members/4")
    ]
    assert sorted(found) == ["densenet121"] * 2 + ["resnet18"] * 2
    assert "Not evaluated" in (here / "new/README.md").read_text()
    assert "several runs" in caplog.text


def test_a_net_that_torchvision_lacks_is_refused_before_anything_is_written(here):
    write_run(here / "small", "mobilenet0.25", 32, members=1)
    with pytest.raises(XenonError, match=r"no mobilenet0\.25: export it with"):
        export.export(to_torch("small", "new"))
    assert not (here / "new").exists()


def test_the_same_run_gives_the_same_bytes_and_may_be_written_again(here, world):
    export.export(to_torch("resnet", "out"))
    assert contents(here / "out") == contents(world / "out")


@pytest.mark.parametrize("name", ["README.md", "members/2/model.safetensors"])
def test_what_was_changed_is_replaced_only_with_overwrite(here, world, name):
    (here / "out" / name).write_bytes(b"license: mit")
    with pytest.raises(XenonError, match=f"{name}: was changed since xenon-export"):
        export.export(to_torch("resnet", "out"))
    assert (here / "out" / name).read_bytes() == b"license: mit"
    export.export(to_torch("resnet", "out", overwrite=True))
    assert contents(here / "out") == contents(world / "out")


def test_members_of_an_earlier_export_do_not_stay(here):
    export.export(to_torch("densenet", "out", members=1, overwrite=True))
    assert names(here / "out") == [
        *("README.md", "config.json", "model.safetensors", "xenon.json")
    ]
    assert not (here / "out/members").exists()


def test_another_run_is_not_written_over(here, world):
    with pytest.raises(XenonError, match=r"already holds README\.md"):
        export.export(to_torch("densenet", "out"))
    assert contents(here / "out") == contents(world / "out")


def test_a_folder_of_something_else_is_left_alone(here):
    (here / "mine").mkdir()
    (here / "mine/notes.txt").write_text("mine")
    with pytest.raises(XenonError, match=r"already holds notes\.txt"):
        export.export(to_torch("resnet", "mine"))
    export.export(to_torch("resnet", "mine", overwrite=True))
    assert (here / "mine/notes.txt").read_text() == "mine"


@pytest.mark.parametrize("out", ["densenet", "resnet"])
def test_a_run_is_never_written_over(here, out):
    before = contents(here / out)
    with pytest.raises(XenonError, match=r"is a run of xenon-train: name another"):
        export.export(to_torch("resnet", out, overwrite=True))
    assert contents(here / out) == before


@pytest.mark.parametrize("out", ["net.onnx", "file"])
def test_out_is_a_folder(here, out):
    (here / "file").write_text("mine")
    with pytest.raises((ConfigError, XenonError), match="folder"):
        export.export(to_torch("resnet", out, overwrite=True))
    assert (here / "file").read_text() == "mine"


@pytest.mark.parametrize("out", ["new", "out"])
def test_a_full_disk_leaves_what_was_there(here, world, monkeypatch, out):
    encode, calls = torch_weights.encode, []

    def fail(*args):
        calls.append(args)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return encode(*args)

    monkeypatch.setattr(torch_weights, "encode", fail)
    with pytest.raises(XenonError, match="No space left"):
        export.export(to_torch("resnet", out))
    assert (here / "new").exists() is False
    assert contents(here / "out") == contents(world / "out")


def test_weights_that_the_export_would_change_are_not_written(here, monkeypatch):
    encode = torch_weights.encode

    def wrong(model, arrays):
        key = "features.0.weight"
        return encode(model, {**arrays, key: np.nextafter(arrays[key], np.float32(9))})

    monkeypatch.setattr(torch_weights, "encode", wrong)
    with pytest.raises(XenonError, match="were changed by the export"):
        export.export(to_torch("resnet", "new"))
    assert not (here / "new").exists()


def test_a_folder_for_pytorch_is_no_run(here):
    given = PredictConfig(("x.png",), "o.csv", ("out",))
    with pytest.raises(XenonError, match="is a folder of weights for PyTorch, not a"):
        predict.predict(given)
