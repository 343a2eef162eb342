"""The first steps of a training, kept as numbers that can be compared.

Owns the steps and the relative differences. Must not know limits, or what is told of a
difference.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np

from xenon_mx.config import TrainConfig
from xenon_mx.distributed import process_group
from xenon_mx.models import forward, mixed_precision, network
from xenon_mx.runtime.half_precision import FLOAT16
from xenon_mx.runtime.mxnet import autograd, mx, nn
from xenon_mx.training import batch_norm, losses, optimizers
from xenon_mx.training.loss_scale import LossScale

STEPS = 3
# Chosen here: an array of gradients with a smaller share of the largest norm is mostly
# rounding, and is compared with this share of it.
_SMALLEST_NORM = 1e-3

# The ends of the keys of BatchNorm's statistics.
_MEAN, _VARIANCE = ".running_mean", ".running_var"

Arrays = Mapping[str, np.ndarray]


class FirstSteps(NamedTuple):
    """What the first steps of a training compute.

    Attributes:
        predictions: (N,) logits before the first step, in prediction mode.
        logits: (N,) logits of the first step, in training mode.
        gradients: Key to the gradient of the first step, the sum over the devices.
        statistics: Key to running mean or variance of BatchNorm after the last step,
            the mean over the devices.
        are_copies_equal: Whether all devices have the same weights at the end.
    """

    predictions: np.ndarray
    logits: np.ndarray
    gradients: Arrays
    statistics: Arrays
    are_copies_equal: bool


class Differences(NamedTuple):
    """Relative differences of two computations of the same.

    Attributes:
        logits: Largest difference of a logit, over the largest logit.
        gradients: Largest norm of an array's difference, over the array's norm.
        statistics: Largest difference of a running variance over that variance, or of
            a running mean over the root of the variance beside it.
    """

    logits: float
    gradients: float
    statistics: float


def compute(
    model: str,
    weights: Arrays,
    pixels: np.ndarray,
    labels: np.ndarray,
    ctxs: Sequence[Any],
    amp: str | None = None,
    reference: bool = False,
) -> FirstSteps:
    """Take the first steps on one batch, with the pieces of xenon-train.

    Args:
        model: The net.
        weights: Its first weights, as `network.state_dict` returns them.
        pixels: (N, S, S) uint8.
        labels: (N,) float32 of 0 and 1.
        ctxs: The devices that share the batch.
        amp: The 16-bit type of mixed precision; None is float32.
        reference: Compute without optimizations.
    """
    net = network.build(model, None, list(ctxs), reference)
    network.load_state_dict(net, weights)
    net.apply(_without_dropout)
    group = process_group.ProcessGroup()
    scale = LossScale() if amp == FLOAT16 else None
    optimizer = optimizers.Adam(net, TrainConfig.lr, group, scale)
    trained = net
    if amp is not None:
        trained = mixed_precision.MixedPrecisionNet(net, amp, reference)
    factor = scale.value if scale else 1.0
    loss = losses.WeightedBCE(np.ones((1, 2)))
    parts, label_parts, ones = (
        forward.split_to_devices(array, ctxs)
        for array in (pixels, labels.reshape(-1, 1), np.ones((len(pixels), 1), "f"))
    )
    predictions = _joined([trained(network.normalise(part)) for part in parts])
    logits = np.zeros(0)
    gradients: Arrays = {}
    for step in range(STEPS):
        with autograd.record():
            outputs = [trained(network.normalise(part)) for part in parts]
            scaled = [
                loss(*each) * (scale.value if scale else 1.0)
                for each in zip(outputs, label_parts, ones)
            ]
        autograd.backward(scaled)
        mx.nd.waitall()
        if step == 0:
            logits, gradients = _joined(outputs), _gradients(net, factor)
        optimizer.step(len(pixels))
    mx.nd.waitall()
    are_equal = _are_copies_equal(net)
    batch_norm.average_running_statistics(net, group)
    return FirstSteps(predictions, logits, gradients, _statistics(net), are_equal)


def _without_dropout(block: Any) -> None:
    """Switch Dropout off: each device draws other units."""
    if isinstance(block, nn.Dropout):
        block._rate = 0


def _joined(outputs: Sequence[Any]) -> np.ndarray:
    return np.concatenate([output.asnumpy() for output in outputs])[:, 0]


def _gradients(net: network.Net, factor: float) -> dict[str, np.ndarray]:
    return {
        key: np.sum([grad.asnumpy() for grad in param.list_grad()], axis=0) / factor
        for key, param in net._collect_params_with_prefix().items()
        if param.grad_req != "null"
    }


def _statistics(net: network.Net) -> Arrays:
    return {
        key: param.list_data()[0].asnumpy()
        for key, param in net._collect_params_with_prefix().items()
        if key.endswith((_MEAN, _VARIANCE))
    }


def _are_copies_equal(net: network.Net) -> bool:
    """Return whether all devices have the same trained parameters, to the bit."""
    for param in net.collect_params().values():
        if param.grad_req != "null":
            first, *others = (copy.asnumpy() for copy in param.list_data())
            if not all(np.array_equal(first, other) for other in others):
                return False
    return True


def differences(expected: FirstSteps, actual: FirstSteps) -> Differences:
    """Return how far a computation is from the expected one; NaN is infinitely far."""
    return Differences(
        max(
            _largest(expected.predictions, actual.predictions),
            _largest(expected.logits, actual.logits),
        ),
        _of_gradients(expected.gradients, actual.gradients),
        _of_statistics(expected.statistics, actual.statistics),
    )


def _largest(expected: np.ndarray, actual: np.ndarray) -> float:
    return _relative(np.abs(expected - actual).max(), np.abs(expected).max())


def _of_gradients(expected: Arrays, actual: Arrays) -> float:
    norms = {key: float(np.linalg.norm(array)) for key, array in expected.items()}
    smallest = _SMALLEST_NORM * max(norms.values())
    return max(
        _relative(np.linalg.norm(array - actual[key]), max(norms[key], smallest))
        for key, array in expected.items()
    )


def _of_statistics(expected: Arrays, actual: Arrays) -> float:
    """Return the largest difference, in the scale of what BatchNorm normalises.

    A mean is often near 0, and so is no scale for itself.
    """
    found = [0.0]
    for key, array in expected.items():
        variance = expected[key.replace(_MEAN, _VARIANCE)]
        scales = np.sqrt(variance) if key.endswith(_MEAN) else variance
        found += map(_relative, np.abs(array - actual[key]), scales)
    return max(found)


def _relative(difference: Any, scale: Any) -> float:
    """Return a difference over its scale: 0 if there is none, else finite or inf."""
    if difference == 0:
        return 0.0
    if not (scale > 0 and np.isfinite(difference)):
        return float("inf")
    return float(difference / scale)
