"""Weights that do not fit a net: the error shows the file's own names."""

from __future__ import annotations

import numpy as np
import pytest
from goldens import state_dict
from safetensors.numpy import save_file

from xenon_mx.errors import XenonError
from xenon_mx.models import network


def refusal(name, file, arrays):
    save_file({k: np.ascontiguousarray(a) for k, a in arrays.items()}, file)
    with pytest.raises(XenonError) as caught:
        network.build(name, file)
    return caught.value


def test_when_nothing_fits_the_files_first_names_are_shown(tmp_path):
    arrays = {f"encoder.{name}": a for name, a in state_dict("resnet18").items()}
    error = refusal("resnet50_v1b", tmp_path / "x", arrays)
    message = str(error)
    assert "x: has no weight of resnet50_v1b: the first names in it are " in message
    shown = message.split("names in it are ")[1].split(";")[0]
    names = shown.split(", ")
    assert names == sorted(arrays)[:3]  # the order of a .safetensors is by chance
    assert "--model" in message
    assert not error.details


def test_a_file_of_counters_alone_has_no_weight(tmp_path):
    counter = {"bn1.num_batches_tracked": np.array([1])}
    error = refusal("resnet18_v1b", tmp_path / "x", counter)
    assert "has no weight of resnet18_v1b" in str(error)
    assert "bn1.num_batches_tracked" in str(error)


def test_names_of_the_file_come_before_those_that_it_lacks(tmp_path):
    arrays = state_dict("resnet18")
    arrays["zoom.weight"] = arrays.pop("fc.weight")
    arrays["conv1.weight"] = arrays["conv1.weight"][:, :2]
    error = refusal("resnet18_v1b", tmp_path / "x", arrays)
    assert error.details == (
        "conv1.weight is (64, 2, 7, 7), not (64, 3, 7, 7)",
        "zoom.weight is unknown to the net",
        "fc.weight is missing",
    )
    assert "such as: conv1.weight is (64, 2, 7, 7)" in str(error)


def test_names_with_line_breaks_stay_on_one_line(tmp_path):
    arrays = {"a\nb": np.ones((1,), np.float32)}
    assert r"a\nb" in str(refusal("resnet18_v1b", tmp_path / "x", arrays))
    error = refusal(
        "resnet18_v1b", tmp_path / "x", {**state_dict("resnet18"), **arrays}
    )
    assert error.details == (r"a\nb is unknown to the net",)
    assert r"a\nb is unknown" in str(error)


def test_whole_numbers_are_no_weights(tmp_path):
    arrays = state_dict("resnet18")
    arrays["conv1.weight"] = arrays["conv1.weight"].astype(np.int8)
    error = refusal("resnet18_v1b", tmp_path / "x", arrays)
    assert "conv1.weight is of int8, not of floating point" in str(error)


def test_a_negative_variance_is_refused(tmp_path):
    """PyTorch would compute NaN, and MXNet the same logit for every image."""
    arrays = dict(state_dict("resnet18"))
    arrays["bn1.running_var"] = arrays["bn1.running_var"] - 100
    message = str(refusal("resnet18_v1b", tmp_path / "x", arrays))
    assert "bn1.running_var holds a negative variance, -" in message
