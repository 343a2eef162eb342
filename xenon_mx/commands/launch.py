"""xenon-launch: a scheduler, servers and workers, on this computer or over ssh.

Owns starting, watching and ending these processes. Must not know what they compute.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Sequence

from xenon_mx.config import LaunchConfig
from xenon_mx.distributed import cluster
from xenon_mx.distributed.launch_guard import GOODBYE
from xenon_mx.errors import XenonError, os_error

_NO_START = "no process can be started"  # in place of a path
_GRACE_S = 10.0  # chosen here: time from SIGTERM to SIGKILL
_POLL_S = 0.1
_ANY_PORT = 9
# Without the working directory on sys.path: a json.py there, or a checkout of xenon,
# would shadow the installed modules.
_IMPORT = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "from xenon_mx.distributed import "
)
_SERVER = _IMPORT + "server; server.main()"
_GUARD = _IMPORT + "launch_guard; launch_guard.main({mark!r})"
# How MXNet's servers and scheduler end on traffic that is not MXNet's.
_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)


def launch(config: LaunchConfig, log: Callable[[str], None]) -> int:
    """Run a command as several workers, with the scheduler and servers MXNet needs.

    Args:
        config: The settings of `xenon-launch`.
        log: Receives each line of the processes, prefixed with the process's name, and
            at the end which process failed and why. Its failures are ignored.

    Returns:
        The highest exit status of the workers, or of a scheduler or server that failed.

    Raises:
        XenonError: The host file cannot be read, or a program cannot be started.
    """
    hosts = _read_hosts(config.hosts) if config.hosts else []
    _check_machine(config, hosts)
    mark = f"XENON_LAUNCH_{secrets.token_hex(8)}"
    log = _ignoring_errors(log)
    processes: list[_Process] = []
    with _guard(mark), _reserve_port() as port:
        shared = {**_shared_environment(config, hosts, port), mark: "1"}
        try:
            for task in _tasks(config, hosts):
                processes.append(_Process(task, shared, log))
            return _wait(processes, log)
        except OSError as error:
            raise os_error(error.filename or _NO_START, error) from error
        finally:
            _end(processes)


def _check_machine(config: LaunchConfig, hosts: Sequence[str]) -> None:
    """Check the settings with which MXNet would wait for ever."""
    cluster.check_open_files(config.workers, config.servers)
    if config.interface and not hosts:
        cluster.check_interface(config.interface, "--interface")


def _shared_environment(
    config: LaunchConfig, hosts: Sequence[str], port: int
) -> dict[str, str]:
    """Return the environment variables that are the same in all processes."""
    shared = {
        "DMLC_PS_ROOT_URI": config.address or _own_address(hosts),
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NUM_WORKER": str(config.workers),
        "DMLC_NUM_SERVER": str(config.servers),
    }
    if not hosts:
        shared["DMLC_INTERFACE"] = "lo"  # MXNet trusts everyone who reaches its ports
    if config.interface:
        shared["DMLC_INTERFACE"] = config.interface
    return shared


class _Task(NamedTuple):
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
        return self.role if self.role == "scheduler" else f"{self.role} {self.number}"


def _tasks(config: LaunchConfig, hosts: Sequence[str]) -> Iterator[_Task]:
    """Yield the processes to start; servers and workers are dealt out to the hosts."""
    python = [config.python or sys.executable, "-c", _SERVER]
    # The scheduler runs here, where DMLC_PS_ROOT_URI leads.
    yield _Task("scheduler", 0, python, None)
    for number in range(config.servers):
        host = hosts[number % len(hosts)] if hosts else None
        yield _Task("server", number, python, host)
    for number in range(config.workers):
        host = hosts[number % len(hosts)] if hosts else None
        yield _Task("worker", number, config.command, host)


@contextlib.contextmanager
def _guard(mark: str) -> Iterator[None]:
    """Run a process that ends all marked processes if this one is killed."""
    try:
        guard = subprocess.Popen(
            [sys.executable, "-c", _GUARD.format(mark=mark)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that Ctrl-C does not end it
        )
    except OSError as error:
        raise os_error(_NO_START, error) from error
    # No goodbye after a signal: it may have come between the start of a process and its
    # entry in the list of those to end.
    message = b""
    try:
        yield
        message = GOODBYE
    except Exception:
        message = GOODBYE
        raise
    finally:
        with contextlib.suppress(OSError):
            guard.communicate(message)


def _ignoring_errors(log: Callable[[str], None]) -> Callable[[str], None]:
    """Wrap a log so that its failures end nothing."""

    def try_to_log(line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a closed pipe or a full disk
            log(line)

    return try_to_log


class _Process:
    """A running task, in a process group of its own, here or behind ssh."""

    def __init__(
        self, task: _Task, shared: dict[str, str], log: Callable[[str], None]
    ) -> None:
        self.name = task.name
        self.is_worker = task.role == "worker"
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
        for line in self._process.stdout:
            self._log(f"[{self.name}] {line.rstrip()}")
        self._process.stdout.close()

    def status(self) -> int | None:
        """Return the exit status in a shell's convention; None while running."""
        code = self._process.poll()
        return 128 - code if code is not None and code < 0 else code

    def failure(self) -> str | None:
        """Return how the process failed; None if it did not, or printed its error."""
        status = self.status() or 0
        name = "the scheduler" if self.name == "scheduler" else self.name
        if self._host:
            name += f" on {self._host}"
        number = status - 128  # a shell, here or over ssh, reports a signal so
        if number in set(signal.Signals):
            return f"{name} was killed by {self._describe_signal(number)}"
        if status and not self.is_worker:
            return f"{name} ended with status {status}"
        return None

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
    script = f"cd {shlex.quote(_working_directory())} && env {settings} {words}"
    # -tt: with a terminal, the remote command ends with the connection.
    return ["ssh", "-tt", "-o", "BatchMode=yes", host, script]


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise XenonError(
            "the working directory no longer exists: change to one that the hosts share"
        ) from error


