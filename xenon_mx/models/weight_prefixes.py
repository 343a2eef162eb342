"""Splitting off what precedes the name of a weight: `module.`, `arg:densenet0_`.

Owns these prefixes; must not know arrays, files, or the names of a net's layers.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# The attributes in which others hold a net: PyTorch's DataParallel, its distributed
# successor and AveragedModel (module), torch.compile (_orig_mod), and by custom the
# modules of Lightning (model, net, backbone). They can be nested.
_WRAPPER = re.compile(r"(?:(?:module|_orig_mod|model|net|backbone)\.)+")

# What MXNet's export and Module write before the name of a parameter or of a running
# statistic.
_ROLE = re.compile("arg:|aux:")


class Split(NamedTuple):
    """The name of an array in a file, in two parts.

    Attributes:
        prefix: What belongs to a wrapper of the net, or the net's own prefix in Gluon;
            may be empty.
        name: What belongs to a layer.
    """

    prefix: str
    name: str


def split(name: str, block: str) -> Split:
    """Split the name of an array in a file into its prefix and its own name.

    Args:
        name: The name in the file; the `arg:` or `aux:` of MXNet is left out.
        block: The prefix of the net in Gluon, such as `densenet0_`. Its number is that
            of the nets made before in the same process, so any number is recognized.
    """
    role = _ROLE.match(name)
    name = name[role.end() :] if role else name
    own = re.escape(re.sub(r"\d*_$", "", block)) + r"\d*_"
    found = _WRAPPER.match(name) or re.match(own, name)
    end = found.end() if found else 0
    return Split(name[:end], name[end:])


def is_wrapper(prefix: str) -> bool:
    """Check that a prefix is that of a wrapper, beside which other arrays may stand."""
    return prefix.endswith(".")
