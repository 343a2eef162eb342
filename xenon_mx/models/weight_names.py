"""Translating Gluon's names of a net's arrays to those of torchvision and timm.

Owns both naming schemes; must not know arrays or files. Gluon's DenseNets and its
ResNets of the v1b family have torchvision's layers, in torchvision's order and with its
strides; only the names differ. timm uses torchvision's names.
"""

from __future__ import annotations

import re
from typing import Callable

# Not a weight: the number of batches that BatchNorm has seen, which Gluon lacks.
_COUNTER = "num_batches_tracked"
# Nor are these: torchxrayvision's operating points of the classes (its models.py), NaN
# for a class that a net was not trained on.
THRESHOLDS = "op_threshs"

# In torchvision's published DenseNets, from when layer names could contain a dot.
_OLD_DENSELAYER = re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.")

_BATCHNORM = {"gamma": "weight", "beta": "bias"}

# Gluon numbers the layers of a DenseNet in one list: the stem's, then each block,
# followed by a transition except for the last.
_STEM = {"0": "conv0", "1": "norm0", "11": "norm5"}
_DENSELAYER = {"0": "norm1", "2": "conv1", "3": "norm2", "5": "conv2"}
_TRANSITION = {"0": "norm", "2": "conv"}


def torchvision_naming(net: str) -> Callable[[str], str] | None:
    """Return the function that translates Gluon's name of an array to torchvision's.

    Args:
        net: The net's name in Gluon's zoo, such as `densenet169` or `resnet50_v1b`.

    Returns:
        The function; None for a net that torchvision does not have.
    """
    if torchvision_name(net) is None:
        return None
    return _rename_densenet if net.startswith("densenet") else _rename_array


def torchvision_name(net: str) -> str | None:
    """Return what torchvision and timm call a net of Gluon's zoo; None if they lack it.

    `densenet169` is `densenet169`, and `resnet50_v1b` is `resnet50`.
    """
    found = re.fullmatch(r"(densenet\d+)|(resnet\d+)_v1b", net)
    return found and (found.group(1) or found.group(2))


def is_weight(name: str) -> bool:
    """Check that a name is not that of an array beside the weights."""
    return not (name.endswith(_COUNTER) or is_thresholds(name))


def is_thresholds(name: str) -> bool:
    """Check that a name is that of torchxrayvision's operating points."""
    return name.split(".")[-1] == THRESHOLDS


def counter(layer: str) -> str:
    """Return the name of the counter of a BatchNorm layer."""
    return f"{layer}.{_COUNTER}"


def current_name(name: str) -> str:
    """Return torchvision's current name of a weight that may have an old one."""
    return _OLD_DENSELAYER.sub(r"\1\2.", name)


def _rename_array(name: str) -> str:
    """Translate the last part of a name; in a ResNet, nothing else differs."""
    layer, _, array = name.rpartition(".")
    return f"{layer}.{_BATCHNORM.get(array, array)}"


def _rename_densenet(name: str) -> str:
    """Translate the whole name of a DenseNet's array."""
    first, *parts = _rename_array(name).split(".")
    if first == "output":
        return ".".join(["classifier", *parts])
    position, array = parts[0], parts[-1]
    if position in _STEM:
        return f"features.{_STEM[position]}.{array}"
    number = int(position)
    if number % 2:  # 5, 7, 9
        layer = _TRANSITION[parts[1]]
        return f"features.transition{(number - 3) // 2}.{layer}.{array}"
    layer = f"denselayer{int(parts[1]) + 1}.{_DENSELAYER[parts[3]]}"  # parts[2] is 1
    return f"features.denseblock{(number - 2) // 2}.{layer}.{array}"
