"""A graph that xenon has exported, as an engine takes it.

Owns what an engine must be told of the graph beside its bytes. Must not know engines,
runs, or where a graph is kept.
"""

from __future__ import annotations

from typing import Iterator, NamedTuple, Protocol

from xenon_mx.runtime import progress


class ExportedGraph(NamedTuple):
    """The bytes of an ONNX graph of `onnx_graph.merge`.

    Attributes:
        name: What messages call it: a file, or a member's params.
        data: The serialized onnx.ModelProto.
        extents: `cam_block.cam_extent` of each member that counts: of the first ones;
            the graph may hold more.
    """

    name: str
    data: bytes
    extents: list[list[float]]

    @property
    def members(self) -> int:
        """Return how many members count."""
        return len(self.extents)


class Source(Protocol):
    """Where an engine gets the graphs of an ensemble from."""

    def graphs(self, bar: progress.Bar) -> Iterator[ExportedGraph]:
        """Yield the graphs, in the order of the members that they hold.

        One at a time, so that the bytes of all need not be in memory together.

        Args:
            bar: Shows the progress of an export that has to come first.

        Raises:
            XenonError: A graph is missing or damaged, or cannot be made.
        """
