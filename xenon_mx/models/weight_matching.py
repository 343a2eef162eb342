"""Matching the arrays of a weights file to the parameters of a net, by name and shape.

Owns the namings that a file may use, and the message if it does not fit; must not know
how a file is laid out (`weight_files`) or torchvision's layer names (`weight_names`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.models import weight_files, weight_names
from xenon_mx.runtime.mxnet import gluon

_HEAD = {"output.weight", "output.bias"}
_MAX_DETAILS = 20  # another net's weights differ in hundreds of ways


def load_matching(
    file: Path, name: str, net: gluon.Block, zoo: gluon.Block, sha256: str | None = None
) -> dict[str, np.ndarray]:
    """Load the weights of a net from a file, with every array accounted for.

    Args:
        file: As for `weight_files.read`.
        name: The net's name in `network.NAMES`.
        net: The net.
        zoo: The zoo's net that it was built from.
        sha256: As for `weight_files.read`.

    Returns:
        The net's key to float32 array, without `output` unless the file has one logit.

    Raises:
        XenonError: The file cannot be read, or does not fit the net.
    """
    arrays = weight_files.read(file, sha256)
    current = weight_names.current_names(arrays)
    namings = known_namings(name, net, zoo)
    # The naming that explains most of the file, so that the message names the rest.
    naming = max(namings, key=lambda n: len(current.keys() & set(n.values())))
    matched = {k: arrays[current[f]] for k, f in naming.items() if f in current}
    head = {k: _as_linear(array) for k, array in matched.items() if k in _HEAD}
    matched.update(head)
    classes = max(map(len, head.values()), default=0)
    differences = _name_differences(naming, current)
    differences += [
        f"{current[naming[key]]} is {matched[key].shape}, not {shape}"
        for key, shape in weight_shapes(net, classes).items()
        if key in matched and matched[key].shape != shape
    ]
    if differences:
        raise XenonError(
            _mismatch_message(file, name, differences),
            sorted(differences)[:_MAX_DETAILS],
        )
    dropped = () if classes == 1 else _HEAD
    return {k: a.astype(np.float32) for k, a in matched.items() if k not in dropped}


def _name_differences(naming: dict[str, str], current: dict[str, str]) -> list[str]:
    """List the names that the file lacks, and those that the net does not have."""
    missing = naming.values() - current.keys()
    unknown = current.keys() - set(naming.values())
    return [f"{key} is missing" for key in missing] + [
        f"{current[key]} is unknown to the net" for key in unknown
    ]


def _mismatch_message(file: Path, name: str, differences: list[str]) -> str:
    total = len(differences)
    shown = f", of which {_MAX_DETAILS} are above" if total > _MAX_DETAILS else ""
    return (
        f"{file}: does not fit {name}: {total} differences{shown}, such as: "
        f"{min(differences)}; are these the weights of another --model?"
    )


def known_namings(
    name: str, net: gluon.Block, zoo: gluon.Block
) -> list[dict[str, str]]:
    """Return every way in which a file may name a net's weights.

    Args:
        name: The net's name in `network.NAMES`.
        net: The net.
        zoo: The zoo's net that it was built from.

    Returns:
        The net's key to the name in the file: our own, the zoo's, the zoo's before
        MXNet 1.2 and, if torchvision has the net, torchvision's.
    """
    own = {param: key for key, param in net._collect_params_with_prefix().items()}
    params = zoo._collect_params_with_prefix()
    # A parameter that the net did not take over belongs to the zoo's last layer.
    keys = {k: own.get(p, "output." + k.split(".")[-1]) for k, p in params.items()}
    namings = [
        {key: key for key in own.values()},
        {keys[k]: k for k in params},
        # Before MXNet 1.2: names without dots, after the net's prefix.
        {keys[k]: param.name[len(zoo.prefix) :] for k, param in params.items()},
    ]
    torch_name = weight_names.torchvision_naming(name)
    if torch_name:
        namings.append({keys[k]: torch_name(k) for k in params})
    return namings


def _as_linear(array: np.ndarray) -> np.ndarray:
    """Return a 1x1 convolution's weights as those of the equivalent linear layer."""
    return array[:, :, 0, 0] if array.shape[2:] == (1, 1) else array


def weight_shapes(net: gluon.Block, classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight of a net if it had a number of classes."""
    shapes = {k: p.shape for k, p in net._collect_params_with_prefix().items()}
    return {k: (classes, *s[1:]) if k in _HEAD else s for k, s in shapes.items()}
