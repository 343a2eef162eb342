"""The check of `--amp`: what mixed precision changes, and what it gains.

Owns its limit. Must not know how the steps are taken.

A process adds gradients in one order only (`runtime.gradient_sums`), and mixed
precision has another: so this check has a process of its own, float32 included.
"""

from __future__ import annotations

import numpy as np

from xenon_mx.diagnosis import drawn_images, first_steps, packing
from xenon_mx.diagnosis.finding import Finding, Teller
from xenon_mx.diagnosis.first_steps import Arrays, FirstSteps
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.errors import ConfigError
from xenon_mx.models import mixed_precision, network
from xenon_mx.runtime import devices, gradient_sums, half_precision, mxnet
from xenon_mx.runtime.half_precision import BFLOAT16
from xenon_mx.runtime.mxnet import mx

_NAME = "--amp"
# Bits of the fraction: IEEE 754 for float16; bfloat16 is float32 without its last 16.
_BITS = {"bfloat16": 7, "float16": 10}
# Chosen here. Rounding only the weights of DenseNet169 to bfloat16 changes its logits
# at 320 px by 4e-3 of the largest; --amp, which also rounds the inputs of layers, by
# 8e-3.
_TIMES_ROUNDING = 10
_LEAST = 1e-3


def check(subject: Subject, teller: Teller) -> None:
    """Compare mixed precision with float32, if the devices and the net have it."""
    ctxs = [mx.Context(*each) for each in devices.parse_ctx(subject.ctx)]
    try:
        dtype = half_precision.dtype(ctxs)
    except ConfigError as error:
        reason = str(error)[len("--amp: ") :]
        teller.found(Finding(_NAME, f"not there: {reason}"))
        return
    if not mixed_precision.can_gain(subject.model, dtype):
        seen = f"not for {subject.model}, which is no faster in {dtype}"
        teller.found(Finding(_NAME, seen))
        return
    gradient_sums.choose(in_place=dtype == BFLOAT16)
    pixels = drawn_images.pixels(packing.few(subject), subject.size)
    labels = drawn_images.labels(len(pixels))
    mxnet.seed(0)
    weights = network.state_dict(network.build(subject.model))

    def compute(name: str, weights: Arrays, amp: str | None = None) -> FirstSteps:
        teller.doing(f"{first_steps.STEPS} steps in {name}")
        return first_steps.compute(
            subject.model, weights, pixels, labels, ctxs, amp=amp
        )

    with mxnet.failures():
        full = compute("float32", weights)
        rounded = compute("rounded weights", _rounded(weights, _BITS[dtype]))
        half = compute(dtype, weights, dtype)
    rounding = first_steps.differences(full, rounded).logits
    difference = first_steps.differences(full, half).logits
    limit = max(_TIMES_ROUNDING * rounding, _LEAST)
    wrong = ""
    if not difference <= limit:
        wrong = f"{dtype} computes something else than float32: omit --amp"
    seen = f"logits in {dtype} differ by {difference:.1e} (limit {limit:.1e})"
    teller.found(Finding(_NAME, seen, wrong))


def _rounded(weights: Arrays, bits: int) -> Arrays:
    """Return weights whose convolutions are rounded to some bits of the fraction."""

    def rounded(array: np.ndarray) -> np.ndarray:
        fraction, exponent = np.frexp(array)
        steps = 2.0 ** (bits + 1)
        return np.ldexp(np.round(fraction * steps) / steps, exponent).astype("f")

    return {
        key: rounded(array) if array.ndim == 4 else array
        for key, array in weights.items()
    }
