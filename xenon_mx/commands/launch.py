"""xenon-launch: a scheduler, servers and workers, on this computer or over ssh.

Owns starting, watching and ending these processes. Must not know what they compute.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator, Sequence

from xenon_mx.config import LaunchConfig
from xenon_mx.distributed import cluster, worker_lines
from xenon_mx.distributed.launch_guard import GOODBYE
from xenon_mx.distributed.launched_process import Process, Task
from xenon_mx.errors import XenonError, os_error

_NO_START = "no process can be started"  # in place of a path
_GRACE_S = 10.0  # chosen here: time from SIGTERM to SIGKILL
_POLL_S = 0.1
# Chosen here: time for the worker that failed to end after the others, which end as
# soon as its connection closes.
_CAUSE_S = 5.0
_ANY_PORT = 9
# Without the working directory on sys.path: a json.py there, or a checkout of xenon,
# would shadow the installed modules.
_IMPORT = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "from xenon_mx.distributed import "
)
_SERVER = _IMPORT + "server; server.main()"
_GUARD = _IMPORT + "launch_guard; launch_guard.main({mark!r})"


def launch(config: LaunchConfig, log: Callable[[str], None]) -> int:
    """Run a command as several workers, with the scheduler and servers MXNet needs.

    Args:
        config: The settings of `xenon-launch`.
        log: Receives each line of the processes, prefixed with the process's name, and
            at the end which process failed and how. Its failures are ignored.

    Returns:
        The highest exit status of the workers, or of a scheduler or server that failed.

    Raises:
        XenonError: The host file cannot be read, or a program cannot be started.
    """
    hosts = _read_hosts(config.hosts) if config.hosts else []
    _check_machine(config, hosts)
    mark = f"{worker_lines.LAUNCH_MARK}{secrets.token_hex(8)}"
    log = _ignoring_errors(log)
    processes: list[Process] = []
    with _guard(mark), _reserve_port() as port:
        shared = {**_shared_environment(config, hosts, port), mark: "1"}
        try:
            for task in _tasks(config, hosts):
                processes.append(Process(task, shared, log))
            status, failure = _wait(processes)
        except OSError as error:
            raise os_error(error.filename or _NO_START, error) from error
        finally:
            _end(processes)
    if failure:
        log(f"error: {failure}")
    return status


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


def _tasks(config: LaunchConfig, hosts: Sequence[str]) -> Iterator[Task]:
    """Yield the processes to start; servers and workers are dealt out to the hosts."""
    python = [config.python or sys.executable, "-c", _SERVER]
    # The scheduler runs here, where DMLC_PS_ROOT_URI leads.
    yield Task("scheduler", 0, python, None)
    for number in range(config.servers):
        host = hosts[number % len(hosts)] if hosts else None
        yield Task("server", number, python, host)
    for number in range(config.workers):
        host = hosts[number % len(hosts)] if hosts else None
        yield Task("worker", number, config.command, host)


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


def _wait(processes: Sequence[Process]) -> tuple[int, str | None]:
    """Wait until all workers are done or one process fails.

    Returns:
        The exit status of the launch, and which process failed, and how; None if none.
    """
    while True:
        if any(process.status() for process in processes):
            failure = _describe_failure(processes)
            return max(process.status() or 0 for process in processes), failure
        if all(process.status() == 0 for process in processes if process.is_worker):
            return 0, None
        time.sleep(_POLL_S)


def _describe_failure(processes: Sequence[Process]) -> str:
    """Return which process failed first, and how.

    Other workers end because of it, and mostly before it: they say that they have lost
    another one. Of several that remain, one that was killed is the cause.
    """
    deadline = time.monotonic() + _CAUSE_S
    causes: list[Process] = []
    while not causes and time.monotonic() < deadline:
        time.sleep(_POLL_S)  # others fail with it
        failed = [process for process in processes if process.status()]
        for process in failed:
            process.join(deadline)  # it has printed its last line
        causes = [process for process in failed if not process.has_lost_another]
    if not causes:
        return "the workers have lost one another, as when a network fails"
    return min(causes, key=lambda process: not process.killed_by).failure()


def _end(processes: Sequence[Process]) -> None:
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


def _wait_for_exit(processes: Sequence[Process]) -> None:
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
