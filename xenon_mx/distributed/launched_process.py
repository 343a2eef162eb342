"""A process that xenon-launch starts, here or over ssh.

Owns its command, the labels of its lines, its signals, and the words for how it failed.
Must not know which processes a launch needs.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from typing import Callable, NamedTuple, Sequence

from xenon_mx.distributed import worker_lines
from xenon_mx.errors import XenonError

_SSH_FAILED = 255
# How MXNet's servers and scheduler end on traffic that is not MXNet's.
_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)


class Task(NamedTuple):
    """What one process is to run.

    Attributes:
        role: scheduler, server or worker.
        number: Counted from 0 per role. Not the rank, which MXNet assigns.
        command: Program and arguments.
        host: Where to run it, as ssh names it; None for this computer.
    """

    role: str
    number: int
    command: Sequence[str]
    host: str | None

    @property
    def name(self) -> str:
        """The label of its lines, such as `worker 0`."""
        return self.role if self.role == "scheduler" else f"{self.role} {self.number}"


class Process:
    """A running task, in a process group of its own, here or behind ssh.

    Attributes:
        name: Such as `worker 0`, the label of its lines.
        is_worker: Whether it is a worker.
        rank: The worker's rank, once it has printed it.
        has_lost_another: Whether it has printed that it ends because another worker is
            lost.
    """

    def __init__(
        self, task: Task, shared: dict[str, str], log: Callable[[str], None]
    ) -> None:
        self.name = task.name
        self.is_worker = task.role == "worker"
        self.rank: int | None = None
        self.has_lost_another = False
        self._host, self._log = task.host, log
        variables = {"DMLC_ROLE": task.role, **shared}
        command = task.command
        if task.host:
            command = _over_ssh(task.host, command, variables)
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in map(str.rstrip, self._process.stdout):
            self._log(f"[{self.name}] {line}")
            rank = worker_lines.parse_rank(line)
            self.rank = self.rank if rank is None else rank
            self.has_lost_another |= worker_lines.is_lost_line(line)
        self._process.stdout.close()

    def status(self) -> int | None:
        """Return the exit status in a shell's convention; None while running."""
        code = self._process.poll()
        return 128 - code if code is not None and code < 0 else code

    def failure(self) -> str:
        """Return which process this is and how it failed, after it has."""
        status = self.status()
        name = "the scheduler" if self.name == "scheduler" else self.name
        name += "" if self.rank is None else f" (rank {self.rank})"
        name += f" on {self._host}" if self._host else ""
        if self.killed_by:
            return f"{name} was killed by {self._describe_signal(self.killed_by)}"
        if self._host and status == _SSH_FAILED:
            return f"{name}: ssh could not start it, or lost the connection to it"
        return f"{name} ended with exit status {status} (see its lines above)"

    @property
    def killed_by(self) -> int:
        """The signal that killed the process, 0 if none did."""
        number = (self.status() or 0) - 128  # a shell, here or over ssh, reports so
        return number if number in set(signal.Signals) else 0

    def _describe_signal(self, number: int) -> str:
        name = signal.Signals(number).name
        if number == signal.SIGKILL:
            return f"{name}, as the system does when memory is full"
        if number in _CRASHES and not self.is_worker:
            return f"{name}, as it is by traffic that is not MXNet's (see above)"
        return name

    def send_signal(self, number: int) -> None:
        """Send a signal to the whole process group."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def join(self, deadline: float) -> None:
        """Wait for the end of the process, and until a deadline for its last lines.

        Children in sessions of their own may hold the pipe open; the guard ends them
        only after this process.
        """
        self._process.wait()
        self._reader.join(max(0.0, deadline - time.monotonic()))


def _over_ssh(
    host: str, command: Sequence[str], variables: dict[str, str]
) -> list[str]:
    """Return the ssh command that runs a command in the same folder on a host."""
    settings = " ".join(f"{k}={shlex.quote(v)}" for k, v in variables.items())
    words = " ".join(shlex.quote(word) for word in command)
    # A shell that stays reports a signal as its status, which ssh then passes on.
    script = (
        f"cd {shlex.quote(_working_directory())} && env {settings} {words}; exit $?"
    )
    # -tt: with a terminal, the remote command ends with the connection.
    return ["ssh", "-tt", "-o", "BatchMode=yes", host, script]


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise XenonError(
            "the working directory no longer exists: change to one that the hosts share"
        ) from error
