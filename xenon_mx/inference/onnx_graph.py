"""From Gluon nets to one ONNX graph: gray pixels in, the ensemble's probability out.

Owns the graph and the traps of MXNet's exporter. Knows no files and no runs.
"""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from typing import Any, Iterator, NamedTuple, Sequence

import numpy as np

from xenon_mx.config import MEAN, STD
from xenon_mx.errors import XenonError
from xenon_mx.inference.onnx_ensemble import LOGITS, MAPS, MEMBERS, PIXELS, PROBABILITY
from xenon_mx.models import cam, cam_block
from xenon_mx.runtime.mxnet import exporter, mx

# MXNet's exporter knows the operators of opset 13 and of none later. 7 is the first
# version of files to hold 13.
_OPSET, _IR_VERSION = 13, 7

_NORMALISED = "normalised"
_LOGIT, _MAP, _ENLARGED = "logit", "map", "enlarged"  # what each member gives
_INSTALL = "pip install 'xenon-mx[export]'"


def check_packages() -> None:
    """Stop unless the packages are there that exporting takes.

    Raises:
        XenonError: onnx is missing, or too new for MXNet's exporter.
    """
    try:
        onnx = _onnx()
    except ModuleNotFoundError as error:
        raise XenonError(f"{error.name} is not installed: {_INSTALL}") from error
    if not hasattr(onnx, "mapping"):  # later ones are without; the exporter needs it
        raise XenonError(
            f"onnx {onnx.__version__} is too new for MXNet's exporter: {_INSTALL}"
        )


def _onnx() -> Any:
    """Import onnx, which only exporting takes, and whose types name only some of it."""
    import onnx

    return onnx


class ConvertedNet(NamedTuple):
    """One net as ONNX.

    Attributes:
        graph: An onnx.GraphProto: (N, 3, S, S) normalised float32 in; (N, 1) logits and
            (N, 1, h, h) class activation maps out. The weights are named by their Gluon
            keys.
        cells: The side h of its maps.
    """

    graph: Any
    cells: int


def convert(net: Any, size: int) -> ConvertedNet:
    """Convert one net.

    Args:
        net: A net of `network.build(..., reference=True)` on a CPU: the exporter knows
            no fused operator.
        size: The side S of its pixels.
    """
    door = cam_block.build(net, reference=True)
    symbol = mx.sym.Group(list(door(mx.sym.var(_NORMALISED))))
    params = {param.name: param.data() for param in net.collect_params().values()}
    _fix_gammas(symbol, params)
    shape = (1, 3, size, size)
    with _undisturbed():
        # What export_model calls, which would write a file besides, in a folder that
        # may be small or missing.
        graph = exporter.mx2onnx._export_onnx.MXNetGraph().create_onnx_graph_proto(
            symbol,
            params,
            [shape],  # numbers only, also where N may vary
            [_onnx().TensorProto.FLOAT],
            opset_version=_OPSET,
            dynamic=True,
            dynamic_input_shapes=[("N", *shape[1:])],
        )
    keys = {p.name: key for key, p in net._collect_params_with_prefix().items()}
    _, (_, of_map), _ = symbol.infer_shape(**{_NORMALISED: shape})
    return ConvertedNet(_renamed(graph, keys), of_map[-1])


