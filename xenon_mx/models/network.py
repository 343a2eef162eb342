"""Gluon nets with one logit, built by name and optionally from a weights file.

Owns the architecture and the normalisation of its input; must not know data sets, the
loss, or where weights come from.

    net = network.build("densenet169", pretrained="densenet169.params")
    logit = net(network.normalise(pixels))  # (N, 1)
    pooled = net.features(network.normalise(pixels))  # (N, C)
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np

from xenon_mx.config import MEAN, STD
from xenon_mx.errors import XenonError
from xenon_mx.models import net_names, weight_input, weight_matching
from xenon_mx.runtime.lazy import LazyMapping
from xenon_mx.runtime.mxnet import gluon, model_zoo, mx, nn
from xenon_mx.settings import AnyPath

# All passes have one shape, except for the last of an evaluation: memory is planned
# once instead of being allocated at every pass.
_STATIC_PLAN = {"static_alloc": True, "static_shape": True}


_PROBE_PX = 64  # any size that every net can pool: weights do not depend on it


class Net(gluon.HybridBlock):
    """Layers of a zoo net, global average pooling, and one logit.

    The zoo's DenseNets end in a 7x7 pooling that, at 320 px, silently reads only the
    top left of the 10x10 feature map; its SqueezeNets in a 13x13 pooling after a ReLU,
    which would keep the logit from being negative. Here every net pools its whole
    feature map, and nothing follows the linear layer.

    All parameter keys have the zoo's usual form (`features.0.weight`,
    `output.weight`), also those of nets that have other keys in the zoo.

    Attributes:
        taken: How its weights file was taken; None if there was none.
    """

    taken: weight_input.Taken | None = None

    def __init__(self, layers: Sequence[gluon.Block]) -> None:
        super().__init__()
        with self.name_scope():
            self.features = nn.HybridSequential()
            self.features.add(*layers, nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(1)

    def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: N803 - Gluon's names
        """Return the (N, 1) logits of (N, 3, H, W) normalised float32."""
        return self.output(self.features(x))


def build(
    name: str,
    pretrained: AnyPath | None = None,
    ctx: Any = None,
    reference: bool = False,
    sha256: str | None = None,
    pretrained_input: str | None = None,
    needs_logit: bool = False,
) -> Net:
    """Build a net with one logit and its weights.

    Args:
        name: One of `net_names.NAMES`.
        pretrained: A weights file, in any format that `weight_files.read` supports and
            with the key names of Gluon's zoo, of MXNet's export, of torchvision and
            timm, or of this module, also after the prefix of a wrapper such as
            `module.`. If it has one logit, its last layer is loaded too; otherwise that
            layer is initialized at random, and `Net.taken` says so. None initializes
            all weights at random (He et al. 2015).
        ctx: An MXNet context or a list of them; None is cpu().
        reference: Run the zoo's layers one by one and allocate memory at each pass:
            slower, with the same results to the bit.
        sha256: The SHA-256 that the weights file must have, if it was recorded.
        pretrained_input: The input that its net was trained on: see
            `weight_input.parse`.
        needs_logit: Whether the file must have the last layer, with one logit.

    Raises:
        XenonError: The name is unknown, or the file has another SHA-256, does not fit
            the net or lacks the last layer that it must have.
    """
    ctxs = [mx.cpu()] if ctx is None else ctx if isinstance(ctx, list) else [ctx]
    net, zoo = build_uninitialized(name)
    weights: dict[str, np.ndarray] = {}
    if pretrained:
        try:
            weights, net.taken = weight_matching.load_matching(
                Path(pretrained), name, net, zoo, sha256, pretrained_input
            )
        except weight_matching.MismatchError as error:
            raise _of_another_net(error) or error from None
    if needs_logit and not {"output.weight", "output.bias"} <= weights.keys():
        raise XenonError(
            f"{pretrained}: has no last layer with one logit, the part that tells "
            f"normal from abnormal: it cannot be used without training"
        )
    _initialize(net, weights, ctxs)
    # Only DenseNets: oneDNN cannot fuse the gradient of some ResNeXts and MobileNets.
    on_cpu = all(ctx.device_type == "cpu" for ctx in ctxs)
    if on_cpu and not reference and name.startswith("densenet"):
        _fuse(net)
    hybridize(net, reference)
    return net


def _initialize(net: Net, weights: Mapping[str, np.ndarray], ctxs: list[Any]) -> None:
    """Initialize a net on devices, with weights where there are any, else at random."""
    he = mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2)
    net.features.initialize(mx.init.Zero() if weights else he, ctx=ctxs)
    net.output.initialize(mx.init.Xavier(), ctx=ctxs)
    params = net._collect_params_with_prefix()
    for key, array in weights.items():
        params[key].set_data(mx.nd.array(array))


def hybridize(block: gluon.Block, reference: bool) -> None:
    """Hybridize a block, with a static memory plan unless it is the reference."""
    block.hybridize(**({} if reference else _STATIC_PLAN))


def validation_block(net: Net, reference: bool = False) -> gluon.Block:
    """Wrap a net in a separate hybridized block for validation between epochs.

    The block shares the net's layers and weights but has its own memory plan. With a
    single block, MXNet would discard the memory plan for training at each validation,
    and allocate it again beside the old one.
    """
    block = nn.HybridSequential()
    hybridize(block, reference)
    block.add(net)
    return block


class _Identity(gluon.HybridBlock):
    """Identity replacing a layer fused into its predecessor."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: N803 - Gluon's names
        return x


