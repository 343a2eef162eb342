"""The benchmarks of tools/bench: the same work by xenon and by its peers.

One module per work, one function per contender. Each contender runs in a process of its
own (see __main__.py) and measures itself after imports and loading of weights.
"""

from __future__ import annotations

import importlib
from typing import Any, Callable


def find(contender: str) -> Callable[..., Any]:
    """Return the function of a contender: `train-torch-bf16` is `train.torch_bf16`."""
    work, _, name = contender.partition("-")
    module = importlib.import_module(f"benchmarks.{work}")
    function: Callable[..., Any] = getattr(module, name.replace("-", "_"))
    return function
