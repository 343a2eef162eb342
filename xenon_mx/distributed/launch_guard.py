"""A process that ends what a launcher leaves behind when it is killed.

It waits at a pipe from the launcher, which the system closes with the launcher, however
that ends. What it left is found by a variable of the environment that the launcher
gives its processes, and that all they start inherits. Owns nothing else; it needs
Python alone, and runs as long as the launcher does.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Iterator

GOODBYE = b"."  # what the launcher writes when it has left nothing behind

_WORKER = b"DMLC_ROLE=worker"
_GRACE_S = 5.0  # chosen here: for workers to take leave in
_LEAST_S = 1.0  # a process that was being started shows its environment by then
_POLL_S = 0.1


def main(mark: str) -> None:
    """Wait for the end of the launcher; end what it left unless it said goodbye.

    Args:
        mark: A variable that only processes of this launcher have.
    """
    if sys.stdin.buffer.read() == GOODBYE:
        return
    began = time.monotonic()
    told: set[int] = set()
    while True:
        left = dict(_marked(mark))
        passed = time.monotonic() - began
        if not left and passed > _LEAST_S:
            return
        workers = {pid for pid, is_worker in left.items() if is_worker}
        if passed > _GRACE_S or not workers:
            _send(signal.SIGKILL, set(left))  # servers have nothing to lose
        else:
            _send(signal.SIGTERM, workers - told)
            told |= workers
        if passed > 2 * _GRACE_S:  # not even that ends what waits for a dead disk
            return
        time.sleep(_POLL_S)


def _marked(mark: str) -> Iterator[tuple[int, bool]]:
    """Yield each process that has the mark, and whether it is a worker's."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is somebody else's
            continue
        pid = int(folder.name)
        if any(each.startswith(mark.encode()) for each in environment):
            if pid != os.getpid():
                yield pid, _WORKER in environment


def _send(number: int, pids: set[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:  # it has ended by itself
            pass