def _fuse(block: gluon.Block) -> None:
    """Fuse each ReLU that directly follows a BatchNorm into the BatchNorm.

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


def build_uninitialized(name: str) -> tuple[Net, gluon.Block]:
    """Build a net with weight shapes but no values, and the zoo's net it comes from."""
    if name not in net_names.NAMES:
        raise XenonError(net_names.unknown(name))
    zoo = model_zoo.get_model(name, pretrained=False)
    net = Net(_layers(zoo))
    net.infer_shape(mx.nd.zeros((1, 3, _PROBE_PX, _PROBE_PX)))
    return net, zoo


# All nets take a second or two, which a program that tries many files should pay once.
_blueprint = functools.lru_cache(maxsize=None)(build_uninitialized)


def _of_another_net(mismatch: weight_matching.MismatchError) -> XenonError | None:
    """Return the error that names the nets that a file fits; None if it fits none."""
    arrays = mismatch.arrays
    fitting = [
        name
        for name in net_names.NAMES
        if weight_matching.fits(arrays, name, *_blueprint(name))
    ]
    if not fitting:
        return None
    return XenonError(
        f"{mismatch.file}: holds the weights of {' or '.join(fitting)}, not of "
        f"{mismatch.name}: use --model {fitting[0]}, or name other weights"
    )


def _layers(zoo: gluon.Block) -> list[gluon.Block]:
    """Return the layers of a zoo net up to its last feature map."""
    if hasattr(zoo, "features"):
        layers = list(zoo.features._children.values())
    else:  # the v1b family
        names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
        layers = [getattr(zoo, name) for name in (*names, "layer4")]
    while isinstance(layers[-1], (nn.Flatten, nn.AvgPool2D, nn.GlobalAvgPool2D)):
        layers.pop()
    return layers


def state_dict(net: Net) -> dict[str, np.ndarray]:
    """Return every array of a net, from its first device: key to float32 array."""
    return dict(lazy_state_dict(net))


def lazy_state_dict(net: Net) -> Mapping[str, np.ndarray]:
    """Return what `state_dict` returns, each array read when it is asked for."""
    params = net._collect_params_with_prefix()
    return LazyMapping(
        {key: param.list_data()[0].asnumpy for key, param in params.items()}
    )


def load_state_dict(net: Net, arrays: Mapping[str, np.ndarray]) -> None:
    """Load what `state_dict` returned into a net.

    Raises:
        XenonError: Keys or shapes are not those of this net.
    """
    params = net._collect_params_with_prefix()
    if {k: a.shape for k, a in arrays.items()} != {
        k: p.shape for k, p in params.items()
    }:
        raise XenonError("the arrays are not those of this net")
    for key, array in arrays.items():
        params[key].set_data(mx.nd.array(array))


def normalise(pixels: Any) -> Any:
    """Normalise gray pixels as the images that the zoo's weights were trained on.

    The only place where pixels are normalised, in training and prediction.

    Args:
        pixels: (N, H, W) uint8 NDArray.

    Returns:
        (N, 3, H, W) float32 NDArray on the same device: the gray value in R, G and B,
        minus the channel's mean, divided by the channel's standard deviation.
    """
    gray = pixels.astype("float32").expand_dims(1)
    # One channel at a time with scalars: faster than broadcasting arrays of three.
    channels = [(gray - 255 * mean) / (255 * std) for mean, std in zip(MEAN, STD)]
    return mx.nd.concat(*channels, dim=1)
