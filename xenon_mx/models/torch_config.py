"""config.json: how timm builds a net, and which net a folder of PyTorch's weights has.

Owns the file and the names in the folder; must not know arrays or weights files.

timm reads the file by `timm.create_model("hf-hub:USER/NAME")` and `"local-dir:FOLDER"`;
its keys are those that `timm.models.push_to_hf_hub` writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from xenon_mx.config import MEAN, STD
from xenon_mx.errors import XenonError, os_error
from xenon_mx.models import weight_input, weight_names

CONFIG_JSON, WEIGHTS = "config.json", "model.safetensors"  # as the hub names them

# By the beginning of the architecture's name, of torchvision and timm alike.
_FIRST = {"densenet": "features.conv0", "resnet": "conv1"}
_LAST = {"densenet": "classifier", "resnet": "fc"}
# Every net halves the sides of its input five times.
_STRIDE = 32
# timm's words for the fits. Its border is not black, and its bilinear is Pillow's: the
# pixels are nearly those of `data.images`, but not the same.
_CROP_MODES = {"stretch": "squash", "pad": "border"}


def build(model: str, size: int, fit: str, features: int) -> dict[str, Any]:
    """Build the content of the file for a net with one logit.

    Args:
        model: The net's name in Gluon's zoo; torchvision must have it.
        size: Side of the square input, px.
        fit: How a radiograph is fitted into it, one of `config.FITS`.
        features: The number of channels that are pooled.
    """
    name = architecture(model)
    family = name.rstrip("0123456789")
    return {
        "architecture": name,
        "num_classes": 1,
        "num_features": features,
        "global_pool": "avg",
        "label_names": ["abnormal"],
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [3, size, size],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": _CROP_MODES[fit],
            "mean": list(MEAN),
            "std": list(STD),
            "num_classes": 1,
            "pool_size": [-(-size // _STRIDE)] * 2,
            "first_conv": _FIRST[family],
            "classifier": _LAST[family],
        },
    }


def architecture(model: str) -> str:
    """Return what torchvision and timm call a net that torchvision has."""
    name = weight_names.torchvision_name(model)
    assert name is not None, f"torchvision does not have {model}"
    return name


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder of weights and their config.json."""
    return all((path / name).is_file() for name in (CONFIG_JSON, WEIGHTS))


def check_architecture(folder: Path, model: str) -> None:
    """Check that the weights in a folder are those of a net.

    Args:
        folder: The folder.
        model: The net's name in Gluon's zoo.

    Raises:
        XenonError: config.json cannot be read, or names another net.
    """
    file = folder / CONFIG_JSON
    given = _read(file).get("architecture")
    if not isinstance(given, str):
        raise XenonError(
            f"{file}: has no architecture, so that it is not one of timm: name the "
            f"weights file alone, {folder / WEIGHTS}"
        )
    if given == weight_names.torchvision_name(model):
        return
    own = (given, f"{given}_v1b")
    fits = [name for name in own if weight_names.torchvision_name(name) == given]
    advice = "xenon takes torchvision's DenseNets and ResNets from such a folder"
    if fits:
        advice = f"use --model {fits[0]}, or name other weights"
    raise XenonError(f"{file}: is of {given}, not of {model}: {advice}")


def pretrained_input(folder: Path) -> str | None:
    """Return the input that a folder's net was trained on, by its config.json.

    Returns:
        A value of --pretrained-input; None if the file does not tell.

    Raises:
        XenonError: The channels of its input were normalised differently, and not by
            ImageNet's mean and standard deviation.
    """
    file = folder / CONFIG_JSON
    pretrained = _read(file).get("pretrained_cfg")
    given = pretrained if isinstance(pretrained, dict) else {}
    if given.get("mean") is None or given.get("std") is None:
        return None
    try:
        mean, std = (np.array(given[key], np.float64) for key in ("mean", "std"))
        return weight_input.of_normalisation(mean, std)
    except (TypeError, ValueError) as error:
        raise XenonError(
            f"{file}: mean {given['mean']} and std {given['std']} are not an input "
            f"that can be made of gray values: name the weights file alone, "
            f"{folder / WEIGHTS}, with --pretrained-input"
        ) from error


def _read(file: Path) -> dict[str, Any]:
    """Read a JSON object of any program."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise os_error(file, error) from error
    except (ValueError, RecursionError) as error:
        raise XenonError(f"{file}: damaged: {error}") from error
    if not isinstance(content, dict):
        raise XenonError(f"{file}: damaged: not a JSON object")
    return content
