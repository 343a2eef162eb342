"""Ask the MXNet that is installed whether it can compute on a device.

An MXNet that has no machine code for a GPU raises an error, or aborts its process, or
computes something else. So a process of its own computes three small operators on the
device, and compares them with NumPy: one of MXNet's own kernels, a matrix product
(cuBLAS) and a convolution (cuDNN). Owns both ends of that process; must not know which
builds of MXNet there are, or what a user is told.
"""

from __future__ import annotations

import enum
import json
import signal
import subprocess
import sys
import time
from typing import Any, NamedTuple, Sequence

import numpy as np

from xenon_mx.runtime import child_process, mxnet

# An MXNet without machine code for a GPU, but with PTX, has the driver compile all its
# kernels first: 15 min on one computer (apache/mxnet, issue 20531).
LIMIT_S = 20 * 60

# Whole numbers this small are exact in TensorFloat-32, too, which GPUs from Ampere on
# may compute in; the rest is for convolutions by transforms (Winograd, Fourier).
_TOLERANCE = 1e-3  # of the largest value

# The search path is the parent's: -c would put the working directory before it.
_CHILD = """
import sys
sys.path[:] = {path!r}
from xenon_mx.runtime import child_process, gpu_probe
child_process.end_with_parent()
gpu_probe.answer({device_type!r}, {device_id!r})
"""

# Before the answer: MXNet and others print before it, and functions at exit after it.
_MARK = "xenon-gpu-probe: "
_KEPT_LINES = 1000  # of each stream; MXNet's traces of C++ have about a hundred


class Fault(enum.Enum):
    """What is wrong with a device."""

    NO_CODE = "MXNet has no machine code for it"
    OLD_DRIVER = "the driver is older than MXNet's CUDA"
    FULL = "its memory is full"
    WRONG = "it computes something else than NumPy"
    FAILED = "an error or a crash"
    SILENT = "no answer in time"


# In the words of CUDA, cuBLAS and cuDNN.
_MESSAGES = {
    "no kernel image": Fault.NO_CODE,
    "invalid device function": Fault.NO_CODE,
    "kernel image is invalid": Fault.NO_CODE,
    "ARCH_MISMATCH": Fault.NO_CODE,
    "driver version is insufficient": Fault.OLD_DRIVER,
    "unsupported toolchain": Fault.OLD_DRIVER,
    "out of memory": Fault.FULL,
    "STATUS_ALLOC_FAILED": Fault.FULL,
}


class Answer(NamedTuple):
    """What became of the operators on a device.

    Attributes:
        fault: None if they are right.
        detail: What is wrong, in a few words: the operator, or the error's last line.
        seconds: How long it took, the import of MXNet included.
    """

    fault: Fault | None
    detail: str
    seconds: float


def ask(device_type: str, device_id: int, limit_s: float = LIMIT_S) -> Answer:
    """Compute on a device in a process of its own.

    Args:
        device_type: `gpu`, or `cpu`.
        device_id: Its number.
        limit_s: The time after which the process is killed.
    """
    start = time.monotonic()
    code = _CHILD.format(path=sys.path, device_type=device_type, device_id=device_id)
    with child_process.started(code) as child:
        output = child_process.Lines(child.stdout, _KEPT_LINES)
        errors = child_process.Lines(child.stderr, _KEPT_LINES)
        judged: tuple[Fault | None, str]
        try:
            status = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            judged = Fault.SILENT, f"no answer in {limit_s:.0f} s"
        else:
            # A process that it started may hold the streams open.
            child_process.kill_group(child)
            judged = _judge(status, output.after_end(), errors.after_end())
    return Answer(*judged, time.monotonic() - start)


def _judge(
    status: int, output: Sequence[str], errors: Sequence[str]
) -> tuple[Fault | None, str]:
    """Return the fault that a process ended with, and its detail."""
    if status == 0:
        marked = [line for line in output if line.startswith(_MARK)]
        if not marked:
            return Fault.FAILED, "it ended without an answer"
        wrong = json.loads(marked[-1][len(_MARK) :])
        return (Fault.WRONG, " and ".join(wrong)) if wrong else (None, "")
    # Without MXNet's traces of C++.
    told = [
        line for line in errors if line and not line.startswith(("[bt]", "Stack trace"))
    ]
    last = told[-1] if told else "no message"
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    for words, fault in _MESSAGES.items():
        for line in errors:
            if words in line:
                return fault, line
    return Fault.FAILED, f"{how}: {last}"


def answer(device_type: str, device_id: int) -> None:
    """Print which operators are wrong on a device. Runs in the child."""
    wrong = wrong_operators(mxnet.mx.Context(device_type, device_id))
    sys.stdout.write(f"\n{_MARK}{json.dumps(wrong, allow_nan=False)}\n")


def wrong_operators(ctx: Any) -> list[str]:
    """Compute the operators on an MXNet context, and return those that are wrong."""
    nd = mxnet.nd
    draw = np.random.default_rng(0).integers
    image, kernel, left, right = (
        draw(-4, 5, shape).astype(np.float32)
        for shape in ((2, 3, 8, 8), (4, 3, 3, 3), (16, 32), (32, 8))
    )

    def on_device(array: np.ndarray) -> Any:
        return nd.array(array, ctx=ctx)

    computed = {
        "addition": (on_device(left) * 2 + 1, left * 2 + 1),
        "matrix product": (nd.dot(on_device(left), on_device(right)), left @ right),
        "convolution": (
            nd.Convolution(
                on_device(image),
                on_device(kernel),
                kernel=(3, 3),
                num_filter=len(kernel),
                no_bias=True,
            ),
            _convolution(image, kernel),
        ),
    }
    return [
        name
        for name, (array, expected) in computed.items()
        if not _is_close(array.asnumpy(), expected)
    ]


def _convolution(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return the cross-correlation of (N, C, H, W) with (K, C, 3, 3), unpadded."""
    height, width = (side - 2 for side in image.shape[2:])
    total = np.zeros((len(image), len(kernel), height, width), np.float32)
    for i, j in np.ndindex(3, 3):
        part = image[:, :, i : i + height, j : j + width]
        total += np.einsum("nchw,kc->nkhw", part, kernel[:, :, i, j])
    return total


def _is_close(array: np.ndarray, expected: np.ndarray) -> bool:
    # Not a number is not close.
    limit = _TOLERANCE * np.abs(expected).max()
    return array.shape == expected.shape and bool(
        np.abs(array - expected).max() <= limit
    )
