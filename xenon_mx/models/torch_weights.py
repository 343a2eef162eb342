"""A net's weights as PyTorch loads them: torchvision's names in a .safetensors file.

Owns which nets can leave that way, and the bytes of the file; must not know folders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.models import net_names, network, weight_names, weight_namings

# PyTorch and the hub's libraries ask which of them wrote a file.
_METADATA = {"format": "pt"}
_RUNNING_MEAN = ".running_mean"

NAMES = tuple(name for name in net_names.NAMES if weight_names.torchvision_name(name))


def check_model(model: str) -> None:
    """Check that torchvision has a net.

    Raises:
        XenonError: It does not; the message lists the nets that it has.
    """
    if model not in NAMES:
        raise XenonError(
            f"--to torch: torchvision has no {model}: export it with --to onnx; the "
            f"nets that it has are {', '.join(NAMES)}"
        )


def encode(model: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the bytes of a .safetensors file with torchvision's names.

    Args:
        model: One of `NAMES`.
        arrays: The net's key to float32 array, of all its weights.
    """
    from safetensors.numpy import save

    net, zoo = network.build_uninitialized(model)
    names = weight_namings.torchvision_names(model, net, zoo)
    assert names is not None, model
    return save({**_renamed(names, arrays), **_counters(names)}, _METADATA)


def _renamed(
    names: Mapping[str, str], arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    return {
        name: np.ascontiguousarray(arrays[key], np.float32)
        for key, name in names.items()
    }


def _counters(names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return BatchNorm's counters, so that the file has every name of a state dict.

    PyTorch reads them only where BatchNorm has no momentum, as no net here.
    """
    layers = [
        name[: -len(_RUNNING_MEAN)]
        for name in names.values()
        if name.endswith(_RUNNING_MEAN)
    ]
    return {weight_names.counter(layer): np.zeros((), np.int64) for layer in layers}


def read_back(model: str, file: Path) -> dict[str, np.ndarray]:
    """Return what --pretrained takes from a file: the net's key to array."""
    return network.state_dict(network.build(model, file, reference=True))


def is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two nets' arrays are the same, bit for bit."""
    return one.keys() == other.keys() and all(
        one[key].shape == other[key].shape
        and one[key].dtype == other[key].dtype
        and one[key].tobytes() == other[key].tobytes()
        for key in one
    )
