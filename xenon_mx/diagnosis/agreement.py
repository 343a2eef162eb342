"""The check that every device computes what the CPU computes.

Owns the limits. Must not know how the steps are taken.

Rounding alone makes two correct computations of one net differ, by how much depends on
net and size; so it is measured: the CPU computes twice more, with the images in other
orders, which changes the order of every sum over them, and with weights of which each
is moved by its last bit. The larger of both differences counts. Two correct programs
(with and without oneDNN, with one and two threads) differed by up to six times that in
their logits, and a GPU's libraries, with other algorithms (Winograd, Fourier), round
more coarsely than these.

Gradients differ by more, because a ReLU near 0 passes a gradient or does not: by up to
20 times the root of the difference of the logits, as was measured, and seldom by much
less, but in a computation that happens to change no ReLU. So that root is in the limit.

Statistics have one limit for all nets. cuDNN divides the sum of n squares by n - 1
where the CPU divides by n, and there are enough images for an n of at least about 30. A
momentum of 0.8 instead of 0.9 changes the variances of quiet channels by 0.3.

TensorFloat-32, in which a GPU from Ampere on multiplies by default, has 10 bits:
weights rounded to it change the logits of DenseNet169 by 5e-4 and its gradients by 0.3.
So it is off here, by NVIDIA's variable: what remains is either rounding or a fault.
"""

from __future__ import annotations

import math
import os
from typing import Any, Sequence

import numpy as np

from xenon_mx.diagnosis import drawn_images, first_steps, packing
from xenon_mx.diagnosis.finding import Finding, Teller, compared
from xenon_mx.diagnosis.first_steps import Arrays, Differences, FirstSteps
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.models import network
from xenon_mx.runtime import devices, gradient_sums, mxnet, text
from xenon_mx.runtime.mxnet import mx

# Chosen here, see above: how many times the rounding of the CPU is in order ...
_TIMES_LOGITS, _TIMES_GRADIENTS, _TIMES_ROOT = 30, 10, 50
# ... but at least and at most this: a net that computes something else differs by 1.
_LEAST = Differences(logits=1e-3, gradients=0.05, statistics=0.1)
_MOST = Differences(logits=0.05, gradients=0.5, statistics=0.1)
# Chosen here: with fewer times the CPU's rounding below the limit, nothing is compared.
_RESERVE = 3
# Chosen here: a few images of the size of MURA's, or as many pixels in smaller ones, so
# that BatchNorm has enough values of the last layer.
_PIXELS, _MOST_IMAGES = 4 * 320**2, 32

_DISTURBED = 2  # how often rounding is measured
_FAR = np.float32(1e9)  # further than any weight

_WRONG = (
    "it computes something else than the CPU; do not train on it, and report this file"
)
_GPU = "; update NVIDIA's driver, and try the GPU in another computer"
_COPIES = (
    "after three steps the devices have different weights: copying between them fails; "
    "train on one of them, or disable the IOMMU (PCIe ACS) as NVIDIA describes for NCCL"
)


def check(subject: Subject, teller: Teller) -> None:
    """Compare each device, and all of them together, with the CPU."""
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    ctxs = [mx.Context(*each) for each in devices.parse_ctx(subject.ctx)]
    gradient_sums.choose(in_place=False)
    with mxnet.failures():
        comparison = _Comparison(subject, teller)
        for ctx in ctxs:
            comparison.check(str(ctx), [ctx])
        if len(ctxs) > 1:
            comparison.check(f"{text.counted(len(ctxs), 'device')} together", ctxs)


