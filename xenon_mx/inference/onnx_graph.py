"""Conversion of Gluon nets to one ONNX graph, from gray pixels to the probability.

Owns the graph and the workarounds for MXNet's exporter. Must not know files or runs.
"""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from types import SimpleNamespace
from typing import Any, Iterator, NamedTuple, Sequence

import numpy as np

from xenon_mx.config import MEAN, STD
from xenon_mx.errors import XenonError
from xenon_mx.inference.onnx_metadata import (
    LOGITS,
    MAPS,
    MEMBER_LOGIT,
    MEMBER_MAP,
    MEMBERS,
    PIXELS,
    PROBABILITY,
    member_prefix,
)
from xenon_mx.models import cam_average, cam_block
from xenon_mx.runtime import extras
from xenon_mx.runtime.mxnet import exporter, mx

# 13 is the latest opset that MXNet's exporter supports, and 7 the first IR version with
# that opset.
_OPSET, _IR_VERSION = 13, 7
# Of MXNet's arrays.
_DTYPES = ("float16", "float32", "float64", "uint8", "int8", "int32", "int64", "bool")

_NORMALISED = "normalised"
_RESIZED = "enlarged"  # a member's map with as many cells as the largest
_INSTALL = extras.install("export")


def check_packages() -> None:
    """Check that the package which exporting needs is installed.

    Raises:
        XenonError: onnx is not installed.
    """
    try:
        _onnx()
    except ModuleNotFoundError as error:
        raise XenonError(f"{error.name} is not installed: {_INSTALL}") from error


def _onnx() -> Any:
    """Import onnx, which only exporting needs; its type hints are incomplete."""
    import onnx

    return onnx


class ConvertedNet(NamedTuple):
    """One net as an ONNX graph.

    Attributes:
        graph: An onnx.GraphProto. Input: (N, 3, S, S) normalised float32. Outputs:
            (N, 1) logits and (N, 1, h, h) class activation maps. The weights are named
            by their Gluon keys.
        cells: The side h of the maps.
    """

    graph: Any
    cells: int


def convert(net: Any, size: int) -> ConvertedNet:
    """Convert one net.

    Args:
        net: A net of `network.build(..., reference=True)` on a CPU: the exporter
            supports no fused operators.
        size: The side S of its square input, px.
    """
    block = cam_block.build(net, reference=True)
    symbol = mx.sym.Group(list(block(mx.sym.var(_NORMALISED))))
    params = {param.name: param.data() for param in net.collect_params().values()}
    _fix_gammas(symbol, params)
    shape = (1, 3, size, size)
    with _quiet_exporter(), _onnx_mapping():
        # The part of export_model without the temporary file that it also writes, in a
        # folder that may be full or missing.
        graph = exporter.mx2onnx._export_onnx.MXNetGraph().create_onnx_graph_proto(
            symbol,
            params,
            [shape],  # numbers only, even for the dynamic N
            [_onnx().TensorProto.FLOAT],
            opset_version=_OPSET,
            dynamic=True,
            dynamic_input_shapes=[("N", *shape[1:])],
        )
    keys = {p.name: key for key, p in net._collect_params_with_prefix().items()}
    _, (_, map_shape), _ = symbol.infer_shape(**{_NORMALISED: shape})
    return ConvertedNet(_rename(graph, keys), map_shape[-1])


