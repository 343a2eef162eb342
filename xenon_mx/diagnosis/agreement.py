"""The check that every device computes what the CPU computes.

Owns the limits. Must not know how the steps are taken.

Rounding alone makes two correct computations of one net differ, by how much depends on
net and size; so it is measured, by giving the CPU the images in the opposite order,
which changes the order of every sum over them. For DenseNet169 at 320 px with four
images that was 7e-6 of the logits, 2e-2 of the gradients and 8e-4 of BatchNorm's
statistics; for mobilenet0.25 at 32 px, 4e-4, 3e-3 and 3e-3 (and one thread against two,
2e-4, 8e-4 and 3e-3). A GPU's libraries use other algorithms (Winograd, Fourier), which
round about ten times as coarsely. Gradients differ by more, because a ReLU near 0
passes a gradient or does not: by about the root of the difference of what it is given.

TensorFloat-32, in which a GPU from Ampere on multiplies by default, has 10 bits:
weights rounded to it change the logits of DenseNet169 by 5e-4 and its gradients by 0.3.
So it is off here, by NVIDIA's variable: what remains is either rounding or a fault.
"""

from __future__ import annotations

import os
from typing import Any, Sequence

from xenon_mx.diagnosis import drawn_images, first_steps, packing
from xenon_mx.diagnosis.finding import Finding, Teller, compared
from xenon_mx.diagnosis.first_steps import Arrays, Differences, FirstSteps
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.models import network
from xenon_mx.runtime import devices, gradient_sums, mxnet, text
from xenon_mx.runtime.mxnet import mx

# Chosen here, see above: how many times the rounding of the CPU is in order ...
_TIMES_ROUNDING = Differences(logits=30, gradients=10, statistics=30)
# ... but not more than this, because a net that computes something else differs by 1
# (unless rounding itself comes near it) ...
_MOST = Differences(logits=0.05, gradients=0.3, statistics=0.1)
_LEAST_TIMES = 3
# ... and at least this, where rounding happens to be 0.
_LEAST = 1e-4

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
        count = packing.few(subject)
        self._subject, self._teller = subject, teller
        self._pixels = drawn_images.pixels(count, subject.size)
        self._labels = drawn_images.labels(count)
        mxnet.seed(0)
        self._weights: Arrays = network.state_dict(network.build(subject.model))
        self._expected: dict[int, tuple[FirstSteps, Differences]] = {}

    def check(self, name: str, ctxs: Sequence[Any]) -> None:
        """Compare some devices that share each batch with as many parts on the CPU."""
        expected, limits = self._on_cpu(len(ctxs))
        self._teller.doing(f"{first_steps.STEPS} steps on {name}")
        steps = self._compute(ctxs)
        found = first_steps.differences(expected, steps)
        wrong = _WRONG + (_GPU if ctxs[0].device_type == "gpu" else "")
        told = ("logits", "gradients", "BatchNorm's statistics after 3 steps")
        for words, difference, limit in zip(told, found, limits):
            if words.startswith("Batch") and not expected.statistics:
                continue  # a net without BatchNorm
            self._teller.found(compared(f"{words}, {name}", difference, limit, wrong))
        if len(ctxs) > 1:
            wrong = "" if steps.are_copies_equal else _COPIES
            seen = "the same on all devices after 3 steps"
            self._teller.found(Finding("weights", seen, wrong))

    def _on_cpu(self, parts: int) -> tuple[FirstSteps, Differences]:
        """Return the CPU's steps with a batch in parts, and the limits beside them."""
        if parts not in self._expected:
            ctxs = [mx.cpu(number) for number in range(parts)]
            self._teller.doing(f"{first_steps.STEPS} steps on the CPU, to compare with")
            expected = self._compute(ctxs, reference=True)
            self._teller.doing("the same with the images in another order")
            rounding = self._rounding(expected, ctxs)
            self._expected[parts] = expected, limits(rounding)
        return self._expected[parts]

    def _rounding(self, expected: FirstSteps, ctxs: Sequence[Any]) -> Differences:
        """Return how the CPU's steps differ with each part's images in reverse."""
        size = len(self._pixels) // len(ctxs)
        order = [
            index
            for start in range(0, len(self._pixels), size)
            for index in reversed(range(len(self._pixels))[start : start + size])
        ]
        turned = self._compute(ctxs, reference=True, order=order)
        back = [order.index(index) for index in range(len(order))]
        return first_steps.differences(
            expected,
            turned._replace(
                predictions=turned.predictions[back], logits=turned.logits[back]
            ),
        )

    def _compute(
        self,
        ctxs: Sequence[Any],
        reference: bool = False,
        order: Sequence[int] | None = None,
    ) -> FirstSteps:
        chosen = slice(None) if order is None else list(order)
        return first_steps.compute(
            self._subject.model,
            self._weights,
            self._pixels[chosen],
            self._labels[chosen],
            ctxs,
            reference=reference,
        )


def limits(rounding: Differences) -> Differences:
    """Return the limits where the CPU's own differences are these."""
    return Differences(
        *(
            max(min(max(times * own, _LEAST), most), _LEAST_TIMES * own)
            for own, times, most in zip(rounding, _TIMES_ROUNDING, _MOST)
        )
    )
