"""How much memory a command takes at least, and how its lack is told. Knows no task.

Under a limit (`ulimit -v`), what xenon imports does not fail, but crashes or waits for
ever: OpenBLAS and MXNet start threads, and take for granted that they can. So the limit
is looked at first, and nothing is imported that would not fit.
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
    """What importing some packages, and a tiny piece of work with them, takes.

    Attributes:
        base: MB of address space.
        each: MB more for each thread: of it, OpenBLAS takes 41 (32 of scratch memory
            and a stack), and comes with NumPy, SciPy and MXNet each.
    """

    base: int
    each: int

    def total(self) -> int:
        """MB on the cores, or by the environment's number of threads."""
        return self.base + self.each * _threads()


# Measured as VmPeak in /proc/self/status of the commands on 24 images of 32 px, with
# mobilenet0.25, on 1 and 2 threads (x86-64, glibc 2.36, Python 3.11), in MB: pack 516
# and 556; report 538 and 618; predict with ONNX Runtime 810 and 890; train 1,028 and
# 1,253, export 1,016 and 1,232, predict 1,017 and 1,102 with MXNet, where half of the
# memory for the second thread is kept for later, and not missed where there is none.
PACK = Requirement(475, 41)
REPORT = Requirement(456, 82)
ONNX = Requirement(730, 82)
MXNET = Requirement(1000, 130)

# What libraries say who do not raise a MemoryError, in small letters: the loader of
# shared objects, NumPy, OpenCV, MXNet, C++ and Python's threads.
_WORDS = (
    "failed to map segment",
    "cannot allocate memory",
    "unable to allocate",
    "insufficient memory",
    "failed to allocate cpu memory",
    "bad_alloc",
    "can't start new thread",
    "resource temporarily unavailable",
)


def check(need: Requirement) -> None:
    """Stop if a limit leaves too little memory for what is to be imported.

    Raises:
        XenonError: It does.
    """
    limit = _limit()
    if limit is not None and limit < need.total():
        raise XenonError(
            f"too little memory: {need.total():,} MB of address space are needed at "
            f"least, and the limit is {limit:,} (ulimit -v): raise it"
        )


def is_lacking(error: BaseException | None) -> bool:
    """Tell whether an exception came of too little memory."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _WORDS)


def out_of_memory_message() -> str:
    """Say that memory did not suffice, and what to do."""
    limit = _limit()
    if limit is not None:
        return f"out of memory: the limit is {limit:,} MB (ulimit -v): raise it"
    return "out of memory: end other programs, or use a computer that has more"


def _limit() -> int | None:
    """Give the limit of this process's address space in MB; None without one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft // _MB


def _threads() -> int:
    """Count the threads that OpenBLAS and OpenMP will start."""
    cores = usable_cores()
    asked = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
    if asked is not None and asked.isdecimal() and int(asked) > 0:
        return min(int(asked), cores)
    return cores
