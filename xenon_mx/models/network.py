"""From a name to a Gluon net with one logit, and ImageNet's weights into it.

Owns the architecture and the normalisation of what goes in. Knows no data, no loss,
and not where weights come from.

    net = models.build("densenet169", pretrained=Path("densenet169.params"))
    logit = net(models.normalise(pixels))       # (N, 1)
    pooled = net.features(models.normalise(pixels))  # (N, C)
"""

from __future__ import annotations

import json
from ast import literal_eval
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from xenon_mx.config import MEAN, STD
from xenon_mx.errors import XenonError
from xenon_mx.models import weight_files as arrays
from xenon_mx.models import weight_names
from xenon_mx.runtime.mxnet import gluon, model_zoo, mx, nn

# Nets of gluoncv's zoo that end in a map, a pooling of it and a linear layer. ResNeSt
# is left out: from 26 layers on, its DropBlock holds masks of a 224 px image's maps.
NAMES = (
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
    *(
        f"resnet{depth}_{version}"
        for version in ("v1", "v2", "v1b")
        for depth in (18, 34, 50, 101, 152)
    ),
    *(
        f"{family}{depth}_{groups}"
        for family in ("resnext", "se_resnext")
        for depth, groups in ((50, "32x4d"), (101, "32x4d"), (101, "64x4d"))
    ),
    *(
        f"mobilenet{version}{width}"
        for version in ("", "v2_")
        for width in ("0.25", "0.5", "0.75", "1.0")
    ),
    "squeezenet1.0",
    "squeezenet1.1",
)

# All passes have one shape, but for the last of an evaluation: their memory is planned
# once, and not fetched from the system at every pass.
_PLANNED = {"static_alloc": True, "static_shape": True}

_HEAD = {"output.weight", "output.bias"}
_MOST_DETAILS = 20  # another net's weights differ in hundreds of ways
_PROBE_PX = 64  # any size that every net can pool: weights do not depend on it


class Net(gluon.HybridBlock):
    """A zoo net's layers, pooled over the whole map, and one logit.

    The zoo's DenseNets end in a 7x7 pooling that, at 320 px, reads the top left half
    of the 10x10 map only, without an error; its SqueezeNets in a 13x13 one, after a
    ReLU that would keep a logit from being negative. Here every net pools all of its
    map, and nothing follows the linear layer.

    Parameter keys have the form of the zoo's (`features.0.weight`, `output.weight`),
    also for nets that have another there.
    """

    def __init__(self, layers: Sequence[gluon.Block]) -> None:
        super().__init__()
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.features.add(*layers, nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(1)

    def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: N803 - Gluon's names
        """(N, 3, H, W) normalised float32 to (N, 1) logits."""
        return self.output(self.features(x))


def build(
    name: str,
    pretrained: Path | None = None,
    ctx: Any = None,
    reference: bool = False,
) -> Net:
    """Build a net with one logit and its weights.

    Args:
        name: One of `NAMES`.
        pretrained: A weights file, in any format that `arrays.read` knows and in the
            naming of Gluon's zoo, of torchvision and timm, or of this module. One
            logit is taken whole; with any other number of classes, the last layer is
            drawn anew. None draws random weights (He et al. 2015).
        ctx: An MXNet context or a list of them; None is cpu().
        reference: Run layer by layer as the zoo wrote them, in memory taken anew at
            each pass: slower, with the same results to the bit.

    Raises:
        XenonError: The name is unknown, or the file does not fit the net.
    """
    ctxs = [mx.cpu()] if ctx is None else ctx if isinstance(ctx, list) else [ctx]
    net, zoo = _build_uninitialized(name)
    he = mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2)
    weights = _match_weights(pretrained, name, net, zoo) if pretrained else {}
    net.features.initialize(mx.init.Zero() if weights else he, ctx=ctxs)
    net.output.initialize(mx.init.Xavier(), ctx=ctxs)
    params = net._collect_params_with_prefix()
    for key, array in weights.items():
        params[key].set_data(mx.nd.array(array))
    # DenseNets alone: of some ResNeXts and MobileNets, oneDNN cannot fuse the gradient.
    on_cpu = all(each.device_type == "cpu" for each in ctxs)
    if on_cpu and not reference and name.startswith("densenet"):
        _fuse(net)
    net.hybridize(**({} if reference else _PLANNED))
    return net


