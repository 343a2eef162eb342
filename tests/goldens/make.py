"""Make the goldens of test_weight_names.py: torchvision's logits for known weights.

    pip install torch==2.13.0 && pip install --no-deps torchvision pillow
    python tests/goldens/make.py

The weights are drawn by NumPy, key by key, so that a test can draw them again without
PyTorch; a golden holds the keys and shapes of torchvision's net, and its logits.
Made with torch 2.13.0 (CPU) and torchvision 0.29.2.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
NETS = [
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
]
SIZES = (224, 320)


def draw(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Draw the array of a key: float32, and of a scale that keeps the logits small."""
    rng = np.random.RandomState(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        return np.array(rng.randint(1000), np.int64)
    if len(shape) > 1:
        # A residual net adds up what its blocks give.
        gain = 2 if key.startswith("features") else 1
        values = rng.normal(0, np.sqrt(gain / np.prod(shape[1:])), shape)
    elif key.endswith(("running_var", "weight")):
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = rng.normal(0, 0.1, shape)
    return values.astype(np.float32)


def image(size: int) -> np.ndarray:
    """Draw the (1, 3, size, size) float32 input."""
    rng = np.random.RandomState(size)
    return rng.uniform(-2, 2, (1, 3, size, size)).astype(np.float32)


def stub_operators() -> None:
    """Define the C++ operators that torchvision misses beside the CPU build of torch.

    None of them is called by a classifier.
    """
    import torch

    root = Path(importlib.util.find_spec("torchvision").origin).parent
    text = "".join(file.read_text() for file in root.rglob("*.py"))
    stub_operators.library = torch.library.Library("torchvision", "DEF")
    for name in sorted(set(re.findall(r"torchvision::(\w+)", text))):
        stub_operators.library.define(f"{name}() -> ()")


def main() -> None:
    """Write a golden for each net."""
    stub_operators()
    import torch
    from torchvision import models

    for name in NETS:
        net = getattr(models, name)(weights=None).eval()
        shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
        drawn = {key: torch.tensor(draw(key, s)) for key, s in shapes.items()}
        net.load_state_dict(drawn, strict=True)
        with torch.no_grad():
            logits = [net(torch.tensor(image(size)))[0].numpy() for size in SIZES]
        lines = [" ".join([key, *map(str, shape)]) for key, shape in shapes.items()]
        np.savez_compressed(
            HERE / f"{name}.npz",
            state=np.frombuffer("\n".join(lines).encode(), np.uint8),
            **{f"logits_{size}": each for size, each in zip(SIZES, logits)},
        )
        sys.stdout.write(f"{name}: logits to {np.abs(logits[-1]).max():.3g}\n")


if __name__ == "__main__":
    main()
