"""What ends a worker that would otherwise wait in MXNet for ever.

Owns the connections by which a lost worker is noticed, and the signals that MXNet's
blocking calls delay. Must not know MXNet.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn, Sequence

from xenon_mx.distributed import cluster, worker_lines

_HEARTBEAT_S = 5.0  # chosen here: time between heartbeats
_TIMEOUT_S = 30.0  # chosen here: a worker silent for so long is lost, or its network is
_WRITE_S = 2.0  # chosen here: time to write the last message; a full pipe blocks
# Chosen here: time for the main thread to handle a signal. An MXNet call that waits for
# a lost server never returns, and xenon-launch sends SIGKILL after ten seconds.
_SIGNAL_S = 8.0
_ENDING_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
# What one worker sends to another, one byte each; the rank of a lost worker follows
# the last.
_HEARTBEAT, _GOODBYE, _LOST = b".", b"q", b"l"
_RANK_DIGITS = 4  # xenon-launch starts at most 1,000 workers


class SignalWatch:
    """Thread that ends this process if the main thread does not handle a signal.

    Python runs signal handlers between bytecodes of the main thread, and an MXNet call
    that waits for a lost server never returns. The signal's number is therefore
    written to a socket, which a thread reads.

    Attributes:
        ending: Set once a signal that ends the process has arrived.
    """

    def __init__(self) -> None:
        self.ending = threading.Event()
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self._read, daemon=True).start()

    def close(self) -> None:
        """Leave further signals to the main thread alone."""
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)

    def _read(self) -> None:
        while True:
            number = self._reader.recv(1)[0]
            is_ignored = signal.getsignal(number) is signal.SIG_IGN
            if number in _ENDING_SIGNALS and not is_ignored:
                break
        self.ending.set()
        time.sleep(_SIGNAL_S)
        line = worker_lines.signal_line(signal.Signals(number).name)
        _exit(line, 128 + number)


class Watchdog:
    """Connections that end this process when another worker is lost.

    Rank 0 listens on the interface that leads to the scheduler, and every other worker
    holds a connection to rank 0. The connection of a killed worker closes; that of a
    worker whose machine or network fails falls silent. The worker that notices ends;
    rank 0 tells the others before, so that all name the same worker.

    Args:
        address: Host and port of rank 0, and a random token that admits a worker.
        ending: Set once this process is ending: no heartbeat is sent, and no worker
            counts as lost.
    """

    def __init__(self, address: tuple[str, int, str], ending: threading.Event) -> None:
        self.address = address
        self._ending = ending
        self._connections: list[socket.socket] = []

    @classmethod
    def listen(cls, num_workers: int, ending: threading.Event) -> Watchdog:
        """Listen for the other workers, on rank 0."""
        host = cluster.own_address(
            os.environ["DMLC_PS_ROOT_URI"], int(os.environ["DMLC_PS_ROOT_PORT"])
        )
        listener = socket.create_server((host, 0), backlog=num_workers)
        address = (host, listener.getsockname()[1], secrets.token_hex(16))
        watchdog = cls(address, ending)
        _start_thread(watchdog._accept, listener, num_workers - 1)
        return watchdog

    @classmethod
    def connect(
        cls, address: Sequence[Any], rank: int, ending: threading.Event
    ) -> Watchdog:
        """Connect a worker to rank 0, at the address that its `listen` chose."""
        host, port, token = address
        watchdog = cls((host, port, token), ending)
        connection = socket.create_connection((host, port), _TIMEOUT_S)
        connection.sendall(token.encode() + _encode_rank(rank))
        watchdog._watch(connection, 0)
        return watchdog

    def shutdown(self) -> None:
        """Announce to the other workers that this one is done."""
        self._ending.set()
        for connection in self._connections:
            with contextlib.suppress(OSError):  # the other worker ended first
                connection.sendall(_GOODBYE)

    def abort(self) -> None:
        """Close all connections, so that the other workers end."""
        self._ending.set()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket, remaining: int) -> None:
        token = self.address[2].encode()
        while remaining:
            connection, peer = listener.accept()
            connection.settimeout(_TIMEOUT_S)
            received = _receive(connection, len(token) + _RANK_DIGITS)
            rank = received[len(token) :]
            if not received.startswith(token) or not rank.isdigit():
                connection.close()  # not a worker of this training
                continue
            remaining -= 1
            self._watch(connection, int(rank), peer[0])
        listener.close()

    def _watch(
        self, connection: socket.socket, rank: int, host: str | None = None
    ) -> None:
        connection.settimeout(_TIMEOUT_S)
        self._connections.append(connection)
        _start_thread(self._send_heartbeats, connection)
        _start_thread(self._receive_heartbeats, connection, rank, host)

    def _send_heartbeats(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the receiving thread notices it, too
            while not self._ending.wait(_HEARTBEAT_S):
                connection.sendall(_HEARTBEAT)

    def _receive_heartbeats(
        self, connection: socket.socket, rank: int, host: str | None
    ) -> None:
        """End the process if the connection ends without a goodbye."""
        while True:
            received = _receive(connection, 1)
            if received == _GOODBYE or self._ending.is_set():
                return
            if received == _LOST:
                _exit(
                    worker_lines.lost_line(int(_receive(connection, _RANK_DIGITS))), 1
                )
            if not received:
                self._tell_others(connection, rank)
                _exit(worker_lines.lost_line(rank, host), 1)

    def _tell_others(self, lost: socket.socket, rank: int) -> None:
        """Write to the other workers which one is lost."""
        for connection in self._connections:
            if connection is not lost:
                with contextlib.suppress(OSError):
                    connection.sendall(_LOST + _encode_rank(rank))


def _encode_rank(rank: int) -> bytes:
    return f"{rank:0{_RANK_DIGITS}}".encode()


def _start_thread(target: Any, *args: Any) -> None:
    threading.Thread(target=target, args=args, daemon=True).start()


def _exit(message: str, status: int) -> NoReturn:
    """End the process at once, after an attempt to print a message.

    The attempt has a time limit: standard error may be closed, on a full disk, or a
    pipe that nobody reads.
    """
    try:
        writer = threading.Thread(target=_print, args=(message,), daemon=True)
        writer.start()
        writer.join(_WRITE_S)
    finally:
        os._exit(status)


def _print(message: str) -> None:
    with contextlib.suppress(Exception):
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


def _receive(connection: socket.socket, count: int) -> bytes:
    """Receive `count` bytes; fewer if the peer closed or was silent too long."""
    received = b""
    # MSG_WAITALL does not wait on a socket that has a timeout.
    with contextlib.suppress(OSError):
        while len(received) < count:
            part = connection.recv(count - len(received))
            if not part:
                break
            received += part
    return received