def validation_block(net: Net, reference: bool = False) -> gluon.Block:
    """Give a net that is being trained a second door, for validation between epochs.

    It has the same layers and weights, and a plan of memory of its own: through one
    door, MXNet would throw away the plan of training, and make it anew beside it.
    """
    door = nn.HybridSequential()
    door.hybridize(**({} if reference else _PLANNED))
    door.add(net)
    return door


def cam_block(net: Net, reference: bool = False) -> gluon.Block:
    """Give a net a door to its class activation map, beside the logit.

    The map is M = sum_k w_k f_k (Zhou et al. 2016; the paper, section 5): f_k are the
    channels of the last map, w_k the weights of the linear layer. Pooling and the
    linear layer change places, so the mean of M plus the bias is the logit.

    Returns:
        A block from (N, 3, H, W) normalised float32 to the (N, 1) logits, by the same
        operators as the net's own, and the (N, 1, h, w) maps.
    """
    door = _CamBlock()
    door.hybridize(**({} if reference else _PLANNED))
    door.add(net)
    return door


def cam_extent(net: Net, size: int) -> tuple[float, float]:
    """Tell where the cells of a net's last map look.

    Strided layers with padding count from the first pixel, not from the middle of the
    first stride. The cells of a ResNet at 320 px, 32 px apart, look at 0, 32, ... 288:
    drawn over the whole square, everything would be half a cell too far down right.

    Args:
        net: The net.
        size: The side of its square input, px.

    Returns:
        Start and end, in px from the edge of the square, of h cells side by side that
        have what they look at in their middles. On both axes the same.
    """
    symbol = mx.sym.var("data")
    for layer in list(net.features._children.values())[:-2]:
        symbol = layer(symbol)
    cells = symbol.infer_shape(data=(1, 3, size, size))[1][0][-1]
    nodes = json.loads(symbol.tojson())["nodes"]
    # By node: px between its cells, and px from the edge to the middle of the first.
    looks: dict[int, tuple[float, float]] = {}
    for number, node in enumerate(nodes):
        before = [looks[each[0]] for each in node["inputs"] if each[0] in looks]
        if node["name"] == "data":
            looks[number] = (1.0, 0.5)
        elif before:  # branches that meet agree, but for the scales of SE's channels
            looks[number] = _through_layer(node, *before[0])
    apart, first = looks[len(nodes) - 1]
    return first - apart / 2, first + (cells - 0.5) * apart


def _through_layer(node: Any, apart: float, first: float) -> tuple[float, float]:
    """Where the cells behind an operator look; only windows change that."""
    attrs = node.get("attrs", {})
    if node["op"] not in ("Convolution", "Pooling"):
        return apart, first
    if attrs.get("global_pool") == "True":
        return apart, first
    kernel = literal_eval(attrs["kernel"])[0]
    step, pad, dilate = (
        (literal_eval(attrs.get(key, "()")) or (default,))[0]
        for key, default in (("stride", 1), ("pad", 0), ("dilate", 1))
    )
    return apart * step, first + apart * (dilate * (kernel - 1) / 2 - pad)


class _CamBlock(gluon.HybridBlock):
    """Runs a net's layers up to its last map once, and goes on by both ways."""

    def add(self, net: Net) -> None:
        self.net = net
        self.weight = net.output.weight

    def hybrid_forward(self, F: Any, x: Any, weight: Any) -> Any:  # noqa: N803
        # Whatever stands before the pooling, such as Dropout, is among the layers.
        *layers, pool, flatten = self.net.features._children.values()
        for layer in layers:
            x = layer(x)
        logit = self.net.output(flatten(pool(x)))
        kernel = weight.reshape((1, -1, 1, 1))
        return logit, F.Convolution(
            x, kernel, kernel=(1, 1), num_filter=1, no_bias=True
        )


