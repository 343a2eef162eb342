"""The Python that a page of the docs shows."""

from __future__ import annotations

import re

_PYTORCH = re.compile("^import (timm|torch)", re.MULTILINE)


def examples(text, with_torch=False):
    """The Python blocks of a page, without those that need PyTorch unless asked for."""
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for block in blocks if with_torch or not needs_torch(block)]


def needs_torch(block):
    """Whether a block imports PyTorch, or what is made for it."""
    return _PYTORCH.search(block) is not None
