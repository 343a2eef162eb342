"""xenon-launch: a scheduler, servers and workers, here or over ssh, and their end.

Owns the processes. Knows nothing of what they do.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Iterator, Sequence

from xenon_mx.config import LaunchConfig
from xenon_mx.distributed import cluster
from xenon_mx.distributed.launch_guard import GOODBYE
from xenon_mx.errors import XenonError

_RANK = re.compile(r"rank (\d+) of \d+$")  # what xenon-train says when it has joined
_GRACE_S = 10.0  # chosen here: to take leave in, before a process is killed
_POLL_S = 0.1
# Modules are looked for where they are installed: a json.py in the working folder, or
# a checkout of xenon, is not what a Python of ours is to run.
_START = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "from xenon_mx.distributed import "
)
_SERVE, _GUARD = (
    _START + "server; server.main()",
    _START + "launch_guard; launch_guard.main({mark!r})",
)
# What a server or scheduler that gets other traffic than MXNet's dies of.
_CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)


def launch(config: LaunchConfig, say: Callable[[str], None]) -> int:
    """Run a command as several workers, with what MXNet needs around them.

    Args:
        config: What `xenon-launch` was told.
        say: Takes every line of the workers, with their rank before it, and at last
            which process was lost, and of what. That it fails ends nothing.

    Returns:
        The worst exit status of the workers, or of a scheduler or server that failed.

    Raises:
        XenonError: A host file cannot be read, or a program cannot be started.
    """
    hosts = _read_hosts(config.hosts) if config.hosts else []
    _refuse(config, hosts)
    mark = f"XENON_LAUNCH_{secrets.token_hex(8)}"
    processes: list[_Process] = []
    with _guarded(mark), _reserved_port() as port:
        try:
            for process in _started(config, hosts, port, mark, _unfailing(say)):
                processes.append(process)
            return _wait(processes, _unfailing(say))
        except OSError as error:
            name = error.filename or "no process can be started"
            raise XenonError(f"{name}: {error.strerror}") from error
        finally:
            _end(processes)


def _refuse(config: LaunchConfig, hosts: Sequence[str]) -> None:
    """Stop before anything is started that MXNet would not come back from."""
    cluster.refuse_few_files(config.workers, config.servers)
    if config.interface and not hosts:
        cluster.refuse_unknown_interface(config.interface, "--interface")


def _started(
    config: LaunchConfig,
    hosts: Sequence[str],
    port: int,
    mark: str,
    say: Callable[[str], None],
) -> Iterator[_Process]:
    """Start and yield one process after the other."""
    shared = {
        "DMLC_PS_ROOT_URI": config.address or _address(hosts),
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NUM_WORKER": str(config.workers),
        "DMLC_NUM_SERVER": str(config.servers),
        mark: "1",
    }
    if not hosts:
        shared["DMLC_INTERFACE"] = "lo"  # MXNet's traffic is open to all who reach it
    if config.interface:
        shared["DMLC_INTERFACE"] = config.interface
    python = [config.python or sys.executable, "-c", _SERVE]
    # The scheduler is here, where its address is; the others take turns on hosts.
    yield _Process("scheduler", python, shared, None, say)
    for number in range(config.servers):
        host = hosts[number % len(hosts)] if hosts else None
        yield _Process(f"server {number}", python, shared, host, say)
    for number in range(config.workers):
        host = hosts[number % len(hosts)] if hosts else None
        yield _Process(f"worker {number}", config.command, shared, host, say)


@contextlib.contextmanager
def _guarded(mark: str) -> Iterator[None]:
    """Have what carries a mark ended even if this process is killed."""
    try:
        guard = subprocess.Popen(
            [sys.executable, "-c", _GUARD.format(mark=mark)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is this process's to answer
        )
    except OSError as error:
        raise XenonError(f"no process can be started: {error.strerror}") from error
    last = b""  # a signal may have come between a start and our learning of it
    try:
        yield
        last = GOODBYE
    except Exception:
        last = GOODBYE
        raise
    finally:
        with contextlib.suppress(OSError):
            guard.communicate(last)


def _unfailing(say: Callable[[str], None]) -> Callable[[str], None]:
    """Say things as long as somebody listens: a lost log ends nothing."""

    def attempt(line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # gone, full; closed
            say(line)

    return attempt


class _Process:
    """A process in a group of its own, here or at the end of an ssh connection."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        shared: dict[str, str],
        host: str | None,
        say: Callable[[str], None],
    ) -> None:
        self.name = name
        self.is_worker = name.startswith("worker")
        self._host, self._say = host, say
        role = {"DMLC_ROLE": name.split()[0], **shared}
        environment = {**os.environ, **role}
        if host:
            # With a terminal, the end of the connection is the end of the command.
            settings = " ".join(f"{k}={shlex.quote(v)}" for k, v in role.items())
            folder = shlex.quote(_working_folder())
            there = f"cd {folder} && env {settings} {_join(command)}"
            command = ["ssh", "-tt", "-o", "BatchMode=yes", host, there]
        self._process = subprocess.Popen(
            command,
            env=environment,
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
            line = line.rstrip()
            rank = _RANK.fullmatch(line)
            if rank and self.is_worker:
                self.name = f"rank {rank.group(1)}"
            self._say(f"[{self.name}] {line}")
        self._process.stdout.close()

    def status(self) -> int | None:
        """The exit status as a shell gives it; None while the process runs."""
        code = self._process.poll()
        return 128 - code if code is not None and code < 0 else code

    def lost(self) -> str | None:
        """Say of what it ended, unless it has said so itself: workers do."""
        status = self.status() or 0
        who = "the scheduler" if self.name == "scheduler" else self.name
        who += f" on {self._host}" if self._host else ""
        # A shell, here or there, tells of a signal by its own status.
        number = status - 128
        if number in set(signal.Signals):
            died = f"{who} was killed by {signal.Signals(number).name}"
            if number == signal.SIGKILL:
                died += ", as the system does when memory is full"
            if number in _CRASHES and not self.is_worker:
                died += (
                    ", as it is by traffic that is not MXNet's (see the lines above)"
                )
            return died
        if status and not self.is_worker:
            return f"{who} ended with status {status}"
        return None

    def end(self, number: int) -> None:
        """Send the whole group a signal."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def finish(self, limit: float) -> None:
        """Wait until it has ended, and until a limit for its last lines.

        What it started may hold the pipe open, and is ended only when we have gone.
        """
        self._process.wait()
        self._reader.join(max(0.0, limit - time.monotonic()))


def _join(command: Sequence[str]) -> str:
    return " ".join(shlex.quote(part) for part in command)


def _working_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise XenonError(
            "the working folder has been deleted: cd to the one that the hosts share"
        ) from error


def _wait(processes: list[_Process], say: Callable[[str], None]) -> int:
    """Wait for the workers; the first process that fails ends the wait."""
    while True:
        if any(process.status() for process in processes):
            time.sleep(_POLL_S)  # for those that fail with it to say so
            _name_lost(processes, say)
            return max(process.status() or 0 for process in processes)
        if all(p.status() == 0 for p in processes if p.is_worker):
            return 0
        time.sleep(_POLL_S)


def _name_lost(processes: list[_Process], say: Callable[[str], None]) -> None:
    """Say which process was lost, and of what."""
    for process in processes:
        lost = process.lost()
        if lost:
            say(f"error: {lost}: start again; --resume goes on with a run")
            return


def _end(processes: list[_Process]) -> None:
    """Leave no process behind."""
    workers = [process for process in processes if process.is_worker]
    if workers and all(process.status() == 0 for process in workers):
        _let_end(processes)  # so do the servers, by themselves
    for process in workers:
        process.end(signal.SIGTERM)
    _let_end(workers)
    for process in processes:  # servers have nothing to lose
        process.end(signal.SIGKILL)
    limit = time.monotonic() + _GRACE_S
    for process in processes:
        process.finish(limit)


def _let_end(processes: list[_Process]) -> None:
    limit = time.monotonic() + _GRACE_S
    while time.monotonic() < limit:
        if all(process.status() is not None for process in processes):
            return
        time.sleep(_POLL_S)


def _read_hosts(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise XenonError(f"{file}: {os.strerror(error.errno or 0).lower()}") from error
    except UnicodeDecodeError as error:
        raise XenonError(f"{file}: is not text in UTF-8; one host a line") from error
    hosts = [line.split("#")[0].strip() for line in lines]
    hosts = [host for host in hosts if host]
    if not hosts:
        raise XenonError(f"{file}: names no host; one a line, as ssh takes it")
    return hosts


def _address(hosts: Sequence[str]) -> str:
    """The address under which the scheduler, which is here, is reached."""
    if not hosts:
        return "127.0.0.1"
    name = hosts[0].split("@")[-1]
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((name, 9))  # sends nothing
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()  # a name of ssh's own configuration


@contextlib.contextmanager
def _reserved_port() -> Iterator[int]:
    """Find a port for the scheduler, and let the system give it to nobody else.

    Else a worker of another launch may get it before the scheduler takes it: ours would
    then talk to that worker, which aborts. The scheduler can take it all the same: it
    asks for SO_REUSEADDR, too, and this socket does not listen.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("", 0))
        yield int(held.getsockname()[1])
