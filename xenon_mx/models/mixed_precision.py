"""A net whose layers compute in 16 bits while its weights stay float32.

Owns which layers of a net do, and the block that training runs. Must not know the loss,
the optimizer, or which device has which type.
"""

from __future__ import annotations

import json
from typing import Any, Sequence

import numpy as np

from xenon_mx.models import network
from xenon_mx.runtime.half_precision import BFLOAT16, FLOAT16
from xenon_mx.runtime.mxnet import amp, gluon, mx, nn

# NumPy has no bfloat16: MXNet calls it by this structure.
_DTYPES = {
    BFLOAT16: np.dtype([(BFLOAT16, np.uint16)]),
    FLOAT16: np.dtype(FLOAT16),
}
_DATA = "data"  # the name of the input

# oneDNN computes their grouped convolutions in bfloat16 no faster than in float32:
# measured, 0.47 to 1.03 times the rate. Other nets have 1.3 to 1.8 times.
_GROUPED = ("resnext", "se_resnext", "mobilenet")


def can_gain(name: str, dtype: str) -> bool:
    """Return whether a net of `net_names.NAMES` is trained faster in a 16-bit type."""
    return dtype != BFLOAT16 or not name.startswith(_GROUPED)


class MixedPrecisionNet(gluon.Block):
    """A net that computes its feature map in 16 bits, and shares the net's parameters.

    Parameters, their gradients, BatchNorm's statistics, pooling over the whole map and
    the last layer are float32. MXNet's `amp.init` would change its operators for the
    whole process, validation included; here only the graph of this block has casts.

    Args:
        net: Initialized on all devices; trained through this block, it is validated and
            saved as ever.
        dtype: `BFLOAT16` or `FLOAT16`.
        reference: Allocate memory at each pass.
    """

    def __init__(self, net: network.Net, dtype: str, reference: bool = False) -> None:
        super().__init__()
        self.features = gluon.SymbolBlock(
            cast_features(net, dtype),
            [mx.sym.var(_DATA, dtype="float32")],
            params=net.features.collect_params(),
        )
        self.output = net.output
        network.hybridize(self.features, reference)

    def forward(self, x: Any) -> Any:
        """Return the (N, 1) float32 logits of (N, 3, H, W) normalised float32."""
        return self.output(self.features(x))


def cast_features(net: network.Net, dtype: str) -> Any:
    """Build the graph of a net's features, with casts to 16 bits and back.

    Returns:
        A symbol with the input `data`, (N, 3, H, W) float32, and the output (N, C)
        float32. The parameters have the net's names.
    """
    *layers, pooling, flatten = net.features._children.values()
    stem = _stem(layers)
    features = _compose(stem, mx.sym.var(_DATA, dtype="float32"))
    excluded: list[str] = []
    if dtype == BFLOAT16:
        # oneDNN has no fast bfloat16 convolution of three channels: what it falls back
        # on leaves a layout in which the BatchNorm behind it is slow, too. In float32,
        # these few layers take a twentieth of the time.
        excluded = _convolutions(features)
        features = mx.sym.amp_cast(features, dtype=_DTYPES[dtype])
    features = _compose(layers[len(stem) :], features)
    features = amp.convert_symbol(
        features,
        target_dtype=dtype,
        excluded_sym_names=excluded,
        data_names=features.list_inputs(),  # all come in as float32
    )
    features = mx.sym.amp_cast(features, dtype="float32")
    return flatten(pooling(features))


def _stem(layers: Sequence[gluon.Block]) -> list[gluon.Block]:
    """Return the first layers, up to the first pooling or the second convolution."""
    convolutions = 0
    for number, layer in enumerate(layers):
        if isinstance(layer, nn.MaxPool2D):
            return list(layers[: number + 1])
        is_simple = not layer._children
        convolutions += isinstance(layer, nn.Conv2D)
        if not is_simple or convolutions > 1:
            return list(layers[:number])
    return []


def _compose(layers: Sequence[gluon.Block], symbol: Any) -> Any:
    for layer in layers:
        symbol = layer(symbol)
    return symbol


def _convolutions(symbol: Any) -> list[str]:
    """Return the names of the convolutions of a graph."""
    nodes = json.loads(symbol.tojson())["nodes"]
    return [node["name"] for node in nodes if node["op"] == "Convolution"]
