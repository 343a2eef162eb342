"""Splitting off what frameworks put before the name of a weight, such as `module.`.

Owns these prefixes; must not know arrays, files, or the names of a net's layers.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# The attributes in which others hold a net: PyTorch's DataParallel, its distributed
# successor and AveragedModel (module), torch.compile (_orig_mod), and by custom the
# modules of Lightning (model, net, backbone). They can be nested.
_WRAPPER = re.compile(r"(?:(?:module|_orig_mod|model|net|backbone)\.)+")


class Split(NamedTuple):
    """The name of an array in a file, in two parts.

    Attributes:
        prefix: What belongs to a wrapper of the net; may be empty.
        name: What belongs to the net.
    """

    prefix: str
    name: str


def split(name: str) -> Split:
    """Split the name of an array in a file into its prefix and its own name."""
    found = _WRAPPER.match(name)
    end = found.end() if found else 0
    return Split(name[:end], name[end:])


def is_wrapper(prefix: str) -> bool:
    """Check that a prefix is that of a wrapper, beside which other arrays may stand."""
    return bool(prefix)
