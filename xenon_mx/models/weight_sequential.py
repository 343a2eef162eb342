"""Numbered names of layers: torchvision's net, cut off before its last layer.

Owns the numbers that layers have in `nn.Sequential(*list(net.children())[:-1])`, as in
the files of RadImageNet (`backbone.4.0.conv1.weight`). Must not know arrays or files.
"""

from __future__ import annotations

import re

# The children of torchvision's nets, in their order, up to the last that has weights.
_RESNET = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
_DENSENET = ("features",)
_NUMBERS = {
    child: str(number)
    for children in (_RESNET, _DENSENET)
    for number, child in enumerate(children)
}


def numbered_name(name: str) -> str:
    """Return the numbered name of a weight; that of the last layer stays as it is.

    Args:
        name: torchvision's name, such as `layer1.0.conv1.weight`.
    """
    child, _, rest = name.partition(".")
    return f"{_NUMBERS.get(child, child)}.{rest}"


def is_numbered(name: str) -> bool:
    """Check that a name begins with a number, as those of no other naming do."""
    return re.match(r"\d+\.", name) is not None
