"""MXNet, CUDA, NVIDIA's driver and the GPUs: what there is, and what can be used.

Owns what is read of them, and which devices the other checks use. Must not know nets.
"""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Any

from xenon_mx.diagnosis import privacy
from xenon_mx.diagnosis.finding import Finding, Teller, fact
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.errors import XenonError
from xenon_mx.runtime import devices, mxnet, mxnet_build, nvidia_driver, text

# Features of the library that decide what is fast, by MXNet's names.
_FEATURES = ("CUDA", "CUDNN", "NCCL", "MKLDNN", "OPENMP", "F16C", "INT64_TENSOR_SIZE")


def check(subject: Subject, teller: Teller, ctx: str | None) -> dict[str, Any]:
    """Report what is installed, and compute on each device.

    Args:
        subject: Its folder is that of the report.
        teller: Receives what is found.
        ctx: `--ctx`; None selects every GPU that is usable, else cpu().

    Returns:
        `devices`, those that can be used, as `--ctx` names them.

    Raises:
        XenonError: MXNet cannot be imported.
    """
    build = mxnet_build.installed()
    teller.found(fact("NVIDIA's driver", _driver()))
    gpus = nvidia_driver.gpus()
    for number, gpu in enumerate(gpus):
        major, minor = gpu.capability
        memory = text.format_bytes(gpu.memory)
        seen = f"{gpu.name}, compute capability {major}.{minor}, {memory}"
        teller.found(fact(f"gpu({number})", seen))
    teller.doing(f"importing {build}")
    enabled = mxnet.mx.runtime.Features()
    names = [name for name in _FEATURES if _is_enabled(enabled, name)]
    teller.found(fact("MXNet", f"{build}, with {', '.join(names) or 'no features'}"))
    teller.found(fact("CUDA", _cuda()))
    has_cuda = "CUDA" in names
    wanted = _wanted(ctx, len(gpus), has_cuda)
    hider = privacy.Hider(Path(subject.folder))
    usable = [name for name in wanted if _is_usable(name, teller, hider)]
    if not usable and ctx is None:
        usable = [name for name in ["cpu(0)"] if _is_usable(name, teller, hider)]
    return {"devices": usable}


def _wanted(ctx: str | None, gpus: int, has_cuda: bool) -> list[str]:
    """Return the devices to compute on: with GPUs or their MXNet, the GPUs."""
    if ctx is not None:
        return [f"{kind}({number})" for kind, number in devices.parse_ctx(ctx)]
    if gpus or has_cuda:
        return [f"gpu({number})" for number in range(max(gpus, 1))]
    return []


def _is_usable(name: str, teller: Teller, hider: privacy.Hider) -> bool:
    """Tell, and return, whether a device can be used."""
    teller.doing(f"asking MXNet about {name}")
    try:
        devices.contexts(name)
    except XenonError as error:
        reason = re.sub(rf"^--ctx {re.escape(name)}: ", "", str(error))
        teller.found(Finding(f"device {name}", "", hider.message(reason)))
        return False
    teller.found(Finding(f"device {name}", "MXNet can use it"))
    return True


def _is_enabled(features: Any, name: str) -> bool:
    return name in features and features.is_enabled(name)


def _driver() -> str:
    newest = nvidia_driver.newest_cuda()
    if newest is None:
        return "none"
    release = nvidia_driver.release() or "version unknown"
    return f"{release}, for CUDA up to {newest[0]}.{newest[1]}"


def _cuda() -> str:
    """Return the CUDA that is loaded, and NVIDIA's packages."""
    loaded = nvidia_driver.loaded_cuda_major()
    if loaded is None:
        return "none loaded"
    packages = sorted(
        f"{name[len('nvidia-') :]} {dist.version}"
        for dist in importlib.metadata.distributions()
        for name in [(dist.metadata["Name"] or "").lower().replace("_", "-")]
        if re.fullmatch(r"nvidia-\w+-cu\d+", name)
    )
    installed = ", ".join(packages) or "no packages of NVIDIA's"
    return f"{loaded} loaded; {installed}"
