"""The engine of exported graphs, whichever library computes them.

Owns what ONNX Runtime and OpenVINO have in common: when the graphs are loaded, which
part of which batch is computed when, and how the results of several graphs become those
of one ensemble. Must not know either library, or where graphs come from.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Callable, Iterable, Iterator, NamedTuple, Protocol

import numpy as np

from xenon_mx.inference.exported_graph import ExportedGraph, Source
from xenon_mx.models import cam_average
from xenon_mx.models.cam_average import CamBatch
from xenon_mx.runtime import progress
from xenon_mx.runtime.threads import usable_cores

# Chosen here: each part needs memory for its own feature maps.
_MOST_PARALLEL = 4
# Chosen here, by measuring DenseNet169 at 320 px: with two images, both libraries take
# as long, and a fifth more memory.
_IMAGES_PER_PART = 1


class Outputs(NamedTuple):
    """What the first m members of a graph compute of n images.

    Attributes:
        logits: (n, m) float32.
        maps: m class activation maps, (n, h, h) float32 each.
    """

    logits: np.ndarray
    maps: list[np.ndarray]


# Starts computing (n, S, S) uint8 pixels; what it returns waits for the outputs. Called
# by one thread, with at most `Plan.parallel` computations that nobody has waited for.
Wait = Callable[[], Outputs]
Start = Callable[[np.ndarray], Wait]


class Plan(NamedTuple):
    """How a library shares the device among images.

    Attributes:
        parallel: How many parts of batches are computed at the same time.
        images: The largest number of images of one part; None is the whole batch.
    """

    parallel: int = 1
    images: int | None = None


def plan_of_cpu() -> Plan:
    """Return how the cores are shared.

    An operator on all cores waits at its end for the slowest of them; parts of batches
    need not wait for one another.
    """
    return Plan(min(usable_cores(), _MOST_PARALLEL), _IMAGES_PER_PART)


class Library(Protocol):
    """What computes graphs on one device, in one precision."""

    @property
    def runtime(self) -> str:
        """Its name: one of `config.RUNTIMES`."""

    @property
    def precision(self) -> str:
        """The precision of its arithmetic: one of `config.PRECISIONS`."""

    @property
    def plan(self) -> Plan:
        """How the device is shared, once a graph has been compiled."""

    def open(self) -> None:
        """Import the library.

        Raises:
            XenonError: It is not installed, or cannot do what was asked for.
        """

    def compile(self, graph: ExportedGraph) -> Start:
        """Load a graph onto the device.

        Raises:
            XenonError: The library cannot load it.
        """

    def versions(self) -> dict[str, str]:
        """Return the library's version, once it is open."""


class GraphEngine:
    """The members in exported graphs: see `engines.Engine`.

    Args:
        library: What computes them.
        source: Where they come from.
    """

    uses_mxnet = False

    def __init__(self, library: Library, source: Source) -> None:
        self.runtime, self.precision = library.runtime, library.precision
        self._library, self._source = library, source
        self._starts: list[Start] = []
        self._extents: list[list[float]] = []

    def load(self, bar: progress.Bar = progress.silent) -> None:
        """Load the graphs: see `engines.Engine.load`."""
        if self._starts:
            return
        self._library.open()  # before graphs are exported in vain
        starts, extents = [], []
        for graph in self._source.graphs(bar):
            starts.append(self._library.compile(graph))
            extents += graph.extents
        self._starts, self._extents = starts, extents

    def logits(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Compute the members' logits: see `engines.Engine.logits`."""
        self.load()
        results = [np.zeros((0, len(self._extents)), np.float32)]
        results += [_joined(outputs) for _, outputs in self._run(batches)]
        return np.concatenate(results)

    def cams(
        self, batches: Iterable[np.ndarray]
    ) -> tuple[list[float], Iterator[CamBatch]]:
        """Compute the ensemble's maps: see `engines.Engine.cams`."""
        self.load()

        def cam_batches() -> Iterator[CamBatch]:
            for pixels, outputs in self._run(batches):
                maps = [cam for each in outputs for cam in each.maps]
                yield CamBatch(pixels, _joined(outputs), averaged(maps))

        return np.mean(self._extents, axis=0).tolist(), cam_batches()

    def versions(self) -> dict[str, str]:
        """Return the version of the library."""
        return self._library.versions()

    def _run(
        self, batches: Iterable[np.ndarray]
    ) -> Iterator[tuple[np.ndarray, list[Outputs]]]:
        """Yield parts of the batches in order, each with the outputs of all graphs."""
        plan = self._library.plan
        running: deque[Wait] = deque()  # graph by graph of the parts
        parts: deque[np.ndarray] = deque()
        outputs: list[Outputs] = []  # of the first part

        def finish_one() -> Iterator[tuple[np.ndarray, list[Outputs]]]:
            outputs.append(running.popleft()())
            if len(outputs) == len(self._starts):
                yield parts.popleft(), outputs[:]
                outputs.clear()

        try:
            for part in _split(batches, plan.images):
                parts.append(part)
                for start in self._starts:
                    if len(running) == plan.parallel:
                        yield from finish_one()
                    running.append(start(part))
            while running:
                yield from finish_one()
        finally:
            for wait in running:  # after an error, which is more than theirs
                with contextlib.suppress(Exception):
                    wait()


def _split(batches: Iterable[np.ndarray], images: int | None) -> Iterator[np.ndarray]:
    for pixels in batches:
        step = images or len(pixels)
        for first in range(0, len(pixels), step):
            yield pixels[first : first + step]


def _joined(outputs: list[Outputs]) -> np.ndarray:
    """Return the logits of all graphs: (n, M)."""
    return np.concatenate([each.logits for each in outputs], axis=1)


def averaged(maps: list[np.ndarray]) -> np.ndarray:
    """Average the maps of all members: (n, h, h) float32."""
    if len({cams.shape for cams in maps}) > 1:
        return cam_average.average_cams(maps)
    mean: np.ndarray = np.stack(maps, axis=1).mean(axis=1)
    return mean
