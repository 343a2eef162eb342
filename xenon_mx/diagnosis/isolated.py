"""Run a check in a process of its own, with a time limit.

A GPU that does not fit its library can crash a process or never answer: that must
become a line of the report. Owns listening to the process, and what is told of its end.
Must not know any check.
"""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Callable

from xenon_mx.diagnosis import privacy
from xenon_mx.diagnosis.finding import Finding
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.errors import ConfigError
from xenon_mx.runtime import child_process

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
_KINDS = {"doing", "finding", "data", "error"}  # of messages
# What a library does that cannot have memory: oneDNN divides by zero, others abort or
# write to address 0; the kernel kills.
_OF_TOO_LITTLE_MEMORY = ("SIGKILL", "SIGFPE", "SIGSEGV", "SIGABRT")
_REPORT = "please report it with all of this file"


def run(
    name: str,
    title: str,
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
        title: What the check is called in the report.
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
    current = f"starting the check of {title}"
    hider = privacy.Hider(Path(subject.folder))
    code = _CHILD.format(path=sys.path, module=f"{package}.{name}")
    with child_process.started(code) as child:
        _ask(child, {"subject": asdict(subject), "options": options})
        errors = child_process.Lines(child.stderr, _KEPT_LINES)
        messages = _messages(child)
        while True:
            message = _next(messages, silence_s) or {
                "failure": _how_it_ended(child, errors, hider)
            }
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
            elif "error" in message:
                found(Finding(title, "", hider.message(message["error"])))
                return None
            else:
                found(Finding(title, f"while {current}", message["failure"]))
                return None


def _ask(child: subprocess.Popen[bytes], asked: dict[str, Any]) -> None:
    """Send one line; standard input stays open as long as this process lives."""
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(json.dumps(asked, allow_nan=False).encode() + b"\n")
        child.stdin.flush()


def _messages(
    child: subprocess.Popen[bytes],
) -> queue.Queue[dict[str, Any] | None]:
    """Return the messages of a process, read on a thread, and None after the last."""
    assert child.stdout is not None
    messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
    child_process.on_thread(_read_messages, child.stdout, messages)
    return messages


def _next(
    messages: queue.Queue[dict[str, Any] | None], silence_s: float
) -> dict[str, Any] | None:
    """Return the next message, or a failure if none comes; None after the last."""
    try:
        return messages.get(timeout=silence_s)
    except queue.Empty:
        return {"failure": f"no answer in {silence_s:.0f} s; {_REPORT}"}


def _read_messages(
    stream: IO[bytes], messages: queue.Queue[dict[str, Any] | None]
) -> None:
    try:
        with stream:
            for line in stream:
                message = _parse(line)
                if message is not None:
                    messages.put(message)
    finally:
        messages.put(None)


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return a message; None for a line that something else has printed."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_message = isinstance(content, dict) and bool(_KINDS & content.keys())
    return content if is_message else None


def _how_it_ended(
    child: subprocess.Popen[bytes], errors: child_process.Lines, hider: privacy.Hider
) -> str:
    """Return how a process ended too early, its last line, and what to do."""
    status = child.wait()
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    lines = errors.after_end()
    told = [line for line in lines if line and not line.startswith(_NOISE)]
    last = f": {hider.message(told[-1])}" if told else ""
    advice = _REPORT
    if how in _OF_TOO_LITTLE_MEMORY:
        advice = (
            f"too little memory is the usual reason: use a smaller --batch-size or "
            f"--size; if that does not help, {_REPORT}"
        )
    return f"the process ended with {how}{last}; {advice}"