class _Identity(gluon.HybridBlock):
    """Stands where a layer was that another one does the work of."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: N803 - Gluon's names
        return x


def _fuse(block: gluon.Block) -> None:
    """Let each BatchNorm rectify what it gives, where a ReLU alone follows it.

    One pass over memory instead of two (oneDNN's fused operator, which MXNet has on
    CPUs only). No parameter and no key changes.
    """
    children = block._children
    if isinstance(block, nn.HybridSequential):
        for (_, norm), (key, relu) in zip([*children.items()], [*children.items()][1:]):
            if type(norm) is nn.BatchNorm and _is_relu(relu):
                norm.fuse_relu = True
                children[key] = _Identity(prefix=relu.prefix)
    for child in children.values():
        _fuse(child)


def _is_relu(block: gluon.Block) -> bool:
    return isinstance(block, nn.Activation) and block._act_type == "relu"


def _build_uninitialized(name: str) -> tuple[Net, gluon.Block]:
    """Make a net that knows the shapes of its weights, and the zoo's net around it."""
    if name not in NAMES:
        raise XenonError(f"{name}: no net of this name; there are {', '.join(NAMES)}")
    zoo = model_zoo.get_model(name, pretrained=False)
    net = Net(_layers(zoo))
    net.infer_shape(mx.nd.zeros((1, 3, _PROBE_PX, _PROBE_PX)))
    return net, zoo


def _layers(zoo: gluon.Block) -> list[gluon.Block]:
    """The layers of a zoo net up to its last map, without pooling and classifier."""
    if hasattr(zoo, "features"):
        layers = list(zoo.features._children.values())
    else:  # the v1b family
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
        layers = [getattr(zoo, name) for name in (*names, "layer4")]
    while isinstance(layers[-1], (nn.Flatten, nn.AvgPool2D, nn.GlobalAvgPool2D)):
        layers.pop()
    return layers


def _match_weights(
    file: Path, name: str, net: Net, zoo: gluon.Block
) -> dict[str, np.ndarray]:
    """Read the weights of a net, every array accounted for.

    Returns:
        The net's key to float32 array, without `output` if the file has not one logit.
    """
    held = arrays.read(file)
    current = weight_names.current_names(held)
    namings = _known_namings(name, net, zoo)
    # The naming that explains most of the file, to say then what it leaves unexplained.
    naming = max(namings, key=lambda each: len(current.keys() & set(each.values())))
    wrong = [f"{theirs} is missing" for theirs in naming.values() - current.keys()]
    surplus = current.keys() - set(naming.values())
    wrong += [f"{current[theirs]} is unknown to the net" for theirs in surplus]
    found = {k: held[current[t]] for k, t in naming.items() if t in current}
    head = {key: _as_linear(array) for key, array in found.items() if key in _HEAD}
    found.update(head)
    classes = max(map(len, head.values()), default=0)
    for key, shape in _shapes(net, classes).items():
        if key in found and found[key].shape != shape:
            wrong.append(f"{current[naming[key]]} is {found[key].shape}, not {shape}")
    if wrong:
        raise XenonError(
            _mismatch_message(file, name, wrong), sorted(wrong)[:_MOST_DETAILS]
        )
    dropped = () if classes == 1 else _HEAD
    return {k: a.astype(np.float32) for k, a in found.items() if k not in dropped}


def _mismatch_message(file: Path, name: str, wrong: list[str]) -> str:
    some = f", of which {_MOST_DETAILS} are above" if len(wrong) > _MOST_DETAILS else ""
    return (
        f"{file}: does not fit {name}: {len(wrong)} differences{some}, such as: "
        f"{min(wrong)}; are these the weights of another --model?"
    )


