"""A process of Python code that ends with this one, and with all that it starts.

Owns both ends of that promise: a process group, which is killed when the caller has
what it wants, and standard input, whose end tells the process that its caller is gone,
however that ended. Must not know what the process does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from typing import IO, Any, Callable, Iterator

from xenon_mx.runtime import mxnet, signals

# What a process of its own may have started can hold its streams open for longer.
_JOIN_S = 1.0


@contextlib.contextmanager
def started(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start Python code; at the end kill its process, and what that has started.

    The code is to call `end_with_parent`. All three standard streams are pipes;
    standard input must stay open while the process is to run.
    """
    with contextlib.ExitStack() as stack:
        with signals.deferred():
            child = subprocess.Popen(
                [sys.executable, "-c", code],
                env=mxnet.environment_of_child(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # A group of its own: Ctrl-C reaches this process alone.
                start_new_session=True,
            )
            stack.callback(_close, child.stdin)
            stack.callback(child.wait)
            stack.callback(kill_group, child)
        yield child


def _close(stream: IO[bytes] | None) -> None:
    assert stream is not None
    with contextlib.suppress(BrokenPipeError):  # what was not read is lost
        stream.close()


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill a process that `started` has started, and all processes of its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


class Lines:
    """The last lines of a stream, read on a thread so that its writer never waits.

    Args:
        stream: It is closed at its end.
        most: How many lines are kept.
    """

    def __init__(self, stream: IO[bytes] | None, most: int) -> None:
        assert stream is not None
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=most)
        self._thread = on_thread(self._read)

    def _read(self) -> None:
        with self._stream:
            for line in self._stream:
                self._lines.append(line.decode(errors="replace").strip())

    def after_end(self) -> list[str]:
        """Return the lines of a process that has ended."""
        self._thread.join(_JOIN_S)
        return list(self._lines)


def on_thread(function: Callable[..., None], *args: Any) -> threading.Thread:
    """Run a function on a thread that does not keep this process from ending."""
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def end_with_parent() -> None:
    """Kill this process and its group when standard input ends. Runs in the process.

    Nothing else may read standard input afterwards. The process that waits for a GPU
    for ever is ended, too: MXNet is called without Python's lock.
    """
    # What this process starts must not take standard input away.
    stream = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    on_thread(_wait_for_end, stream)


def _wait_for_end(stream: int) -> None:
    while os.read(stream, 4096):
        pass
    os.killpg(0, signal.SIGKILL)
