"""What a contender measures.

Owns the clocks. Must not know any contender.
"""

from __future__ import annotations

import time
from typing import Any, Callable

Result = dict


def timed(images: int, work: Callable[[], Any]) -> Result:
    """Run the work, and return its time and outputs."""
    start = time.perf_counter()
    outputs = work()
    seconds = time.perf_counter() - start
    return {"images": images, "seconds": seconds, "outputs": outputs}


def rate(images_per_s: float) -> Result:
    """Return a rate as a result: that many images in one second."""
    return {"images": images_per_s, "seconds": 1.0, "outputs": None}
