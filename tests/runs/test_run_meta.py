"""run.json: read into types and written again with the same bytes."""

from __future__ import annotations

import json

import pytest
from support import paths

from xenon_mx.errors import XenonError
from xenon_mx.runs.run_meta import (
    Preprocessing,
    PretrainedSource,
    RunMeta,
    SplitSize,
)
from xenon_mx.runtime import files

# As xenon-train writes it, in the order of its keys.
CONTENT = {
    "format": 1,
    "id": "0123",
    "config": {"packed": "packed", "model": "net", "seed": 3, "lr": 1e-4},
    "versions": {"xenon": "0.2.0", "numpy": "1.26.4"},
    "data": "abc",
    "trained_on": {"split": "train", "images": 16},
    "validated_on": {"split": "valid", "images": 6},
    "study_types": ["XR_A", "XR_B"],
    "weights": [[0.25, 0.75], [0.5, 0.5]],
    "preprocessing": {
        "size": 32,
        "fit": "pad",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
    "architecture": {"pooling": "global", "logits": 1},
    "pretrained": {"source": "file", "origin": "a", "file": "a", "sha256": "def"},
}


TAKEN = {**CONTENT["pretrained"], "head": "drawn anew", "input": "xrv"}


def test_all_values_are_parsed():
    meta = RunMeta.from_json(CONTENT)
    assert meta == RunMeta(
        data="abc",
        study_types=("XR_A", "XR_B"),
        weights=((0.25, 0.75), (0.5, 0.5)),
        preprocessing=Preprocessing(
            32, "pad", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        ),
        settings={"packed": "packed", "model": "net", "seed": 3, "lr": 1e-4},
        architecture={"pooling": "global", "logits": 1},
        pretrained=PretrainedSource("file", "a", "a", "def"),
        id="0123",
        versions={"xenon": "0.2.0", "numpy": "1.26.4"},
        trained_on=SplitSize("train", 16),
        validated_on=SplitSize("valid", 6),
    )
    assert (meta.model, meta.identity) == ("net", "0123")


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"pretrained": None},
        {"pretrained": TAKEN},
        {"added": {"by": "a later version"}},
        {"preprocessing": {"size": 32, "fit": "pad", "pixels": {"key": ["value"]}}},
    ],
    ids=[
        "all keys",
        "random weights",
        "weights taken",
        "unknown key",
        "the definition of the pixels",
    ],
)
def test_written_again_it_has_the_same_bytes(change):
    content = {**CONTENT, **change}
    again = RunMeta.from_json(content).to_json()
    assert json.dumps(again, indent=2) == json.dumps(content, indent=2)


@pytest.mark.parametrize(
    ("head", "net_input", "words"),
    [
        (None, None, "a.pth"),  # of an older xenon
        ("kept", "imagenet", "a.pth"),
        ("drawn anew", "imagenet", "a.pth (last layer drawn anew)"),
        ("kept", "2,-1", "a.pth (input 2,-1 folded into the first convolution)"),
        (
            "drawn anew",
            "xrv",
            "a.pth (input xrv folded into the first convolution, "
            "last layer drawn anew)",
        ),
    ],
)
def test_what_was_changed_in_first_weights_is_said(head, net_input, words):
    source = PretrainedSource("file", "a.pth", "a.pth", "def", head, net_input)
    assert source.words == words


@pytest.mark.parametrize("run", ["run", "stopped"])
def test_a_run_of_0_1_0_has_the_same_bytes_but_for_the_name_of_threads(run):
    path = paths.FIXTURES / "0.1.0" / run / "run.json"
    content = files.read_json(path)
    meta = RunMeta.from_json(content)
    assert meta.id is None
    threads = content["config"].pop("workers")
    assert meta.settings["threads"] == threads
    content["config"]["threads"] = threads
    assert files.json_bytes(meta.to_json()) == files.json_bytes(content)


def test_the_identity_of_a_run_of_0_1_0_is_the_one_in_its_outputs():
    """Which contain a digest of it."""
    meta = RunMeta.from_json(files.read_json(paths.FIXTURES / "0.1.0/run/run.json"))
    assert (
        meta.identity
        == "8553727c380b7c401c806fb6ba32e338ea4e53524b16852a31e219570573cca9"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("config", {"model": 3}),
        ("id", 3),
        ("versions", []),
        ("trained_on", {"split": "train"}),
        ("validated_on", "valid"),
        ("study_types", [1, 2]),
        ("weights", [[0.5, 0.5]]),
        ("weights", [[0.5], [0.5]]),
        ("architecture", None),
        ("pretrained", {"source": "file"}),
    ],
)
def test_a_value_of_another_type_is_damage(key, value):
    with pytest.raises(XenonError, match=r"^a/run\.json: damaged"):
        RunMeta.from_json({**CONTENT, key: value}, "a/run.json")


def test_a_run_without_the_definition_of_the_pixels_fits_one_with_it():
    """Runs of both kinds may be members of one ensemble."""
    old = Preprocessing(32, "pad")
    new = Preprocessing(32, "pad", pixels={"key": "value"})
    assert old == new
    assert hash(old) == hash(new)
