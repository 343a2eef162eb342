"""The devices that MXNet computes on: `--ctx`.

Owns the syntax of `--ctx`, the choice of devices, and how many images they need; must
not know nets, data or commands, nor why a GPU is not usable. Importing this module does
not import MXNet.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import gpu_support, mxnet, nvidia_driver, text

_log = logging.getLogger(__name__)

_CTX = re.compile(r"(cpu|gpu)(?:\(([0-9]*)\)|:?([0-9]+))?")
# MXNet allocates a list entry for every device id up to the highest in use, which for
# cpu(2147483647) exhausts the memory. cpu(0), cpu(1), ... are the same cores.
_MAX_DIGITS = 3

_chosen: list[Any] = []  # what `contexts` returned last


def parse_ctx(names: str) -> list[tuple[str, int]]:
    """Parse `cpu()`, `gpu(0)`, `gpu(0),gpu(1)`, `gpu0` or `gpu:0`.

    Returns:
        (device type, device id) of each device, at least one.

    Raises:
        ConfigError: The text is not a list of devices, repeats a device, mixes cpu and
            gpu, or has a device id above 999.
    """
    devices = []
    for part in re.sub(r"\s", "", names).split(","):
        match = _CTX.fullmatch(part)
        if not match:
            raise ConfigError(
                "--ctx", f"write cpu(), gpu(0) or gpu(0),gpu(1), not {names!r}"
            )
        device_id = match.group(2) or match.group(3) or "0"
        if len(device_id) > _MAX_DIGITS:
            raise ConfigError("--ctx", f"the highest device id is {'9' * _MAX_DIGITS}")
        devices.append((match.group(1), int(device_id)))
    if len(set(devices)) < len(devices):
        raise ConfigError("--ctx", f"names a device twice: {names!r}")
    if len({device_type for device_type, _ in devices}) > 1:
        raise ConfigError("--ctx", f"mixes cpu and gpu: {names!r}")
    return devices


def check_batch_size(batch_size: int, devices: int) -> None:
    """Check that a batch has an image for each device.

    Raises:
        ConfigError: It has fewer.
    """
    if batch_size < devices:
        raise ConfigError(
            "--batch-size",
            f"{text.counted(batch_size, 'image')} cannot be split between "
            f"{text.counted(devices, 'device')}",
        )


def contexts(names: str | None) -> list[Any]:
    """Return the MXNet contexts that `--ctx` names, checked to be usable.

    Args:
        names: As `parse_ctx` parses it; None selects gpu(0) if that is usable, else
            cpu(), and logs the choice, with the reason if a GPU cannot be used.

    Raises:
        XenonError: A device does not exist, or this MXNet cannot use it.
    """
    if names is None:
        devices = [_default_device()]
    else:
        devices = parse_ctx(names)
        for device_type, device_id in devices:
            reason = (
                gpu_support.why_unusable(device_id) if device_type == "gpu" else None
            )
            if reason:
                raise XenonError(
                    f"--ctx gpu({device_id}): {reason}; or use --ctx 'cpu()'"
                )
    _chosen[:] = [mxnet.mx.Context(*device) for device in devices]
    return list(_chosen)


def gpu(device_id: int) -> nvidia_driver.Gpu:
    """Return a GPU that `contexts` has found usable."""
    return nvidia_driver.gpus()[device_id]


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
    reason = gpu_support.why_unusable(0)
    if reason is None:
        _log.info("ctx: gpu(0)")
        return ("gpu", 0)
    log_cpu(reason, gpu_support.has_cuda())
    return ("cpu", 0)


def log_cpu(reason: str, is_cuda_build: bool) -> None:
    """Log that the CPU computes, because no `--ctx` was given and no GPU is usable.

    The reason is a warning, but is left out where it is no news: the CPU build of a
    library, on a computer without a GPU of NVIDIA's.

    Args:
        reason: Why the GPU is not usable.
        is_cuda_build: Whether the library that computes could use a GPU.
    """
    if is_cuda_build or nvidia_driver.gpus():
        _log.warning("ctx: cpu(0), not a GPU: %s", reason)
    else:
        _log.info("ctx: cpu(0)")