class _Comparison:
    """The CPU's first steps, to compare with."""

    def __init__(self, subject: Subject, teller: Teller) -> None:
        count = images(subject)
        self._subject, self._teller = subject, teller
        self._pixels = drawn_images.pixels(count, subject.size)
        self._labels = drawn_images.labels(count)
        mxnet.seed(0)
        self._weights: Arrays = network.state_dict(network.build(subject.model))
        # By the number of parts: the steps, and how rounding changes them.
        self._expected: dict[int, tuple[FirstSteps, Differences]] = {}

    def check(self, name: str, ctxs: Sequence[Any]) -> None:
        """Compare some devices that share each batch with as many parts on the CPU."""
        expected, rounding = self._on_cpu(len(ctxs))
        self._teller.doing(f"{first_steps.STEPS} steps on {name}")
        steps = self._compute(ctxs)
        found = first_steps.differences(expected, steps)
        wrong = _WRONG + (_GPU if ctxs[0].device_type == "gpu" else "")
        told = ("logits", "gradients", "BatchNorm's statistics after 3 steps")
        for words, difference, own, limit in zip(
            told, found, rounding, limits(rounding)
        ):
            if words.startswith("Batch") and not expected.statistics:
                continue  # a net without BatchNorm
            why_not = _why_not(own, limit)
            self._teller.found(
                compared(f"{words}, {name}", difference, limit, wrong, why_not)
            )
        if len(ctxs) > 1:
            wrong = "" if steps.are_copies_equal else _COPIES
            seen = "the same on all devices after 3 steps"
            self._teller.found(Finding("weights", seen, wrong))

    def _on_cpu(self, parts: int) -> tuple[FirstSteps, Differences]:
        """Return the CPU's steps with a batch in parts, and the size of rounding."""
        if parts not in self._expected:
            ctxs = [mx.cpu(number) for number in range(parts)]
            self._teller.doing(f"{first_steps.STEPS} steps on the CPU, to compare with")
            expected = self._compute(ctxs, reference=True)
            rounding = [
                self._rounding(expected, ctxs, shift) for shift in range(_DISTURBED)
            ]
            self._expected[parts] = expected, Differences(*map(max, *rounding))
        return self._expected[parts]

    def _rounding(
        self, expected: FirstSteps, ctxs: Sequence[Any], number: int
    ) -> Differences:
        """Return how the CPU's steps differ if they are computed a little otherwise.

        Each part has its images in reverse, or as much further as the number tells, and
        each weight is moved by its last bit.
        """
        self._teller.doing(f"the same in another order, {number + 1} of {_DISTURBED}")
        size = len(self._pixels) // len(ctxs)
        turned = np.roll(np.arange(size)[::-1], number)
        order = np.concatenate([turned + size * part for part in range(len(ctxs))])
        random = np.random.RandomState(number)
        moved = {key: _moved(array, random) for key, array in self._weights.items()}
        steps = self._compute(ctxs, reference=True, order=order, weights=moved)
        back = np.argsort(order)
        return first_steps.differences(
            expected,
            steps._replace(
                predictions=steps.predictions[back], logits=steps.logits[back]
            ),
        )

    def _compute(
        self,
        ctxs: Sequence[Any],
        reference: bool = False,
        order: np.ndarray | None = None,
        weights: Arrays | None = None,
    ) -> FirstSteps:
        chosen = slice(None) if order is None else order
        return first_steps.compute(
            self._subject.model,
            weights or self._weights,
            self._pixels[chosen],
            self._labels[chosen],
            ctxs,
            reference=reference,
        )


def _moved(array: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Return an array moved by its last bits, up or down, but for what is 0.

    The next number after 0 is subnormal, with which processors are slow.
    """
    moved = np.nextafter(array, random.choice((-_FAR, _FAR), array.shape))
    return np.where(array == 0, array, moved)


def images(subject: Subject) -> int:
    """Return how many images are compared: an even number, alike for each device."""
    devices = max(1, len(subject.devices))
    few = packing.few(subject)
    per_device = min(_PIXELS // subject.size**2 // devices, _MOST_IMAGES)
    return max(few, devices * (per_device - devices * per_device % 2))


def limits(rounding: Differences) -> Differences:
    """Return the limits where the CPU's own differences are these."""
    times = Differences(
        _TIMES_LOGITS * rounding.logits,
        max(
            _TIMES_GRADIENTS * rounding.gradients,
            _TIMES_ROOT * math.sqrt(rounding.logits),
        ),
        0.0,
    )
    return Differences(*map(min, map(max, times, _LEAST), _MOST))


def _why_not(own: float, limit: float) -> str:
    """Return why a difference cannot be compared; empty if it can."""
    if _RESERVE * own <= limit:
        return ""
    return (
        f"rounding alone changes this net by {own:.1e} at this size, where a fault is "
        f"to be found from {limit:.1e} on; try a larger --size"
    )
