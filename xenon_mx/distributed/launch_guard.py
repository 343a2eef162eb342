"""The process that ends what a killed launcher leaves behind.

Owns finding and ending those processes. It reads a pipe from the launcher, which the
system closes when the launcher ends, and finds the processes by an environment variable
that the launcher sets and that their children inherit. Imports nothing but
Python's own library.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Iterator

GOODBYE = b"."  # what the launcher writes when it has ended all processes itself

_WORKER = b"DMLC_ROLE=worker"
_GRACE_S = 5.0  # chosen here: time from SIGTERM to SIGKILL
_MIN_S = 1.0  # a process that was being started has set its environment by then
_POLL_S = 0.1


def main(mark: str) -> None:
    """Wait for the launcher to end; end its processes unless it wrote a goodbye.

    Args:
        mark: Name of the environment variable of this launcher's processes.
    """
    if sys.stdin.buffer.read() == GOODBYE:
        return
    start = time.monotonic()
    terminated: set[int] = set()
    while True:
        remaining = dict(_marked_processes(mark))
        elapsed = time.monotonic() - start
        if not remaining and elapsed > _MIN_S:
            return
        workers = {pid for pid, is_worker in remaining.items() if is_worker}
        if elapsed > _GRACE_S or not workers:
            _send(signal.SIGKILL, set(remaining))  # servers have nothing to save
        else:
            _send(signal.SIGTERM, workers - terminated)
            terminated |= workers
        if elapsed > 2 * _GRACE_S:  # SIGKILL does not end a process blocked on a disk
            return
        time.sleep(_POLL_S)


def _marked_processes(mark: str) -> Iterator[tuple[int, bool]]:
    """Yield the id of each process that has the mark, and whether it is a worker."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or belongs to another user
            continue
        pid = int(folder.name)
        is_marked = any(entry.startswith(mark.encode()) for entry in environment)
        if is_marked and pid != os.getpid():
            yield pid, _WORKER in environment


def _send(number: int, pids: set[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:  # it has ended
            pass
