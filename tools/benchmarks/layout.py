"""The folder that tools/bench prepares, and what all contenders have in common.

Owns where images and nets lie in the folder. Must not know any contender.
"""

from __future__ import annotations

import json
from pathlib import Path

THREADS = 2
BATCH = 8
SIZE = 320
NET = "densenet169"
MEMBERS = 5


def files(folder: Path) -> list[Path]:
    """List the radiographs, about 512 px each."""
    return sorted(folder.rglob("MURA-v1.1/**/*.png"))


def squares(folder: Path) -> list[Path]:
    """List the same images as 320x320 JPEG files, as in the packed folder."""
    return sorted((folder / "squares").iterdir())


def size(folder: Path, work: str) -> int:
    """Return the number of images of `train` or `predict`."""
    return int(json.loads((folder / "sizes.json").read_text())[work])


def asked(folder: Path, source: str) -> list[Path]:
    """List the images to predict: of `files`, or of `packed`."""
    if source == "packed":
        return squares(folder)[: size(folder, "predict")]
    return [folder / line for line in (folder / "asked.csv").read_text().split()]


def weights(folder: Path, number: int) -> Path:
    """Return the weight file of a member, under torchvision's names."""
    return folder / f"member-{number}.safetensors"


def onnx_files(folder: Path) -> list[Path]:
    """List the members as PyTorch exported them for the peers."""
    return [folder / f"member-{number}.onnx" for number in range(1, MEMBERS + 1)]
