"""Ordered mapping over several threads, in constant memory.

Owns the thread pools; must not know the work. Threads suffice for images, since OpenCV
releases the GIL.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Iterable, Iterator, TypeVar

S = TypeVar("S")
T = TypeVar("T")

_BUFFERED = 4  # results per thread: enough that no thread waits for the reader


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def map_in_order(
    function: Callable[[S], T], items: Iterable[S], threads: int
) -> Iterator[T]:
    """Map a function over items on several threads, and yield the results in order.

    Args:
        function: Called with each item, on any thread.
        items: The items; consumed only a few per thread ahead of the results.
        threads: Number of threads; 0 uses every usable core.
    """
    threads = threads or usable_cores()
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > _BUFFERED * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yield items, while another thread fetches the next one."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(next, items, end)
        while True:
            item = future.result()
            if item is end:
                return
            future = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