def _known_namings(name: str, net: Net, zoo: gluon.Block) -> list[dict[str, str]]:
    """Every way in which a file may name the weights of a net: key to name."""
    own = {param: key for key, param in net._collect_params_with_prefix().items()}
    zoos = zoo._collect_params_with_prefix()
    # What is not among the layers that the net took over is the zoo's last layer.
    keys = {k: own.get(p, "output." + k.split(".")[-1]) for k, p in zoos.items()}
    namings = [
        {key: key for key in own.values()},
        {keys[k]: k for k in zoos},
        # Before MXNet 1.2: names without dots, after the net's prefix.
        {keys[k]: param.name[len(zoo.prefix) :] for k, param in zoos.items()},
    ]
    torch_name = weight_names.torchvision_naming(name)
    if torch_name:
        namings.append({keys[k]: torch_name(k) for k in zoos})
    return namings


def _as_linear(array: np.ndarray) -> np.ndarray:
    """Give a 1x1 convolution as the linear layer that it is."""
    return array[:, :, 0, 0] if array.shape[2:] == (1, 1) else array


def _shapes(net: Net, classes: int) -> dict[str, tuple[int, ...]]:
    """Give the shape of each weight of a net with a number of classes."""
    shapes = {k: p.shape for k, p in net._collect_params_with_prefix().items()}
    return {k: (classes, *s[1:]) if k in _HEAD else s for k, s in shapes.items()}


def state_dict(net: Net) -> dict[str, np.ndarray]:
    """Give every array of a net, from its first device: key to float32 array."""
    params = net._collect_params_with_prefix()
    return {key: param.list_data()[0].asnumpy() for key, param in params.items()}


def load_state_dict(net: Net, arrays: Mapping[str, np.ndarray]) -> None:
    """Give a net back what `state_dict` took.

    Raises:
        XenonError: The arrays are not those of this net.
    """
    params = net._collect_params_with_prefix()
    if {k: a.shape for k, a in arrays.items()} != {
        k: p.shape for k, p in params.items()
    }:
        raise XenonError("the arrays are not those of this net")
    for key, array in arrays.items():
        params[key].set_data(mx.nd.array(array))


def count_parameters(net: gluon.Block) -> int:
    """Count a net's trainable numbers."""
    params = net.collect_params().values()
    return sum(int(np.prod(p.shape)) for p in params if p.grad_req != "null")


def count_size(name: str, pixels: int) -> tuple[int, float]:
    """Tell how large a net is, without building it.

    Args:
        name: One of `NAMES`.
        pixels: The side of its square input.

    Returns:
        The number of its trainable numbers, and the GFLOP of one image's forward
        pass: 2 for each multiplication and addition of its convolutions and linear
        layers; what little the others do is left out.
    """
    net, _ = _build_uninitialized(name)
    symbol = net(mx.sym.var("data"))
    inner = symbol.get_internals()
    _, shapes, _ = inner.infer_shape(data=(1, 3, pixels, pixels))
    shape = dict(zip(inner.list_outputs(), shapes))
    nodes = json.loads(symbol.tojson())["nodes"]
    total = 0
    for node in nodes:
        if node["op"] in ("Convolution", "FullyConnected"):
            weight = nodes[node["inputs"][1][0]]["name"]
            places = shape[f"{node['name']}_output"][2:]  # of the map
            total += 2 * int(np.prod(shape[weight]) * np.prod(places))
    return count_parameters(net), total / 1e9


def normalise(pixels: Any) -> Any:
    """Turn gray pixels into what the zoo's weights were trained on.

    The one place where pixels are normalised, for training and predicting alike.

    Args:
        pixels: (N, H, W) uint8 NDArray.

    Returns:
        (N, 3, H, W) float32 NDArray on the same device: the gray value in R, G and B,
        less the mean, divided by the standard deviation, of each channel.
    """
    gray = pixels.astype("float32").expand_dims(1)
    # A channel at a time with plain numbers: faster than broadcasting arrays of three.
    channels = [(gray - 255 * mean) / (255 * std) for mean, std in zip(MEAN, STD)]
    return mx.nd.concat(*channels, dim=1)
