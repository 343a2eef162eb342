"""Training: DenseNet169, 320 px, batch 8, Adam.

xenon trains with its loading and its log. PyTorch's contenders take bare steps, on a
batch that is ready.
"""

from __future__ import annotations

import contextlib
import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import layout, torch_net
from benchmarks.arithmetic import GFLOP, sgemm_gflops
from benchmarks.layout import BATCH, SIZE
from benchmarks.timing import Result, rate, timed


def xenon(folder: Path, **settings: Any) -> Result:
    """Return the rate of the second epoch of xenon-train, from log.csv."""
    from xenon_mx.commands import train
    from xenon_mx.config import TrainConfig

    run = folder / "trained"
    shutil.rmtree(run, ignore_errors=True)
    config = TrainConfig(
        folder / "few",
        run,
        pretrained=str(layout.weights(folder, 1)),
        epochs=2,
        ctx="cpu()",
        **settings,
    )
    train.train(config)
    with open(run / "log.csv", newline="") as log:
        *_, last = csv.DictReader(log)
    return rate(float(last["images_per_s"]))


def xenon_amp(folder: Path) -> Result:
    """Return the same of xenon-train --amp."""
    return xenon(folder, amp=True)


def torch(
    folder: Path,
    channels_last: bool = False,
    bf16: bool = False,
    compiled: bool = False,
) -> Result:
    """Time as many steps as an epoch has, after as many others and a validation.

    Args:
        folder: The folder that tools/bench prepared.
        channels_last: In this memory format, else in PyTorch's own.
        bf16: With autocast to bfloat16, else in float32.
        compiled: With torch.compile, whose minutes are not timed.
    """
    import torch

    net = torch_net.build(folder, 1)
    form = torch.channels_last if channels_last else torch.contiguous_format
    net.train().to(memory_format=form)
    adam = torch.optim.Adam(net.parameters(), 1e-4)
    pixels = _pixels().to(memory_format=form)
    labels = torch.arange(BATCH).reshape(BATCH, 1) % 2 * 1.0
    forward = torch.compile(net) if compiled else net
    steps = layout.size(folder, "train") // BATCH

    def epoch() -> None:
        for _ in range(steps):
            adam.zero_grad()
            with _autocast(bf16):
                logits = forward(pixels)
            criterion = torch.nn.functional.binary_cross_entropy_with_logits
            loss = criterion(logits.float(), labels)
            loss.backward()
            adam.step()
            loss.item()

    epoch()
    net.eval()
    with torch.inference_mode(), _autocast(bf16):
        net(pixels)
    net.train()
    return timed(steps * BATCH, epoch)


def _pixels() -> Any:
    """Draw a batch of normalised pixels: (N, 3, S, S) float32."""
    import torch

    drawn = np.random.RandomState(0).standard_normal((BATCH, 3, SIZE, SIZE))
    return torch.from_numpy(drawn.astype(np.float32))


def _autocast(bf16: bool) -> Any:
    import torch

    if not bf16:
        return contextlib.nullcontext()
    return torch.autocast("cpu", torch.bfloat16)


def torch_channels_last(folder: Path) -> Result:
    """Time the steps in the memory format channels_last."""
    return torch(folder, channels_last=True)


def torch_compiled(folder: Path) -> Result:
    """Time the compiled steps."""
    return torch(folder, compiled=True)


def torch_bf16(folder: Path) -> Result:
    """Time the steps with autocast to bfloat16."""
    return torch(folder, bf16=True)


def torch_bf16_channels_last(folder: Path) -> Result:
    """Time the steps with autocast in channels_last."""
    return torch(folder, channels_last=True, bf16=True)


def torch_bf16_compiled(folder: Path) -> Result:
    """Time the compiled steps with autocast."""
    return torch(folder, bf16=True, compiled=True)


def limit(folder: Path) -> Result:
    """Return the rate at which a matrix product does three forward passes."""
    return rate(sgemm_gflops() / (3 * GFLOP))
