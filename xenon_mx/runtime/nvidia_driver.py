"""What NVIDIA's driver reports: its versions, and the GPUs of this computer.

Owns the calls of libcuda and libcudart; must not know MXNet or `--ctx`. Nothing here
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
    return None if driver is None else _version(driver.cuDriverGetVersion)


def release() -> str | None:
    """Return the driver's own version, such as 535.183.01; None if it is not told."""
    try:
        first = _MODULE_VERSION.read_text().splitlines()[0]
    except (OSError, IndexError):
        return None
    found = re.search(r"\s(\d{3,}(?:\.\d+)+)\s", first)
    return found.group(1) if found else None


def loaded_cuda() -> tuple[int, int] | None:
    """Return the version of the CUDA that this process has loaded; None without one.

    That is the CUDA of the MXNet that was imported, unless MXNet contains it.
    """
    try:
        lines = _LOADED_FILES.read_text().splitlines()
    except OSError:
        return None
    # The sixth column is the path, in which there may be spaces.
    files = (columns[5] for line in lines if len(columns := line.split(None, 5)) == 6)
    file = next((file for file in files if "/libcudart.so" in file), None)
    return None if file is None else _version(ctypes.CDLL(file).cudaRuntimeGetVersion)


def oldest_driver(cuda_major: int) -> str | None:
    """Return the oldest driver for a major version of CUDA, if it is known."""
    return _OLDEST_DRIVER.get(cuda_major)


def _version(query: ctypes._NamedFuncPointer) -> tuple[int, int] | None:
    """Ask a function of CUDA's for a version, which it writes as 12040 for 12.4."""
    number = ctypes.c_int()
    if query(ctypes.byref(number)) or not number.value:
        return None
    return number.value // 1000, number.value % 1000 // 10


def _initialized() -> ctypes.CDLL | None:
    driver = _driver()
    return None if driver is None or driver.cuInit(0) else driver


def _driver() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
