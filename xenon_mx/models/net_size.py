"""How large a net is: parameters, bytes and operations.

Owns the counting; must not know weights files.
"""

from __future__ import annotations

import json

import numpy as np

from xenon_mx.models.network import Net, build_uninitialized
from xenon_mx.runtime.mxnet import gluon, mx


def count_parameters(net: gluon.Block) -> int:
    """Count a net's trainable parameters."""
    params = net.collect_params().values()
    return sum(int(np.prod(p.shape)) for p in params if p.grad_req != "null")


def count_bytes(net: Net) -> tuple[int, int]:
    """Count the bytes of a net's float32 arrays: of all, and of the trainable ones."""
    params = net.collect_params().values()
    total = sum(int(np.prod(param.shape)) for param in params)
    return 4 * total, 4 * count_parameters(net)


def count_size(name: str, pixels: int) -> tuple[int, float]:
    """Count a net's trainable parameters and operations, without initializing it.

    Args:
        name: One of `net_names.NAMES`.
        pixels: The side of its square input.

    Returns:
        The number of trainable parameters, and the GFLOP of one image's forward pass:
        2 per multiply-accumulate of the convolutions and linear layers; the other
        layers' operations are few and left out.
    """
    net, _ = build_uninitialized(name)
    symbol = net(mx.sym.var("data"))
    internals = symbol.get_internals()
    _, shapes, _ = internals.infer_shape(data=(1, 3, pixels, pixels))
    shape = dict(zip(internals.list_outputs(), shapes))
    nodes = json.loads(symbol.tojson())["nodes"]
    flop = 0
    for node in nodes:
        if node["op"] in ("Convolution", "FullyConnected"):
            weight = nodes[node["inputs"][1][0]]["name"]
            positions = shape[f"{node['name']}_output"][2:]  # none of a linear layer
            flop += 2 * int(np.prod(shape[weight]) * np.prod(positions))
    return count_parameters(net), flop / 1e9