def _fix_gammas(symbol: Any, params: dict[str, Any]) -> None:
    """Let weights that MXNet takes for ones be ones, which the exporter forgets."""
    nodes = json.loads(symbol.tojson())["nodes"]
    for node in nodes:
        if node["op"] == "BatchNorm" and node["attrs"].get("fix_gamma") != "False":
            gamma = nodes[node["inputs"][1][0]]["name"]
            params[gamma] = mx.nd.ones_like(params[gamma])


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the exporter from warning, and from giving the root logger a handler."""
    handlers = logging.root.handlers[:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.root.handlers[:] = handlers


def _renamed(graph: Any, keys: dict[str, str]) -> Any:
    """Name weights by their keys and the rest by its place, and drop unused ones.

    MXNet's own names count the nets of the process: the same net would get another
    name, and the file other bytes, each time.
    """
    doors = (each.name for each in graph.output)
    names = {_NORMALISED: _NORMALISED, **dict(zip(doors, (_LOGIT, _MAP)))}
    for number, each in enumerate(graph.initializer):
        names[each.name] = keys.get(each.name, f"constant_{number}")
        each.name = names[each.name]
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        for place, name in enumerate(node.output):
            names.setdefault(name, f"{node.name}_output_{place}")
        node.input[:] = [name and names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
    used = {name for node in graph.node for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return graph


def merge(nets: Sequence[ConvertedNet], size: int, properties: dict[str, Any]) -> Any:
    """Put the nets of an ensemble behind one normalisation, and average them.

    Args:
        nets: The M members.
        size: The side S of their pixels.
        properties: What the model says of itself: JSON values.

    Returns:
        An onnx.ModelProto that onnx's checker passes: `pixels` (N, S, S) uint8 in;
        `probability` (N,), `members` (N, M), `logits` (N, M) and `maps` (N, M, h, h),
        all float32, out. Nodes and weights of the n-th member are named `member_n/...`.
    """
    helper = _onnx().helper
    cells = max(net.cells for net in nets)
    nodes, weights = _normalisation()
    for number, net in enumerate(nets, 1):
        for found, more in zip((nodes, weights), _member(net, cells, _prefix(number))):
            found += more
    columns, cams = (
        [_prefix(number) + name for number in range(1, len(nets) + 1)]
        for name in (_LOGIT, _ENLARGED)
    )
    nodes += [
        helper.make_node("Concat", columns, [LOGITS], LOGITS, axis=1),
        helper.make_node("Sigmoid", [LOGITS], [MEMBERS], MEMBERS),
        helper.make_node(
            "ReduceMean", [MEMBERS], [PROBABILITY], PROBABILITY, axes=[1], keepdims=0
        ),
        helper.make_node("Concat", cams, [MAPS], MAPS, axis=1),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes, "xenon", *_inputs_and_outputs(size, len(nets), cells), weights
        ),
        producer_name="xenon",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    helper.set_model_props(
        model, {key: json.dumps(value) for key, value in properties.items()}
    )
    _onnx().checker.check_model(model, full_check=True)
    return model


def _prefix(number: int) -> str:
    return f"member_{number}/"


def _member(net: ConvertedNet, cells: int, prefix: str) -> tuple[list[Any], list[Any]]:
    """Copy a net into the graph of all: nodes, and the numbers that they take."""
    nodes = [_copy(node) for node in net.graph.node]
    for node in nodes:
        node.name = prefix + node.name
        for names in (node.input, node.output):
            names[:] = [n if n in ("", _NORMALISED) else prefix + n for n in names]
    weights = [_copy(each) for each in net.graph.initializer]
    for each in weights:
        each.name = prefix + each.name
    more_nodes, more_weights = _enlargement(net.cells, cells, prefix)
    return [*nodes, *more_nodes], [*weights, *more_weights]


def _enlargement(old: int, new: int, prefix: str) -> tuple[list[Any], list[Any]]:
    """Bring a map to the size of the largest, as `maps.average` does."""
    onnx = _onnx()
    shares = cam.resampling_matrix(old, new).astype(np.float32)
    rows, columns, taller = (prefix + x for x in ("rows", "columns", "taller"))
    large = prefix + _ENLARGED
    nodes = [
        onnx.helper.make_node("MatMul", [rows, prefix + _MAP], [taller], taller),
        onnx.helper.make_node("MatMul", [taller, columns], [large], large),
    ]
    numbers = {rows: shares, columns: np.ascontiguousarray(shares.T)}
    return nodes, [onnx.numpy_helper.from_array(a, n) for n, a in numbers.items()]


def _inputs_and_outputs(
    size: int, members: int, cells: int
) -> tuple[list[Any], list[Any]]:
    """What goes in, and what comes out."""
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
    """Do what `network.normalise` does: nodes, and the numbers that they take."""
    onnx = _onnx()
    make = onnx.helper.make_node
    numbers = {
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
    return nodes, [onnx.numpy_helper.from_array(a, n) for n, a in numbers.items()]


def _copy(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy
