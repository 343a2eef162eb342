"""The start of a command."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.timing import Result


class FirstStep:
    """A progress bar that ends the training at its first step."""

    def __call__(self, **_: Any) -> FirstStep:
        """Return the bar itself."""
        return self

    def __enter__(self) -> FirstStep:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def update(self, n: int = 1) -> None:
        """End the training."""
        raise StopIteration

    def set_postfix(self, **_: Any) -> None:
        """Ignore what stands beside the bar."""


def xenon(folder: Path) -> Result:
    """Time from the start of the process to the end of the first training step."""
    from xenon_mx.commands import train
    from xenon_mx.config import TrainConfig

    run = folder / "started"
    shutil.rmtree(run, ignore_errors=True)
    config = TrainConfig(folder / "few", run, no_pretrained=True, ctx="cpu()")
    try:
        train.train(config, FirstStep())
    except (StopIteration, RuntimeError):
        began = float(os.environ["BENCH_START"])
        return {"images": 1, "seconds": time.time() - began, "outputs": None}
    raise AssertionError("no step was taken")
