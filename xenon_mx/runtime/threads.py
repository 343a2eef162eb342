"""Work on several threads, in order and in constant memory. Knows no work.

Threads are enough for images: OpenCV lets go of Python's lock while it works.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Iterable, Iterator, TypeVar

S = TypeVar("S")
T = TypeVar("T")

_AHEAD = 4  # results a thread may be ahead of the reader: enough to never wait


def usable_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def map_in_order(
    work: Callable[[S], T], items: Iterable[S], threads: int
) -> Iterator[T]:
    """Map on several threads and yield the results in order.

    Args:
        work: Called on each item, on any thread.
        items: Read no further than needed.
        threads: How many; 0 takes every usable core.
    """
    threads = threads or usable_cores()
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > _AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yield items while another thread already fetches the next one."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, end)
        while True:
            item = coming.result()
            if item is end:
                return
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
