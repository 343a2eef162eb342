"""Whether the MXNet that is installed can compute on a GPU, and if not, why.

Owns the decision and its sentence: of a build that is known, by the capability of the
GPU; of any other, by what it answers (`gpu_probe`). Must not know `--ctx`.
"""

from __future__ import annotations

import functools
import logging

from xenon_mx.runtime import extras, gpu_probe, mxnet, mxnet_build, nvidia_driver
from xenon_mx.runtime.gpu_probe import Fault
from xenon_mx.runtime.nvidia_driver import Gpu

_log = logging.getLogger(__name__)

_HOPPER = 9  # the major compute capability


def has_cuda() -> bool:
    """Return whether this MXNet is built with CUDA."""
    return bool(mxnet.mx.runtime.Features().is_enabled("CUDA"))


def why_unusable(device_id: int) -> str | None:
    """Return why MXNet cannot compute on a GPU, with a remedy; None if it can.

    An MXNet that is not one of the known wheels is asked, which takes some seconds and
    is logged; once in a process.
    """
    gpus = nvidia_driver.gpus()
    build = mxnet_build.installed()
    if not has_cuda():
        return _without_cuda(build, gpus[device_id] if device_id < len(gpus) else None)
    if not gpus:
        return "NVIDIA's driver reports no GPU; check with nvidia-smi"
    if device_id >= len(gpus):
        return f"there is no such GPU: the highest is gpu({len(gpus) - 1})"
    gpu = gpus[device_id]
    known = mxnet_build.capabilities(build)
    if known and not known.lowest <= gpu.capability <= known.highest:
        return _without_code(build, gpu)
    if _is_driver_old() or device_id >= _num_mxnet_gpus():
        return _old_driver(gpu)
    return None if known else _ask(build, device_id, gpu)


def _is_driver_old() -> bool:
    """Return whether the driver is of an older major version than MXNet's CUDA."""
    cuda, newest = nvidia_driver.loaded_cuda_major(), nvidia_driver.newest_cuda()
    return bool(cuda and newest and newest[0] < cuda)


def _num_mxnet_gpus() -> int:
    """Return how many GPUs MXNet finds; 0 if the driver is too old for its CUDA."""
    try:
        return mxnet.mx.context.num_gpus()
    except mxnet.mx.base.MXNetError:
        return 0


@functools.lru_cache(maxsize=None)
def _ask(build: mxnet_build.Build, device_id: int, gpu: Gpu) -> str | None:
    """Ask a build that is not known whether it can compute on a GPU."""
    _log.info(
        "gpu(%d): asking %s whether it can compute on %s, which takes minutes if the "
        "driver has to compile its kernels",
        *(device_id, build, gpu.name),
    )
    answer = gpu_probe.ask("gpu", device_id)
    if answer.fault is None:
        _log.info("gpu(%d): it can (%.0f s)", device_id, answer.seconds)
        return None
    if answer.fault is Fault.NO_CODE:
        return _without_code(build, gpu)
    if answer.fault is Fault.OLD_DRIVER:
        return _old_driver(gpu)
    if answer.fault is Fault.FULL:
        return (
            f"the memory of {gpu.name} is full; check with nvidia-smi which programs "
            f"use it"
        )
    if answer.fault is Fault.WRONG:
        return (
            f"{build} computes a wrong {answer.detail} on {_described(gpu)}: "
            f"{_remedy(gpu)}"
        )
    return (
        f"{build} cannot compute on {_described(gpu)} ({answer.detail}): {_remedy(gpu)}"
    )


def _described(gpu: Gpu) -> str:
    major, minor = gpu.capability
    return f"{gpu.name} (compute capability {major}.{minor})"


def _without_cuda(build: mxnet_build.Build, gpu: Gpu | None) -> str:
    if gpu is None or _fits_extra(gpu):
        return f"{build} is built without CUDA; for a GPU: {_install_extra()}"
    return f"{build} is built without CUDA; for {_described(gpu)}: {_remedy(gpu)}"


def _without_code(build: mxnet_build.Build, gpu: Gpu) -> str:
    known = mxnet_build.capabilities(build)
    only = ""
    if known:
        lowest, highest = (".".join(map(str, end)) for end in known)
        only = f", only for {lowest} to {highest}"
    return f"{build} has no machine code for {_described(gpu)}{only}: {_remedy(gpu)}"


def _old_driver(gpu: Gpu) -> str:
    cuda, newest = nvidia_driver.loaded_cuda_major(), nvidia_driver.newest_cuda()
    needs = f"CUDA {cuda}" if cuda else "CUDA"
    has = f" (up to CUDA {newest[0]}.{newest[1]})" if newest else ""
    oldest = nvidia_driver.oldest_driver(cuda) if cuda else None
    to = f", to {oldest} or newer" if oldest else ""
    return (
        f"MXNet's {needs} cannot use {gpu.name} with this driver{has}: update NVIDIA's "
        f"driver{to}"
    )


def _fits_extra(gpu: Gpu) -> bool:
    lowest, highest = mxnet_build.of_extra()
    return lowest <= gpu.capability <= highest


def _install_extra() -> str:
    return f"pip uninstall {mxnet_build.installed().name}, then {extras.install('gpu')}"


def _remedy(gpu: Gpu) -> str:
    """Return what to do about a GPU that this MXNet cannot use."""
    known = mxnet_build.capabilities(mxnet_build.installed())
    if _fits_extra(gpu) and not known:
        return f"xenon's own MXNet can use it: {_install_extra()}"
    if gpu.capability < mxnet_build.of_extra().lowest:
        return "use a newer GPU"
    if gpu.capability[0] == _HOPPER:
        return (
            "use the MXNet of NVIDIA's container mxnet:24.06-py3 (docs/deploy.md), or "
            "predict from an .onnx of xenon-export"
        )
    return (
        "no MXNet 1 is known that can use it; train on another GPU, and predict here "
        "from an .onnx of xenon-export"
    )
