"""How long training waits for images, and how long a run will take.

Owns both measurements and the line about the latter. Must not know nets or data.
"""

from __future__ import annotations

import logging
import time
from math import inf
from typing import Any, Iterator

_log = logging.getLogger(__name__)

# Chosen here: the first steps plan memory and fill caches; after 20 more, or 30 s of
# them, the mean is within some percent of the epoch's.
_WARM_UP_STEPS, _STEPS, _MAX_S = 3, 20, 30.0
_MIN_RUN_S = 60.0  # chosen here: shorter runs need no estimate
# Of the three passes of a step (forward, and backward for weights and for layers),
# which take about as long as each other, validation has the first.
_VALIDATION_COST = 1 / 3
# In seconds: what each unit is, and up to which duration it is used.
_UNITS = (("s", 1, 100), ("min", 60, 6000), ("h", 3600, 172800), ("days", 86400, inf))


class WaitTimer:
    """Timer of how long a loop waits for its items."""

    def __init__(self) -> None:
        self._waited = 0.0
        self._start = time.perf_counter()

    @property
    def share(self) -> float:
        """The share of the time since the start that was spent waiting."""
        return self._waited / (time.perf_counter() - self._start)

    def iterate(self, items: Iterator[Any]) -> Iterator[Any]:
        """Yield items, and measure the wait for each."""
        while True:
            start = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self._waited += time.perf_counter() - start
            yield item


class RunTimer:
    """Timer of training steps, which logs once how long the run will take.

    Args:
        epochs: The last epoch of the run.
        valid_images: Number of images to validate on after each epoch.
    """

    def __init__(self, epochs: int, valid_images: int) -> None:
        self._epochs, self._valid_images = epochs, valid_images
        self._steps, self._images, self._seconds = 0, 0, 0.0
        self._last = 0.0
        self._is_logged = False

    def start_epoch(self, epoch: int, images: int) -> None:
        """Start timing the steps of an epoch.

        Args:
            epoch: Its number, from 1.
            images: Number of images on which this worker trains in each epoch.
        """
        self._epoch, self._epoch_images = epoch, images
        self._last = time.perf_counter()

    def step(self, images: int) -> None:
        """Add a step of some images, which has just ended."""
        now = time.perf_counter()
        if self._steps >= _WARM_UP_STEPS:
            self._images += images
            self._seconds += now - self._last
        self._last = now
        self._steps += 1
        is_enough = self._steps >= _WARM_UP_STEPS + _STEPS or self._seconds >= _MAX_S
        if is_enough and not self._is_logged:
            self._is_logged = True
            self._log_estimate()

    def _log_estimate(self) -> None:
        images = self._epoch_images + _VALIDATION_COST * self._valid_images
        epoch = self._seconds / self._images * images
        left = self._epochs - self._epoch + 1
        if epoch * left >= _MIN_RUN_S:
            _log.info(
                "an epoch takes about %s, and the %d that remain %s at most",
                _about(epoch),
                left,
                _about(epoch * left),
            )


def _about(seconds: float) -> str:
    """Return a duration with about two digits, such as `2.4 h`."""
    unit, size = next((unit, size) for unit, size, limit in _UNITS if seconds < limit)
    number = seconds / size
    return f"{number:.{int(number < 10)}f} {unit}"
