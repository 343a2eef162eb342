"""Golden values: known weights, and the logits that torchvision computed with them."""

from __future__ import annotations

import importlib.util

import numpy as np

from support import paths


def _maker():
    spec = importlib.util.spec_from_file_location("make", paths.GOLDENS / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = _maker()


def golden(name):
    return np.load(paths.GOLDENS / f"{name}.npz")


def state_dict(name):
    """Return the weights of torchvision's net: key to array."""
    lines = golden(name)["state"].tobytes().decode().splitlines()
    keys = [line.split() for line in lines]
    return {key: make.draw(key, tuple(map(int, shape))) for key, *shape in keys}
