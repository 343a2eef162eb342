"""The input that the net of a weights file was trained on, made of gray values.

Owns the known inputs, how a file's is recognized, the exact conversion of the first
convolution to this program's own input, and the record of it. Must not know the names
in a file, or nets.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xenon_mx.config import MEAN, STD
from xenon_mx.errors import ConfigError, XenonError

_FLAG = "--pretrained-input"

KEPT, DRAWN_ANEW = "kept", "drawn anew"  # what becomes of a file's last layer

# The input of `network.normalise`, and of nearly all weights from photographs.
IMAGENET = "imagenet"
# A and B of y = A * g + B, with the gray value g from 0 to 1.
_KNOWN = {
    # torchxrayvision's datasets.normalize: from -1024 to 1024.
    "xrv": (2048.0, -1024.0),
    # RadImageNet's pytorch_example.ipynb: (v - 127.5) / 127.5 of 8 bits.
    "half": (2.0, -1.0),
}
# torchxrayvision's models.py: one output for each of default_pathologies.
_XRV_CLASSES = 18

_CHOICES = (
    "xrv (torchxrayvision: gray from -1024 to 1024), half (RadImageNet: from -1 to 1), "
    "or A,B for A * g + B of the gray value g from 0 to 1"
)


class Taken(NamedTuple):
    """How the weights of a file were taken.

    Attributes:
        head: `KEPT`, if the file's last layer has one logit, else `DRAWN_ANEW`.
        input: The input that its net was trained on: a value of --pretrained-input.
    """

    head: str
    input: str


class Layout(NamedTuple):
    """What of a file tells its net's input.

    Attributes:
        channels: Input channels of its first convolution.
        classes: Outputs of its last layer; 0 without one.
        has_thresholds: It holds torchxrayvision's operating points of the classes.
        is_numbered: Its layers are numbered instead of named.
        is_backbone: All of its arrays are those of an attribute `backbone`.
    """

    channels: int
    classes: int
    has_thresholds: bool
    is_numbered: bool
    is_backbone: bool


def parse(value: str | None) -> tuple[float, float] | None:
    """Return A and B of an input y = A * g + B; None for ImageNet's and for no value.

    Args:
        value: `imagenet`, a key of `_KNOWN`, or two numbers with a comma.

    Raises:
        ConfigError: It is something else.
    """
    if value is None or value == IMAGENET:
        return None
    if value in _KNOWN:
        return _KNOWN[value]
    try:
        scale, offset = map(float, value.split(","))
    except ValueError:
        scale = offset = math.nan
    if not (math.isfinite(scale) and math.isfinite(offset) and scale):
        raise ConfigError(
            _FLAG,
            f"must be {IMAGENET}, {_CHOICES}, with A other than 0, such as 2,-1; not "
            f"{value!r}",
        )
    return scale, offset


def canonical(value: str) -> str:
    """Return the one way in which an input is recorded, such as `half` for `2, -1`."""
    parsed = parse(value)
    if parsed is None:
        return IMAGENET
    named = (name for name, known in _KNOWN.items() if known == parsed)
    return next(named, f"{parsed[0]:.9g},{parsed[1]:.9g}")


def of_normalisation(mean: np.ndarray, std: np.ndarray) -> str:
    """Return the input (g - mean) / std, of a gray value g from 0 to 1, as a flag's.

    Args:
        mean: (C,), as a program normalises each channel.
        std: (C,).

    Raises:
        ValueError: The channels have different inputs, and not ImageNet's; or it is
            not finite.
    """
    if mean.shape == std.shape == (3,) and np.allclose([mean, std], [MEAN, STD]):
        return IMAGENET
    if not mean.shape == std.shape or np.ptp(mean) or np.ptp(std) or std[0] <= 0:
        raise ValueError("not the same for all channels")
    return canonical(f"{1 / std[0]:.9g},{-mean[0] / std[0]:.9g}")


def choose(file: Path, given: str | None, layout: Layout) -> str:
    """Return the input of a file's net: the one given, else the one recognized.

    Args:
        file: The file, for error messages.
        given: The value of --pretrained-input.
        layout: What is known of the file.

    Raises:
        XenonError: None is given and none is recognized, or the one given is not
            possible.
    """
    if given == IMAGENET and layout.channels == 1:
        raise XenonError(
            f"{file}: {_FLAG} {IMAGENET} needs three input channels, and the first "
            f"convolution of this file has one: give {_CHOICES}"
        )
    chosen = given or _recognized(layout)
    if chosen is None:
        others = "" if layout.channels == 1 else f"{IMAGENET}, "
        kind = "one input channel" if layout.channels == 1 else "numbered layers"
        raise XenonError(
            f"{file}: weights with {kind}, which do not say how the images of their "
            f"training were scaled: name that with {_FLAG}: {others}{_CHOICES}"
        )
    return canonical(chosen)


def _recognized(layout: Layout) -> str | None:
    if layout.channels == 1:
        is_xrv = layout.has_thresholds or layout.classes == _XRV_CLASSES
        return "xrv" if is_xrv else None
    if layout.is_numbered:
        return "half" if layout.is_backbone and not layout.classes else None
    return IMAGENET


def fold(kernel: np.ndarray, scale: float, offset: float) -> np.ndarray:
    """Convert a first convolution to the input of `network.normalise`.

    On that input, the result gives what the kernel gives on scale * g + offset, also
    where the convolution pads either input with zeros.

    Args:
        kernel: (N, 1, H, W), or (N, 3, H, W) of which all channels had the same input.
        scale: The A of A * g + B, of a gray value from 0 to 1.
        offset: The B.

    Returns:
        (N, 3, H, W) float32.
    """
    factors = channel_factors(scale, offset)
    gray = kernel.astype(np.float64).sum(axis=1, keepdims=True)
    return (gray * factors[:, None, None]).astype(np.float32)


def channel_factors(scale: float, offset: float) -> np.ndarray:
    """Return the factors that make scale * g + offset of the three normalised channels.

    Channel c is (g - MEAN[c]) / STD[c]. Two equations, one of g and one of what is
    constant, leave a line of solutions: this is the one of the smallest norm. Without
    the second equation, and with a bias instead, zero padding would count as gray.

    Returns:
        (3,) float64.
    """
    mean, std = np.array(MEAN), np.array(STD)
    equations = np.stack([1 / std, mean / std])
    return np.linalg.pinv(equations) @ np.array([scale, -offset])
