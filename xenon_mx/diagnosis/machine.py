"""The computer: Python, processor, memory and disk.

Owns what is read of the operating system. Must not know MXNet or GPUs, so that it works
where they do not.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Iterator

from xenon_mx import __version__
from xenon_mx.diagnosis.finding import Finding, fact
from xenon_mx.runtime import disk_space, text
from xenon_mx.runtime.threads import usable_cores

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
_MOUNTS = Path("/proc/self/mountinfo")
_OS_RELEASE = Path("/etc/os-release")
# The limit of a container, in version 2 and 1 of the kernel's control groups.
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_PACKAGES = ("numpy", "opencv-python", "gluoncv", "simplejpeg")


def facts(folder: Path) -> Iterator[Finding]:
    """Yield what describes the computer, without names of users or computers.

    Args:
        folder: A folder on the disk in question.
    """
    yield fact("xenon", __version__)
    libc = " ".join(platform.libc_ver())
    yield fact(
        "Python",
        f"{platform.python_version()} on {_system()}, {platform.machine()}, {libc}",
    )
    yield fact("packages", ", ".join(map(_version, _PACKAGES)))
    threads = os.environ.get("OMP_NUM_THREADS")
    limited = f", OMP_NUM_THREADS={threads}" if threads else ""
    yield fact(
        "processor",
        f"{_field(_CPUINFO, 'model name')}, "
        f"{text.counted(usable_cores(), 'core')} usable{limited}",
    )
    yield fact("memory", _memory())
    free = text.format_bytes(disk_space.free(folder))
    yield fact("disk", f"{free} free, {_file_system(folder)}")


def _system() -> str:
    try:
        release = _OS_RELEASE.read_text()
    except OSError:
        return platform.system()
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', release, re.MULTILINE)
    name = found.group(1) if found else platform.system()
    return f"{name}, kernel {platform.release()}"


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"no {package}"


def _field(file: Path, name: str) -> str:
    """Return the first value of a field of a file of the kernel's."""
    try:
        content = file.read_text()
    except OSError:
        return "unknown"
    found = re.search(rf"^{name}\s*:\s*(.*)$", content, re.MULTILINE)
    return found.group(1).strip() if found else "unknown"


def _memory() -> str:
    total, available = (
        _kilobytes(_field(_MEMINFO, name)) for name in ("MemTotal", "MemAvailable")
    )
    limit = next(filter(None, map(_limit, _LIMITS)), "")
    return f"{total}, of which {available} available{limit}"


def _kilobytes(value: str) -> str:
    number = value.split()[0]
    return text.format_bytes(1024 * int(number)) if number.isdecimal() else value


def _limit(file: Path) -> str:
    """Return the limit of a container in words; empty without one."""
    try:
        number = file.read_text().strip()
    except OSError:
        return ""
    # Version 1 writes a number near 2**63 for no limit.
    if not number.isdecimal() or int(number) > 1 << 60:
        return ""
    return f", limit of this container {text.format_bytes(int(number))}"


def _file_system(folder: Path) -> str:
    """Return the kind of the file system of a folder, such as ext4 or nfs."""
    try:
        device = os.stat(folder).st_dev
        lines = _MOUNTS.read_text().splitlines()
    except OSError:
        return "unknown file system"
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        left, _, right = line.partition(" - ")
        if left.split()[2] == number:
            return right.split()[0]
    return "unknown file system"
