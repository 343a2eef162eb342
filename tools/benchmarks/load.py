"""Loading: the input of a training epoch, ready for the net."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.layout import BATCH, THREADS, squares
from benchmarks.pack import decode_all
from benchmarks.timing import Result, timed


def xenon(folder: Path, threads: int = 1) -> Result:
    """Read ImageRecordIter through xenon's pipeline; one thread, as in xenon-train."""
    from xenon_mx.data import packed_folder, record_iter
    from xenon_mx.models import network
    from xenon_mx.runtime.mxnet import mx

    split = packed_folder.open_packed(folder / "packed").split("train")
    batches = record_iter.training_batches(split, BATCH, 0, 1, threads)
    count = record_iter.steps_per_epoch(split, BATCH, threads=threads) - 1
    next(batches)  # the start of threads is nobody's

    def work() -> None:
        for batch in batches:
            pixels = mx.nd.array(batch.pixels, dtype="uint8")
            network.normalise(pixels).wait_to_read()

    return timed(count * BATCH, work)


def xenon2(folder: Path) -> Result:
    """Read the same with --threads 2."""
    return xenon(folder, 2)


def torch(folder: Path) -> Result:
    """Read a DataLoader with two workers and Pillow, as torchvision's transforms do."""
    batches, count = iter(torch_batches(squares(folder), workers=THREADS)), 0
    next(batches)

    def work() -> None:
        nonlocal count
        for pixels, _ in batches:
            count += len(pixels)

    return {**timed(0, work), "images": count}


def limit(folder: Path) -> Result:
    """Only decode the 320x320 images, on two threads."""
    from xenon_mx.data import images

    contents = [file.read_bytes() for file in squares(folder)]
    return timed(len(contents), lambda: decode_all(images.decode, contents))


def torch_batches(listed: list[Path], workers: int) -> Any:
    """Return a DataLoader of flipped and rotated images.

    Batches are (N, 3, S, S) float32 pixels and (N, 1) float32 labels.
    """
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    torch.set_num_threads(THREADS)
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)

    class Radiographs(Dataset):
        def __len__(self) -> int:
            return len(listed)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            image = Image.open(listed[index]).convert("RGB")
            if torch.rand(1) < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            angle = float(torch.empty(1).uniform_(-30, 30))
            image = image.rotate(angle, Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
            label = torch.tensor([float(index % 2)])
            return (pixels.float().div(255) - mean) / std, label

    return DataLoader(
        Radiographs(), BATCH, shuffle=True, num_workers=workers, drop_last=True
    )
