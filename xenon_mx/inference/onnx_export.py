"""The bytes of an ONNX file, after they have been compared with MXNet's nets.

Owns the comparison. Must not know runs, or where the bytes are written. Imports MXNet.
"""

from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.evaluation import metrics
from xenon_mx.inference import graph_engine, onnx_graph, onnx_metadata
from xenon_mx.inference.exported_graph import ExportedGraph
from xenon_mx.inference.onnxruntime_library import OnnxRuntime
from xenon_mx.models import cam_block, forward
from xenon_mx.runtime import mxnet

# The largest difference allowed between the probabilities of file and run.
TOLERANCE = 1e-5
# The same for their maps, relative to the largest value.
_MAPS_TOLERANCE = 1e-4
_NOISE_IMAGES = 4  # on which file and run are compared


def export(
    name: str,
    nets: Sequence[Any],
    size: int,
    properties: dict[str, Any],
    progress_bar: Any,
) -> bytes:
    """Return nets as one ONNX file.

    Args:
        name: What messages call the file.
        nets: Nets of `network.build(..., reference=True)` on the CPU.
        size: The side S of their square input, px.
        properties: The file's metadata: JSON values by key. `members` has an object for
            each net, which gets the key `field`.
        progress_bar: Is advanced by one for each net, and at the end.

    Raises:
        XenonError: The file and the nets differ.
    """
    converted = []
    for net in nets:
        converted.append(onnx_graph.convert(net, size))
        progress_bar.update()
    extents = [list(cam_block.cam_extent(net, size)) for net in nets]
    members = [
        {**member, "field": extent}
        for member, extent in zip(properties["members"], extents)
    ]
    model = onnx_graph.merge(converted, size, {**properties, "members": members})
    data = onnx_metadata.add_checksum(model.SerializeToString())
    _compare(ExportedGraph(name, data, extents), nets, size)
    progress_bar.update()
    return data


def _compare(graph: ExportedGraph, nets: Sequence[Any], size: int) -> None:
    """Raise an error unless a graph and the nets it was made of agree on noise."""
    noise = np.random.RandomState(0).randint(0, 256, (_NOISE_IMAGES, size, size))
    # From dark to bright, so that probabilities are not all close to 0 or all to 1.
    brightness = np.linspace(0.25, 1, _NOISE_IMAGES)[:, None, None]
    pixels = (noise * brightness).astype(np.uint8)
    (gluon,) = forward.cams(nets, [pixels], [mxnet.mx.cpu()], reference=True)
    library = OnnxRuntime("cpu()")
    library.open()
    exported = library.compile(graph)(pixels)()
    check_equal(
        graph.name,
        what="probabilities",
        expected=metrics.sigmoid(gluon.logits),
        actual=metrics.sigmoid(exported.logits),
        tolerance=TOLERANCE,
    )
    largest = float(np.abs(gluon.maps).max()) or 1.0
    check_equal(
        graph.name,
        what="activation maps",
        expected=gluon.maps / largest,
        actual=graph_engine.averaged(exported.maps) / largest,
        tolerance=_MAPS_TOLERANCE,
    )


def check_equal(
    name: str, what: str, expected: np.ndarray, actual: np.ndarray, tolerance: float
) -> None:
    """Raise an error unless MXNet's values and those of a file agree."""
    difference = float(np.abs(expected - actual).max())
    if not difference <= tolerance:  # also true of NaN
        raise XenonError(
            f"{name}: not written: its {what} would differ from MXNet's by "
            f"{difference:.1e}, which is more than {tolerance:.0e}"
        )
