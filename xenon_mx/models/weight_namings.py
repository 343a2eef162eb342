"""The ways in which a weights file may name the parameters of a net.

Owns Gluon's namings, and which others a net has; must not know files, torchvision's
layer names (`weight_names`) or the numbers of layers (`weight_sequential`).
"""

from __future__ import annotations

from xenon_mx.models import weight_names, weight_sequential
from xenon_mx.runtime.mxnet import gluon

HEAD = {"output.weight", "output.bias"}  # the keys of the last layer


def known_namings(
    name: str, net: gluon.Block, zoo: gluon.Block
) -> list[dict[str, str]]:
    """Return every way in which a file may name a net's weights.

    Args:
        name: The net's name in `net_names.NAMES`.
        net: The net.
        zoo: The zoo's net that it was built from.

    Returns:
        The net's key to the name in the file: our own, the zoo's, the zoo's before
        MXNet 1.2 and, if torchvision has the net, numbered ones and torchvision's.
    """
    params = zoo._collect_params_with_prefix()
    keys = _zoo_keys(net, zoo)
    namings = [
        {key: key for key in net._collect_params_with_prefix()},
        {keys[k]: k for k in params},
        # Before MXNet 1.2: names without dots, after the net's prefix.
        {keys[k]: param.name[len(zoo.prefix) :] for k, param in params.items()},
    ]
    named = torchvision_names(name, net, zoo)
    if named:
        numbered = {k: weight_sequential.numbered_name(n) for k, n in named.items()}
        namings += [numbered, named]
    return namings


def torchvision_names(
    name: str, net: gluon.Block, zoo: gluon.Block
) -> dict[str, str] | None:
    """Return the net's key to torchvision's name, or None, as `known_namings` does."""
    rename = weight_names.torchvision_naming(name)
    return rename and {own: rename(key) for key, own in _zoo_keys(net, zoo).items()}


def _zoo_keys(net: gluon.Block, zoo: gluon.Block) -> dict[str, str]:
    """Return the zoo's key of each weight to the net's key."""
    own = {param: key for key, param in net._collect_params_with_prefix().items()}
    # A parameter that the net did not take over belongs to the zoo's last layer.
    return {
        key: own.get(param, "output." + key.split(".")[-1])
        for key, param in zoo._collect_params_with_prefix().items()
    }


def weight_shapes(net: gluon.Block, classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight of a net if it had a number of classes."""
    shapes = {k: p.shape for k, p in net._collect_params_with_prefix().items()}
    return {k: (classes, *s[1:]) if k in HEAD else s for k, s in shapes.items()}
