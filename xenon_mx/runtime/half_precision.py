"""The 16-bit type that a device trains in with `--amp`, or why it has none.

Owns what processors and GPUs can do in 16 bits. Must not know nets or training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

from xenon_mx.errors import ConfigError
from xenon_mx.runtime import devices, mxnet

BFLOAT16, FLOAT16 = "bfloat16", "float16"

# The kernel's names of the instructions that multiply bfloat16: AVX512-BF16 and AMX.
# Without them oneDNN computes in float32, and casts back and forth.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
_CPUINFO = Path("/proc/cpuinfo")
# Volta, the first GPUs with tensor cores: NVIDIA, CUDA C++ Programming Guide, section
# "Compute Capabilities".
_TENSOR_CORES = (7, 0)


def dtype(ctxs: Sequence[Any]) -> str:
    """Return the type that devices train in with `--amp`.

    Args:
        ctxs: MXNet contexts, all of one device type.

    Raises:
        ConfigError: They would gain nothing by it, or MXNet cannot do it.
    """
    reason = _why_not(ctxs)
    if reason:
        raise ConfigError("--amp", reason)
    return BFLOAT16 if ctxs[0].device_type == "cpu" else FLOAT16


def can_gain(ctxs: Sequence[Any]) -> bool:
    """Return whether devices train faster with `--amp`."""
    return _why_not(ctxs) is None


def _why_not(ctxs: Sequence[Any]) -> str | None:
    mx = mxnet.mx
    if not hasattr(mx.sym, "amp_cast"):
        return f"MXNet {mx.__version__} lacks the operator amp_cast: omit --amp"
    if ctxs[0].device_type == "cpu":
        return _why_not_cpu()
    names = (devices.gpu(ctx.device_id) for ctx in ctxs)
    slow = [gpu.name for gpu in names if gpu.capability < _TENSOR_CORES]
    if slow:
        return f"{slow[0]} has no tensor cores, and would gain nothing: omit --amp"
    return None


def _why_not_cpu() -> str | None:
    if not mxnet.mx.runtime.Features().is_enabled("MKLDNN"):
        return "this MXNet has no oneDNN, and so no fast bfloat16: omit --amp"
    if not _BFLOAT16_FLAGS & cpu_flags():
        return (
            "this processor has no bfloat16 (AVX512-BF16 or AMX), and would gain "
            "nothing: omit --amp"
        )
    return None


def cpu_flags() -> set[str]:
    """Return what the kernel says that the processor can do; nothing off Linux."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return set()
    flags = (line.partition(":")[2] for line in lines if line.startswith("flags"))
    return set(next(flags, "").split())
