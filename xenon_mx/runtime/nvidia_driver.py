"""What NVIDIA's driver reports: its versions, and the GPUs of this computer.

Owns the calls of libcuda; must not know MXNet or `--ctx`. Nothing here
computes on a GPU, so nothing here fails on one that MXNet cannot use.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import NamedTuple

# Of cuda.h: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76

# Where the driver's kernel module tells its version, inside containers too.
_MODULE_VERSION = Path("/proc/driver/nvidia/version")
_LOADED_FILES = Path("/proc/self/maps")

# The oldest driver for each major version of CUDA: NVIDIA, CUDA Compatibility, "Minor
# Version Compatibility", table 1. From CUDA 11 on, it runs every minor version, too.
_OLDEST_DRIVER = {11: "450.80", 12: "525.60", 13: "580"}


class Gpu(NamedTuple):
    """A GPU as NVIDIA's driver reports it."""

    name: str
    capability: tuple[int, int]
    memory: int  # bytes


def gpus() -> list[Gpu]:
    """Query the driver for the GPUs; return none if it is missing or fails."""
    driver = _initialized()
    if driver is None:
        return []
    count = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    return [_gpu(driver, index) for index in range(count.value)]


def _gpu(driver: ctypes.CDLL, index: int) -> Gpu:
    name = ctypes.create_string_buffer(100)
    driver.cuDeviceGetName(name, len(name), index)
    major, minor = ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, index)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, index)
    memory = ctypes.c_size_t()
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), index)
    return Gpu(name.value.decode(), (major.value, minor.value), memory.value)


def newest_cuda() -> tuple[int, int] | None:
    """Return the newest CUDA that the driver supports; None without a driver."""
    driver = _driver()
    number = ctypes.c_int()  # 12040 is CUDA 12.4
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(number)):
        return None
    major, minor = divmod(number.value, 1000)
    return (major, minor // 10) if major else None


def release() -> str | None:
    """Return the driver's own version, such as 535.183.01; None if it is not told."""
    try:
        first = _MODULE_VERSION.read_text().splitlines()[0]
    except (OSError, IndexError):
        return None
    found = re.search(r"\s(\d{3,}(?:\.\d+)+)\s", first)
    return found.group(1) if found else None


def loaded_cuda_major() -> int | None:
    """Return the major version of the CUDA that this process has loaded, if any.

    That is the CUDA of the MXNet that was imported, unless MXNet contains it. It is
    read off the name of libcudart, which answers no question beside a driver that is
    too old for it.
    """
    try:
        maps = _LOADED_FILES.read_text()
    except OSError:
        return None
    found = re.search(r"/libcudart\.so\.(\d+)", maps)
    return int(found.group(1)) if found else None


def oldest_driver(cuda_major: int) -> str | None:
    """Return the oldest driver for a major version of CUDA, if it is known."""
    return _OLDEST_DRIVER.get(cuda_major)


def _initialized() -> ctypes.CDLL | None:
    driver = _driver()
    return None if driver is None or driver.cuInit(0) else driver


def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
