"""Run a check in a process of its own, with a time limit.

A GPU that does not fit its library can crash a process or never answer: that must
become a line of the report. Owns starting, listening to and ending the process. Must
not know any check.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from dataclasses import asdict
from typing import IO, Any, Callable, Iterator

from xenon_mx.diagnosis.finding import Finding
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.errors import ConfigError
from xenon_mx.runtime import mxnet, signals

# Chosen here: the longest silence of a check that works. DenseNet169 at 320 px is
# silent for 20 s on one slow core; a library that compiles kernels, for minutes.
SILENCE_S = 600.0

# The search path is this process's: -c would put the working directory before it.
_CHILD = """
import sys
sys.path[:] = {path!r}
from xenon_mx.diagnosis import child
child.main({module!r})
"""
_KEPT_LINES = 40  # of what a process writes to standard error
_NOISE = ("[bt]", "Stack trace", "Segmentation fault: 11")  # of MXNet's C++ traces


def run(
    name: str,
    subject: Subject,
    doing: Callable[[str], None],
    found: Callable[[Finding], None],
    silence_s: float = SILENCE_S,
    package: str = __package__,
    **options: Any,
) -> dict[str, Any] | None:
    """Run a check, and pass on what it tells.

    Args:
        name: A module with a function `check`.
        subject: What is checked.
        doing: Receives what is done next.
        found: Receives each finding; a crash, an error and silence are findings.
        silence_s: The process is killed after so many seconds without a word.
        package: The package of the module.
        options: Further arguments of the check, as JSON values.

    Returns:
        What the check returned; None if it did not end as it should.

    Raises:
        ConfigError: A setting is not valid.
    """
    current = f"starting the check {name}"
    with _child(f"{package}.{name}") as child:
        asked = {"subject": asdict(subject), "options": options}
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError), child.stdin as stdin:
            stdin.write(json.dumps(asked, allow_nan=False).encode())
        messages, errors = _listen(child)
        while True:
            try:
                message = messages.get(timeout=silence_s)
            except queue.Empty:
                found(_failure(name, current, f"no answer in {silence_s:.0f} s"))
                return None
            if message is None:
                found(_failure(name, current, _how_it_ended(child, errors)))
                return None
            if "doing" in message:
                current = message["doing"]
                doing(current)
            elif "finding" in message:
                found(Finding.from_json(message["finding"]))
            elif "data" in message:
                return dict(message["data"])
            elif "flag" in message:
                flag, reason = message["flag"], message["error"]
                raise ConfigError(flag, reason[len(f"{flag}: ") :])
            else:
                found(Finding(name, "", message["error"]))
                return None


@contextlib.contextmanager
def _child(module: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the process of a check; at the end kill it, and what it has started."""
    code = _CHILD.format(path=sys.path, module=module)
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
            stack.callback(child.wait)
            stack.callback(_kill_group, child.pid)
        yield child


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _listen(
    child: subprocess.Popen[bytes],
) -> tuple[queue.Queue[dict[str, Any] | None], deque[str]]:
    """Read both streams of a process on threads.

    Returns:
        Its messages, None after the last; and the end of its standard error, which is
        complete at that time.
    """
    assert child.stdout is not None
    assert child.stderr is not None
    messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
    errors: deque[str] = deque(maxlen=_KEPT_LINES)
    collector = _started(_collect, child.stderr, errors)
    _started(_read_messages, child.stdout, messages, collector)
    return messages, errors


def _started(function: Callable[..., None], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


def _collect(stream: IO[bytes], lines: deque[str]) -> None:
    with stream:
        for line in stream:
            lines.append(line.decode(errors="replace").strip())


def _read_messages(
    stream: IO[bytes],
    messages: queue.Queue[dict[str, Any] | None],
    collector: threading.Thread,
) -> None:
    with stream:
        for line in stream:
            if line.endswith(b"\n"):
                messages.put(json.loads(line))
    collector.join(timeout=1.0)  # what it has started may hold standard error open
    messages.put(None)


def _how_it_ended(child: subprocess.Popen[bytes], errors: deque[str]) -> str:
    """Return how a process ended too early, with the last line that it wrote."""
    status = child.wait()
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    told = [line for line in errors if line and not line.startswith(_NOISE)]
    last = f": {told[-1]}" if told else ""
    return f"the process ended with {how}{last}"


def _failure(name: str, current: str, reason: str) -> Finding:
    return Finding(
        name, f"while {current}", f"{reason}; please report it with all of this file"
    )