def _wait(processes: Sequence[_Process], log: Callable[[str], None]) -> int:
    """Wait until all workers are done or one process fails; return the exit status."""
    while True:
        if any(process.status() for process in processes):
            time.sleep(_POLL_S)  # others that fail with it print their errors
            _log_failure(processes, log)
            return max(process.status() or 0 for process in processes)
        if all(process.status() == 0 for process in processes if process.is_worker):
            return 0
        time.sleep(_POLL_S)


def _log_failure(processes: Sequence[_Process], log: Callable[[str], None]) -> None:
    """Log the first process that failed, and how."""
    for process in processes:
        failure = process.failure()
        if failure:
            log(f"error: {failure}: start again, with --resume to continue a run")
            return


def _end(processes: Sequence[_Process]) -> None:
    """End all processes, the workers with time to save what they have."""
    workers = [process for process in processes if process.is_worker]
    if workers and all(process.status() == 0 for process in workers):
        _wait_for_exit(processes)  # servers end after their workers
    for process in workers:
        process.send_signal(signal.SIGTERM)
    _wait_for_exit(workers)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + _GRACE_S
    for process in processes:
        process.join(deadline)


def _wait_for_exit(processes: Sequence[_Process]) -> None:
    """Wait until processes have ended, at most the time from SIGTERM to SIGKILL."""
    deadline = time.monotonic() + _GRACE_S
    while time.monotonic() < deadline:
        if all(process.status() is not None for process in processes):
            return
        time.sleep(_POLL_S)


def _read_hosts(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise os_error(file, error) from error
    except UnicodeDecodeError as error:
        raise XenonError(f"{file}: not text in UTF-8; one host per line") from error
    hosts = [line.split("#")[0].strip() for line in lines]
    hosts = [host for host in hosts if host]
    if not hosts:
        raise XenonError(f"{file}: names no host; write one per line, as for ssh")
    return hosts


def _own_address(hosts: Sequence[str]) -> str:
    """Return the address of this computer, where the scheduler runs."""
    if not hosts:
        return "127.0.0.1"
    name = hosts[0].split("@")[-1]
    try:
        return cluster.own_address(name, _ANY_PORT)
    except OSError:
        return socket.gethostname()  # the host is a name from ssh's configuration


@contextlib.contextmanager
def _reserve_port() -> Iterator[int]:
    """Yield a port for the scheduler, held so that the system assigns it to no other.

    Without this, a worker of another launch may get the port before the scheduler binds
    it, and this launch's processes would connect to that worker, which aborts. The
    scheduler itself can still bind it: it sets SO_REUSEADDR, too, and this socket does
    not listen.
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("", 0))
        yield int(reserved.getsockname()[1])
