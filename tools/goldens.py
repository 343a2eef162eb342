"""Golden values: known weights, and what PyTorch computes with them.

    pip install torch==2.13.0 && pip install --no-deps torchvision pillow
    python tools/goldens.py         # writes tests/goldens/

The weights are drawn by NumPy, key by key, so that a test can draw them again without
PyTorch; a golden file holds the keys and shapes of a net, and its logits or, of a net
for radiographs, its pooled features on an input that is scaled as its authors do.
Written with torch 2.13.0 (CPU) and torchvision 0.29.2; those of nets for radiographs
with torch 2.14.1 and torchvision 0.29.1.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "goldens"
NETS = [
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
]
SIZES = (224, 320)
# Nets for radiographs, by the library or file whose layout and input they have.
RADIOGRAPH_NETS = [
    f"{source}-{net}"
    for source in ("torchxrayvision", "radimagenet")
    for net in ("densenet121", "resnet50")
]
GRAY_SIZE = 160  # small, so that borders count
_libraries: list[Any] = []  # whose definitions live as long as they do


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


def golden(name: str) -> Any:
    """Load the golden file of one of torchvision's nets."""
    return np.load(FOLDER / f"{name}.npz")


def state_dict(name: str) -> dict[str, np.ndarray]:
    """Return the known weights of one of torchvision's nets: key to array."""
    lines = golden(name)["state"].tobytes().decode().splitlines()
    keys = [line.split() for line in lines]
    return {key: draw(key, tuple(map(int, shape))) for key, *shape in keys}


def image(size: int) -> np.ndarray:
    """Draw the (1, 3, size, size) float32 input."""
    rng = np.random.RandomState(size)
    return rng.uniform(-2, 2, (1, 3, size, size)).astype(np.float32)


def gray_image() -> np.ndarray:
    """Draw a (GRAY_SIZE, GRAY_SIZE) uint8 radiograph, bright at its borders too."""
    rng = np.random.RandomState(GRAY_SIZE)
    return rng.randint(0, 256, (GRAY_SIZE, GRAY_SIZE)).astype(np.uint8)


def stub_operators() -> None:
    """Define the C++ operators that torchvision misses beside another build of torch.

    None of them is called by a classifier. Where they are there, to define them again
    would abort the process, so another process looks.
    """
    if _libraries or not subprocess.call(
        [sys.executable, "-c", "import torchvision"], stderr=subprocess.DEVNULL
    ):
        return
    import torch

    spec = importlib.util.find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    text = "".join(file.read_text() for file in root.rglob("*.py"))
    library = torch.library.Library("torchvision", "DEF")
    for name in sorted(set(re.findall(r"torchvision::(\w+)", text))):
        library.define(f"{name}() -> ()")
    _libraries.append(library)


def main() -> None:
    """Write a golden for each net."""
    stub_operators()
    write_logits()
    for name in RADIOGRAPH_NETS:
        write_features(name)


def write_logits() -> None:
    """Write the goldens of torchvision's nets."""
    import torch
    from torchvision import models

    for name in NETS:
        net = getattr(models, name)(weights=None).eval()
        shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
        drawn = {key: torch.tensor(draw(key, s)) for key, s in shapes.items()}
        net.load_state_dict(drawn, strict=True)
        with torch.no_grad():
            logits = [net(torch.tensor(image(size)))[0].numpy() for size in SIZES]
        write(name, shapes, {f"logits_{s}": each for s, each in zip(SIZES, logits)})


def write_features(name: str) -> None:
    """Write the golden of a net for radiographs."""
    import torch

    source, net_name = name.split("-")
    build, scale = {
        "torchxrayvision": (_torchxrayvision, _xrv_input),
        "radimagenet": (_radimagenet, _half_input),
    }[source]
    net, features = build(net_name)
    net.eval()
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    drawn = {key: torch.tensor(draw(key, s)) for key, s in shapes.items()}
    net.load_state_dict(drawn, strict=True)
    with torch.no_grad():
        maps = features(torch.tensor(scale(gray_image())))
        if "densenet" in name:  # as torchvision's forward, and torchxrayvision's
            maps = torch.relu(maps)
        pooled = maps.mean(dim=(2, 3))[0].numpy()
    write(name, shapes, {"features": pooled})


def _torchxrayvision(name: str) -> tuple[Any, Any]:
    """Return a net of torchxrayvision's models.py, and its layers to the last map."""
    import torch
    from torchvision import models

    net = getattr(models, name)(weights=None, num_classes=18)
    first = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    if name.startswith("densenet"):
        net.features.conv0 = first
        features = net.features
        whole = net
    else:
        net.conv1 = first
        features = torch.nn.Sequential(*list(net.children())[:-2])
        whole = torch.nn.Module()
        whole.model = net
    whole.register_buffer("op_threshs", torch.zeros(18))
    return whole, features


def _xrv_input(pixels: np.ndarray) -> np.ndarray:
    """Return the (1, 1, H, W) input of torchxrayvision's datasets.normalize."""
    return ((2 * (pixels.astype(np.float32) / 255) - 1.0) * 1024)[None, None]


def _radimagenet(name: str) -> tuple[Any, Any]:
    """Return a net of RadImageNet's pytorch_example.ipynb, and its layers likewise."""
    import torch
    from torchvision import models

    whole = torch.nn.Module()
    layers = list(getattr(models, name)(weights=None).children())
    whole.backbone = torch.nn.Sequential(*layers[:-1])
    cut = 1 if name.startswith("densenet") else -1  # without the pooling of a ResNet
    return whole, whole.backbone[:cut]


def _half_input(pixels: np.ndarray) -> np.ndarray:
    """Return the (1, 3, H, W) input as RadImageNet scales it."""
    gray = (pixels.astype(np.float32) - 127.5) * 2 / 255
    return np.stack([gray] * 3)[None]


def write(
    name: str, shapes: dict[str, tuple[int, ...]], values: dict[str, np.ndarray]
) -> None:
    """Write a golden file: the keys and shapes of a net, and what it computes."""
    lines = [" ".join([key, *map(str, shape)]) for key, shape in shapes.items()]
    state = np.frombuffer("\n".join(lines).encode(), np.uint8)
    np.savez_compressed(FOLDER / f"{name}.npz", state=state, **values)
    largest = max(np.abs(each).max() for each in values.values())
    sys.stdout.write(f"{name}: values to {largest:.3g}\n")


if __name__ == "__main__":
    main()
