"""The devices that MXNet computes on: `--ctx`, and which GPUs are usable.

Owns the syntax of `--ctx` and the queries to NVIDIA's driver; must not know nets, data
or commands. Importing this module does not import MXNet.
"""

from __future__ import annotations

import ctypes
import logging
import re
from typing import Any, NamedTuple

from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import extras, mxnet

_log = logging.getLogger(__name__)

# The mxnet-cu112 1.9.1 wheel contains machine code for 5.0 to 8.6 and no PTX; 8.6 code
# also runs on 8.7 and 8.9. Nothing in it runs on Hopper (9.0) or Blackwell (10, 12).
_MIN_CAPABILITY = (5, 0)
_FIRST_UNSUPPORTED_CAPABILITY = (9, 0)

_CTX = re.compile(r"(cpu|gpu)(?:\(([0-9]*)\)|:?([0-9]+))?")
# MXNet allocates a list entry for every device id up to the highest in use, which for
# cpu(2147483647) exhausts the memory. cpu(0), cpu(1), ... are the same cores.
_MAX_DIGITS = 3

# Of cuda.h: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


_chosen: list[Any] = []  # what `contexts` returned last


class Gpu(NamedTuple):
    """A GPU as NVIDIA's driver reports it."""

    name: str
    capability: tuple[int, int]


def parse_ctx(text: str) -> list[tuple[str, int]]:
    """Parse `cpu()`, `gpu(0)`, `gpu(0),gpu(1)`, `gpu0` or `gpu:0`.

    Returns:
        (device type, device id) of each device, at least one.

    Raises:
        ConfigError: The text is not a list of devices, repeats a device, mixes cpu and
            gpu, or has a device id above 999.
    """
    devices = []
    for part in re.sub(r"\s", "", text).split(","):
        match = _CTX.fullmatch(part)
        if not match:
            raise ConfigError(
                "--ctx", f"write cpu(), gpu(0) or gpu(0),gpu(1), not {text!r}"
            )
        device_id = match.group(2) or match.group(3) or "0"
        if len(device_id) > _MAX_DIGITS:
            raise ConfigError("--ctx", f"the highest device id is {'9' * _MAX_DIGITS}")
        devices.append((match.group(1), int(device_id)))
    if len(set(devices)) < len(devices):
        raise ConfigError("--ctx", f"names a device twice: {text!r}")
    if len({device_type for device_type, _ in devices}) > 1:
        raise ConfigError("--ctx", f"mixes cpu and gpu: {text!r}")
    return devices


def contexts(text: str | None) -> list[Any]:
    """Return the MXNet contexts that `--ctx` names, checked to be usable.

    Args:
        text: As `parse_ctx` parses it; None selects gpu(0) if that is usable, else
            cpu(), and logs the choice, with the reason if a GPU cannot be used.

    Raises:
        XenonError: A device does not exist, or this MXNet cannot use it.
    """
    if text is None:
        devices = [_default_device()]
    else:
        devices = parse_ctx(text)
        for device_type, device_id in devices:
            reason = _why_unusable(device_id) if device_type == "gpu" else None
            if reason:
                raise XenonError(
                    f"--ctx gpu({device_id}): {reason}; or use --ctx 'cpu()'"
                )
    _chosen[:] = [mxnet.mx.Context(*device) for device in devices]
    return list(_chosen)


def gpu(device_id: int) -> Gpu:
    """Return a GPU that `contexts` has found usable."""
    return _gpus()[device_id]


def last_chosen() -> str | None:
    """Return what `contexts` returned last, as `--ctx` names it; None before that."""
    return ",".join(map(str, _chosen)) or None


def release_memory() -> None:
    """Release the GPU memory that MXNet keeps for reuse, for another process.

    Arrays that are still referenced keep theirs.
    """
    for ctx in _chosen:
        if ctx.device_type == "gpu":
            ctx.empty_cache()


def _default_device() -> tuple[str, int]:
    """Return gpu(0) if it is usable, else cpu(0), and log the choice."""
    reason = _why_unusable(0)
    if reason is None:
        _log.info("ctx: gpu(0)")
        return ("gpu", 0)
    log_cpu(reason, _has_cuda())
    return ("cpu", 0)


def log_cpu(reason: str, is_cuda_build: bool) -> None:
    """Log that the CPU computes, because no `--ctx` was given and no GPU is usable.

    The reason is a warning, but is left out where it is no news: the CPU build of a
    library, on a computer without a GPU of NVIDIA's.

    Args:
        reason: Why the GPU is not usable.
        is_cuda_build: Whether the library that computes could use a GPU.
    """
    if is_cuda_build or _gpus():
        _log.warning("ctx: cpu(0), not a GPU: %s", reason)
    else:
        _log.info("ctx: cpu(0)")


def _has_cuda() -> bool:
    """Return whether this MXNet is a CUDA wheel."""
    return bool(mxnet.mx.runtime.Features().is_enabled("CUDA"))


def _why_unusable(device_id: int) -> str | None:
    """Return why gpu(device_id) is not usable, or None if it is."""
    if not _has_cuda():
        return (
            f"this is MXNet's CPU wheel; for a GPU: pip uninstall mxnet, then "
            f"{extras.install('gpu')}"
        )
    gpus = _gpus()
    if not gpus:
        return "NVIDIA's driver reports no GPU; check with nvidia-smi"
    if device_id >= len(gpus):
        return f"there is no such GPU: the highest is gpu({len(gpus) - 1})"
    name, capability = gpus[device_id]
    if not _MIN_CAPABILITY <= capability < _FIRST_UNSUPPORTED_CAPABILITY:
        return (
            f"{name} has compute capability {capability[0]}.{capability[1]}, but "
            f"MXNet 1.9.1 supports only 5.0 to 8.9 (Maxwell to Ada): use such a GPU"
        )
    if device_id >= _num_mxnet_gpus():
        return (
            f"MXNet's CUDA 11 cannot use {name} with this driver: update NVIDIA's "
            f"driver, to 450.80 or newer"
        )
    return None


def _num_mxnet_gpus() -> int:
    """Return how many GPUs MXNet finds; 0 if the driver is older than CUDA 11."""
    try:
        return mxnet.mx.context.num_gpus()
    except mxnet.mx.base.MXNetError:
        return 0


def _cuda_driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _gpus() -> list[Gpu]:
    """Query NVIDIA's driver for the GPUs; return none if it is missing or fails."""
    try:
        driver = _cuda_driver()
    except OSError:
        return []
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    gpus = []
    for index in range(count.value):
        name = ctypes.create_string_buffer(100)
        driver.cuDeviceGetName(name, len(name), index)
        major, minor = ctypes.c_int(), ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, index)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, index)
        gpus.append(Gpu(name.value.decode(), (major.value, minor.value)))
    return gpus
