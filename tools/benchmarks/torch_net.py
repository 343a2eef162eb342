"""torchvision's DenseNet169 with the weights of a member."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import layout


def build(folder: Path, number: int) -> Any:
    """Build the net of a member, ready to predict on two threads."""
    import goldens
    import safetensors.torch
    import torch

    goldens.stub_operators()
    from torchvision import models

    torch.set_num_threads(layout.THREADS)
    net = models.densenet169(num_classes=1)
    weights = safetensors.torch.load_file(layout.weights(folder, number))
    net.load_state_dict(weights, strict=False)  # without num_batches_tracked
    return net.eval()
