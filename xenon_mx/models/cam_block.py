"""The Gluon block that returns a net's class activation map beside its logit.

Owns the map's definition, and where the cells of a net's last feature map lie in its
input; must not know images, overlays or files.
"""

from __future__ import annotations

import json
from ast import literal_eval
from typing import Any

from xenon_mx.models import network
from xenon_mx.runtime.mxnet import gluon, mx


def build(net: network.Net, reference: bool = False) -> gluon.Block:
    """Build a block that shares a net's parameters and returns logit and map.

    The map is M = sum_k w_k f_k (Zhou et al. 2016; the paper, section 5): f_k are the
    channels of the last feature map, w_k the weights of the linear layer. Pooling and
    the linear layer change places, so the mean of M plus the bias is the logit.

    Returns:
        A block from (N, 3, H, W) normalised float32 to the (N, 1) logits, by the same
        operators as the net's own, and the (N, 1, h, w) maps.
    """
    block = _CamBlock()
    network.hybridize(block, reference)
    block.add(net)
    return block


class _CamBlock(gluon.HybridBlock):
    """A net's feature layers, followed by its logit and by its activation map."""

    def add(self, net: network.Net) -> None:
        self.net = net
        self.weight = net.output.weight

    def hybrid_forward(self, F: Any, x: Any, weight: Any) -> Any:  # noqa: N803
        # What precedes the pooling, such as Dropout, is among the layers.
        *layers, pool, flatten = self.net.features._children.values()
        for layer in layers:
            x = layer(x)
        logit = self.net.output(flatten(pool(x)))
        kernel = weight.reshape((1, -1, 1, 1))
        return logit, F.Convolution(
            x, kernel, kernel=(1, 1), num_filter=1, no_bias=True
        )


def cam_extent(net: network.Net, size: int) -> tuple[float, float]:
    """Compute where the cells of a net's last feature map lie in its input.

    Strided layers with padding start at the first pixel, not in the middle of the first
    stride. The cells of a ResNet at 320 px, 32 px apart, are centred at 0, 32, ... 288:
    drawn over the whole square, the map would lie half a cell too far down and right.

    Args:
        net: The net.
        size: The side of its square input, px.

    Returns:
        Start and end of the row of cells, in px from the edge of the square, such that
        each cell is centred on its receptive field. The same on both axes.
    """
    symbol = mx.sym.var("data")
    for layer in list(net.features._children.values())[:-2]:
        symbol = layer(symbol)
    cells = symbol.infer_shape(data=(1, 3, size, size))[1][0][-1]
    nodes = json.loads(symbol.tojson())["nodes"]
    # By node: the stride between its cells, and the centre of the first cell, in px.
    fields: dict[int, tuple[float, float]] = {}
    for number, node in enumerate(nodes):
        inputs = [fields[entry[0]] for entry in node["inputs"] if entry[0] in fields]
        if node["name"] == "data":
            fields[number] = (1.0, 0.5)
        elif inputs:  # branches that meet agree, except for SE's channel weights
            fields[number] = _through_layer(node, *inputs[0])
    stride, centre = fields[len(nodes) - 1]
    return centre - stride / 2, centre + (cells - 0.5) * stride


def _through_layer(node: Any, stride: float, centre: float) -> tuple[float, float]:
    """Return stride and first centre behind an operator; only windows change them."""
    attrs = node.get("attrs", {})
    if node["op"] not in ("Convolution", "Pooling"):
        return stride, centre
    if attrs.get("global_pool") == "True":
        return stride, centre
    kernel = literal_eval(attrs["kernel"])[0]
    step, pad, dilate = (
        (literal_eval(attrs.get(key, "()")) or (default,))[0]
        for key, default in (("stride", 1), ("pad", 0), ("dilate", 1))
    )
    return stride * step, centre + stride * (dilate * (kernel - 1) / 2 - pad)
