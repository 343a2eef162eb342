"""xenon-launch: a scheduler, servers and workers, here or over ssh, and their end.

Owns the processes. Knows nothing of what they do.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Sequence

from xenon_mx.config import LaunchConfig
from xenon_mx.errors import XenonError

_RANK = re.compile(r"rank (\d+) of \d+$")  # what xenon-train says when it has joined
_GRACE_S = 10.0  # chosen here: to take leave in, before a process is killed
_POLL_S = 0.1
# A role other than a worker's is played by MXNet itself, when it is imported.
_SERVE = "from xenon_mx.engine import mx"


def launch(config: LaunchConfig, say: Callable[[str], None]) -> int:
    """Run a command as several workers, with what MXNet needs around them.

    Args:
        config: What `xenon-launch` was told.
        say: Takes every line of the workers, with their rank before it.

    Returns:
        The worst exit status of the workers, or of a scheduler or server that failed.

    Raises:
        XenonError: A host file cannot be read, or a program cannot be started.
    """
    hosts = _read_hosts(config.hosts) if config.hosts else []
    address, port = config.address or _address(hosts), _free_port()
    shared = {
        "DMLC_PS_ROOT_URI": address,
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NUM_WORKER": str(config.workers),
        "DMLC_NUM_SERVER": str(config.servers),
    }
    if not hosts:
        shared["DMLC_INTERFACE"] = "lo"  # MXNet's traffic is open to all who reach it
    if config.interface:
        shared["DMLC_INTERFACE"] = config.interface
    python = [config.python or sys.executable, "-c", _SERVE]
    processes: list[_Process] = []
    try:
        # The scheduler is here, where its address is; the others take turns on hosts.
        processes.append(_Process("scheduler", python, shared, None, say))
        for number in range(config.servers):
            host = hosts[number % len(hosts)] if hosts else None
            processes.append(_Process("server", python, shared, host, say))
        for number in range(config.workers):
            host = hosts[number % len(hosts)] if hosts else None
            command = list(config.command)
            processes.append(_Process(f"worker {number}", command, shared, host, say))
        return _wait(processes)
    except OSError as error:
        raise XenonError(f"{error.filename}: {error.strerror}") from error
    finally:
        _end(processes)


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
        self._say = say
        role = {"DMLC_ROLE": name.split()[0], **shared}
        environment = {**os.environ, **role}
        if host:
            # With a terminal, the end of the connection is the end of the command.
            settings = " ".join(f"{k}={shlex.quote(v)}" for k, v in role.items())
            there = f"cd {shlex.quote(os.getcwd())} && env {settings} {_join(command)}"
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

    def end(self, number: int) -> None:
        """Send the whole group a signal."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def finish(self) -> None:
        """Wait until it has ended and all of its lines are passed on."""
        self._process.wait()
        self._reader.join(_GRACE_S)


def _join(command: Sequence[str]) -> str:
    return " ".join(shlex.quote(part) for part in command)


def _wait(processes: list[_Process]) -> int:
    """Wait for the workers; the first process that fails ends the wait."""
    while True:
        failed = [process.status() for process in processes if process.status()]
        if failed:
            time.sleep(_POLL_S)  # for those that fail with it to say so
            return max(process.status() or 0 for process in processes)
        if all(p.status() == 0 for p in processes if p.is_worker):
            return 0
        time.sleep(_POLL_S)


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
        process.finish()


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
    hosts = [line.split("#")[0].strip() for line in lines]
    hosts = [host for host in hosts if host]
    if not hosts:
        raise XenonError(f"{file}: names no host; one a line, as ssh takes it")
    return hosts


def _address(hosts: list[str]) -> str:
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
