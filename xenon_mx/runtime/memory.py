"""Minimum memory of the commands, and detection of out-of-memory errors.

Owns the memory requirements of imports and the message about too little memory; must
not know commands. Under a limit (`ulimit -v`), imports do not fail but crash or hang:
OpenBLAS and MXNet start threads and assume that this succeeds. So the limit is checked
before anything is imported.
"""

from __future__ import annotations

import errno
import os
import resource
from typing import NamedTuple

from xenon_mx.errors import XenonError
from xenon_mx.runtime.threads import usable_cores

_MB = 2**20


class Requirement(NamedTuple):
    """The address space that importing packages and minimal work with them need.

    Attributes:
        base: MB of address space.
        per_thread: MB more per thread, 41 of them for each copy of OpenBLAS (32 of
            scratch memory, and a stack): NumPy, SciPy and MXNet have one each.
    """

    base: int
    per_thread: int

    def total(self) -> int:
        """Return the MB for the number of threads that will be started."""
        return self.base + self.per_thread * _threads()


# Measured as VmPeak in /proc/self/status of the commands on 24 images of 32 px, with
# mobilenet0.25, on 1 and 2 threads (x86-64, glibc 2.36, Python 3.11), in MB: pack 516
# and 556; report 538 and 618; predict with ONNX Runtime 810 and 890, with
# OpenVINO 1,663 and 1,808; train 1,028 and 1,253, export 1,016 and 1,232, predict 1,017
# and 1,102 with MXNet, where half of the memory for the second thread is only reserved,
# and not needed if there is none.
PACK = Requirement(475, 41)
REPORT = Requirement(456, 82)
ONNX = Requirement(730, 82)
OPENVINO = Requirement(1520, 145)
MXNET = Requirement(1000, 130)

# Messages, in lower case, of libraries that do not raise MemoryError: the dynamic
# loader, NumPy, OpenCV, MXNet, C++ and Python's threads.
_MESSAGES = (
    "failed to map segment",
    "cannot allocate memory",
    "unable to allocate",
    "insufficient memory",
    "failed to allocate cpu memory",
    "bad_alloc",
    "can't start new thread",
    "resource temporarily unavailable",
)


def check(requirement: Requirement) -> None:
    """Check that the limit of the address space permits an import.

    Raises:
        XenonError: The limit is too low.
    """
    limit = _limit()
    if limit is not None and limit < requirement.total():
        raise XenonError(
            f"too little memory: at least {requirement.total():,} MB of address space "
            f"are needed, and the limit is {limit:,} (ulimit -v): raise it"
        )


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an exception was caused by too little memory."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        message in text for message in _MESSAGES
    )


def out_of_memory_message() -> str:
    """Return the message for an out-of-memory error, with a remedy."""
    limit = _limit()
    if limit is not None:
        return f"out of memory: the limit is {limit:,} MB (ulimit -v): raise it"
    return "out of memory: close other programs, or use a computer with more memory"


def _limit() -> int | None:
    """Return the limit of this process's address space in MB, None if unlimited."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft // _MB


def _threads() -> int:
    """Return the number of threads that OpenBLAS and OpenMP will start."""
    cores = usable_cores()
    environ = os.environ
    setting = environ.get("OPENBLAS_NUM_THREADS") or environ.get("OMP_NUM_THREADS")
    if setting is not None and setting.isdecimal() and int(setting) > 0:
        return min(int(setting), cores)
    return cores