def _fix_gammas(symbol: Any, params: dict[str, Any]) -> None:
    """Set each gamma to ones where MXNet's fix_gamma ignores its value.

    The exporter ignores fix_gamma.
    """
    nodes = json.loads(symbol.tojson())["nodes"]
    for node in nodes:
        if node["op"] == "BatchNorm" and node["attrs"].get("fix_gamma") != "False":
            gamma = nodes[node["inputs"][1][0]]["name"]
            params[gamma] = mx.nd.ones_like(params[gamma])


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Suppress the exporter's warnings, and the handler it adds to the root logger."""
    handlers = logging.root.handlers[:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.handlers[:] = handlers


@contextlib.contextmanager
def _onnx_mapping() -> Iterator[None]:
    """Provide `onnx.mapping`, which the exporter reads and onnx 1.17 removed."""
    onnx = _onnx()
    types = {
        dtype: int(onnx.helper.np_dtype_to_tensor_dtype(dtype))
        for dtype in map(np.dtype, _DTYPES)
    }
    original = vars(onnx).get("mapping")
    onnx.mapping = SimpleNamespace(
        NP_TYPE_TO_TENSOR_TYPE=types,
        TENSOR_TYPE_TO_NP_TYPE={number: dtype for dtype, number in types.items()},
    )
    try:
        yield
    finally:
        del onnx.mapping
        if original is not None:
            onnx.mapping = original


def _rename(graph: Any, keys: dict[str, str]) -> Any:
    """Name weights by their keys and nodes by position, and drop unused weights.

    MXNet's own names number the nets of a process: exporting the same net twice would
    yield files with different bytes.
    """
    outputs = (output.name for output in graph.output)
    names = {_NORMALISED: _NORMALISED, **dict(zip(outputs, (MEMBER_LOGIT, MEMBER_MAP)))}
    for number, weight in enumerate(graph.initializer):
        names[weight.name] = keys.get(weight.name, f"constant_{number}")
        weight.name = names[weight.name]
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        for index, name in enumerate(node.output):
            names.setdefault(name, f"{node.name}_output_{index}")
        node.input[:] = [name and names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    used = {name for node in graph.node for name in node.input}
    kept = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return graph


def merge(nets: Sequence[ConvertedNet], size: int, properties: dict[str, Any]) -> Any:
    """Build one graph that normalises pixels, runs all nets, and averages them.

    Args:
        nets: The M members.
        size: The side S of their square input, px.
        properties: The model's metadata: JSON values by key.

    Returns:
        An onnx.ModelProto that passes onnx's checker. Input: `pixels` (N, S, S) uint8.
        Outputs, all float32: `probability` (N,), `members` (N, M), `logits` (N, M) and
        `maps` (N, M, h, h). Nodes and weights of the n-th member are named
        `member_n/...`.
    """
    helper = _onnx().helper
    cells = max(net.cells for net in nets)
    nodes, weights = _normalisation()
    for number, net in enumerate(nets, 1):
        member_nodes, member_weights = _member(net, cells, member_prefix(number))
        nodes += member_nodes
        weights += member_weights
    nodes += _averaging(len(nets))
    model = helper.make_model(
        helper.make_graph(
            nodes, "xenon", *_inputs_and_outputs(size, len(nets), cells), weights
        ),
        producer_name="xenon",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    helper.set_model_props(
        model,
        {key: json.dumps(value, allow_nan=False) for key, value in properties.items()},
    )
    _onnx().checker.check_model(model, full_check=True)
    return model


def _averaging(members: int) -> list[Any]:
    """Join the outputs of all members, and average their probabilities."""
    make = _onnx().helper.make_node
    logits, cams = (
        [member_prefix(number) + name for number in range(1, members + 1)]
        for name in (MEMBER_LOGIT, _RESIZED)
    )
    return [
        make("Concat", logits, [LOGITS], LOGITS, axis=1),
        make("Sigmoid", [LOGITS], [MEMBERS], MEMBERS),
        make("ReduceMean", [MEMBERS], [PROBABILITY], PROBABILITY, axes=[1], keepdims=0),
        make("Concat", cams, [MAPS], MAPS, axis=1),
    ]


def _member(net: ConvertedNet, cells: int, prefix: str) -> tuple[list[Any], list[Any]]:
    """Copy a net under a prefix: return its nodes and their constants."""
    nodes = [_copy(node) for node in net.graph.node]
    for node in nodes:
        node.name = prefix + node.name
        for names in (node.input, node.output):
            names[:] = [n if n in ("", _NORMALISED) else prefix + n for n in names]
    weights = [_copy(weight) for weight in net.graph.initializer]
    for weight in weights:
        weight.name = prefix + weight.name
    resize_nodes, resize_weights = _resizing(net.cells, cells, prefix)
    return [*nodes, *resize_nodes], [*weights, *resize_weights]


def _resizing(old: int, new: int, prefix: str) -> tuple[list[Any], list[Any]]:
    """Resize a map to `new` cells, as `cam_average.average_cams` does.

    Returns the nodes and their constants.
    """
    onnx = _onnx()
    matrix = cam_average.resampling_matrix(old, new).astype(np.float32)
    rows, columns, taller = (prefix + x for x in ("rows", "columns", "taller"))
    resized = prefix + _RESIZED
    nodes = [
        onnx.helper.make_node("MatMul", [rows, prefix + MEMBER_MAP], [taller], taller),
        onnx.helper.make_node("MatMul", [taller, columns], [resized], resized),
    ]
    constants = {rows: matrix, columns: np.ascontiguousarray(matrix.T)}
    return nodes, [onnx.numpy_helper.from_array(a, n) for n, a in constants.items()]


def _inputs_and_outputs(
    size: int, members: int, cells: int
) -> tuple[list[Any], list[Any]]:
    """Describe name, type and shape of each input and output of the merged graph."""
    onnx = _onnx()
    value = onnx.helper.make_tensor_value_info
    shapes = {
        PROBABILITY: ["N"],
        MEMBERS: ["N", members],
        LOGITS: ["N", members],
        MAPS: ["N", members, cells, cells],
    }
    return (
        [value(PIXELS, onnx.TensorProto.UINT8, ["N", size, size])],
        [value(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()],
    )


def _normalisation() -> tuple[list[Any], list[Any]]:
    """Normalise as `network.normalise` does: return the nodes and their constants."""
    onnx = _onnx()
    make = onnx.helper.make_node
    constants = {
        "mean": (255 * np.array(MEAN)).astype(np.float32).reshape(1, 3, 1, 1),
        "std": (255 * np.array(STD)).astype(np.float32).reshape(1, 3, 1, 1),
        "axis": np.array([1], np.int64),
    }
    nodes = [
        make("Cast", [PIXELS], ["gray"], "gray", to=onnx.TensorProto.FLOAT),
        make("Unsqueeze", ["gray", "axis"], ["channel"], "channel"),
        make("Sub", ["channel", "mean"], ["centred"], "centred"),
        make("Div", ["centred", "std"], [_NORMALISED], _NORMALISED),
    ]
    return nodes, [onnx.numpy_helper.from_array(a, n) for n, a in constants.items()]


def _copy(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
