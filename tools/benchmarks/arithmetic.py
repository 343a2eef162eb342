"""The rate at which this machine multiplies float32 matrices: a bound for the nets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.layout import THREADS
from benchmarks.timing import Result, rate, timed

GFLOP = 13.7  # of one image's forward pass: xenon-train --list-models
SIDE = 3000  # of the matrices; chosen here: the rate is no higher with larger ones


def sgemm(folder: Path) -> Result:
    """Return the rate of a large float32 matrix product, in GFLOP/s."""
    return rate(sgemm_gflops())


def sgemm_gflops() -> float:
    """Return the best rate of eight large float32 matrix products, in GFLOP/s."""
    from threadpoolctl import threadpool_limits

    matrix = np.random.RandomState(0).rand(SIDE, SIDE).astype(np.float32)
    with threadpool_limits(THREADS):
        seconds = min(timed(1, lambda: matrix @ matrix)["seconds"] for _ in range(8))
    return 2 * SIDE**3 / 1e9 / seconds
