"""From a name to a Gluon net with one logit, and ImageNet's weights into it.

Owns the architecture and the normalisation of what goes in. Knows no data, no loss.

    net = models.build("densenet169", pretrained=Path("densenet169.params"))
    logit = net(models.normalise(pixels))       # (N, 1)
    pooled = net.features(models.normalise(pixels))  # (N, C)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import numpy as np

from xenon_mx.engine import gluon, model_zoo, mx, nn
from xenon_mx.errors import XenonError

NAMES = tuple(
    [f"densenet{depth}" for depth in (121, 161, 169, 201)]
    + [
        f"resnet{depth}_{version}"
        for version in ("v1", "v2", "v1b")
        for depth in (18, 34, 50, 101, 152)
    ]
)

# Mean and standard deviation of ImageNet's training images, RGB, on the scale 0-1:
# what the zoo's weights were trained with (gluoncv, torchvision).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# What a run records of its net, beside the name: params alone do not tell the pooling.
ARCHITECTURE = {"pooling": "global", "logits": 1}

_IMAGENET_CLASSES = 1000
_PROBE_PX = 64  # any size that every net can pool: weights do not depend on it


class Net(gluon.HybridBlock):
    """A zoo net's layers, pooled over the whole map, and one logit.

    The zoo's DenseNets end in a 7x7 pooling that, at 320 px, reads the top left half
    of the 10x10 map only, without an error. Here every net pools all of it.

    Parameter keys are those of the zoo (`features.0.weight`, `output.weight`); the
    v1b ResNets, which have no `features` there, follow the same form.
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


def build(name: str, pretrained: Path | None = None, ctx: Any = None) -> Net:
    """Build a net with one logit and its weights.

    Args:
        name: One of `NAMES`.
        pretrained: A .params file of the zoo's net with ImageNet's 1000 classes,
            whose last layer is then drawn anew, or of a net of this module, taken
            whole. None draws random weights (He et al. 2015).
        ctx: An MXNet context or a list of them; None is cpu().

    Raises:
        XenonError: The name is unknown, or the file does not fit the net.
    """
    if name not in NAMES:
        raise XenonError(f"{name}: no net of this name; there are {', '.join(NAMES)}")
    ctx = ctx or mx.cpu()
    zoo = model_zoo.get_model(name, classes=_IMAGENET_CLASSES, pretrained=False)
    layers = _layers(zoo)
    net = Net(layers)
    net.output.initialize(mx.init.Xavier(), ctx=ctx)
    if pretrained is None:
        he = mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2)
        net.features.initialize(he, ctx=ctx)
    elif _outputs(pretrained) == 1:
        _load(net, pretrained, ctx)
    else:
        _load(zoo, pretrained, ctx)
    _materialise(net, ctx)
    net.hybridize()
    return net


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


def _materialise(net: Net, ctx: Any) -> None:
    """Run an image through, so that every weight has a shape and a value."""
    first = ctx[0] if isinstance(ctx, list) else ctx
    net(mx.nd.zeros((1, 3, _PROBE_PX, _PROBE_PX), ctx=first)).wait_to_read()


def _outputs(file: Path) -> int:
    """Count the outputs of the net that a .params file holds."""
    arrays = _read_params(file)
    for key in ("output.weight", "fc.weight"):
        if key in arrays:
            return int(arrays[key].shape[0])
    raise XenonError(
        f"{file}: holds neither output.weight nor fc.weight: not a classifier of "
        f"Gluon's model zoo"
    )


def _read_params(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise XenonError(f"{file}: no such file")
    try:
        arrays = mx.nd.load(str(file))
    except mx.base.MXNetError as error:
        raise XenonError(f"{file}: not a .params file of Gluon, or damaged") from error
    if not isinstance(arrays, dict) or not arrays:
        raise XenonError(f"{file}: holds no named parameters")
    return arrays


def _load(net: gluon.Block, file: Path, ctx: Any) -> None:
    """Load a .params file that has exactly the arrays of a net."""
    arrays = _read_params(file)
    params = net._collect_params_with_prefix()
    wrong = [f"{key} is missing" for key in params if key not in arrays]
    wrong += [f"{key} is unknown to the net" for key in arrays if key not in params]
    for key, array in arrays.items():
        if key in params and not _fits(params[key].shape, array.shape):
            wrong.append(f"{key} is {array.shape}, not {params[key].shape}")
        elif not np.isfinite(array.asnumpy()).all():
            wrong.append(f"{key} holds values that are not finite")
    if wrong:
        raise XenonError(
            f"{file}: does not fit the net: {len(wrong)} differences, such as: "
            f"{wrong[0]}",
            wrong,
        )
    net.load_parameters(str(file), ctx=ctx)


def _fits(expected: tuple[int, ...] | None, actual: tuple[int, ...]) -> bool:
    """Compare shapes; 0 stands for a size that the net learns from its input."""
    if not expected:
        return True
    return len(expected) == len(actual) and all(
        e in (0, a) for e, a in zip(expected, actual)
    )


def count_parameters(net: gluon.Block) -> int:
    """Count a net's trainable numbers."""
    params = net.collect_params().values()
    return sum(int(np.prod(p.shape)) for p in params if p.grad_req != "null")


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
    mean, std = (
        mx.nd.array(np.array(values) * 255, ctx=pixels.context).reshape((1, 3, 1, 1))
        for values in (MEAN, STD)
    )
    return mx.nd.broadcast_div(mx.nd.broadcast_sub(gray, mean), std)
