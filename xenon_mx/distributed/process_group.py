"""The workers that train one net together, over MXNet's own parameter server.

Owns who takes part, sums over all of them, and the watch that none of them is lost:
MXNet waits for a lost worker for ever. Knows no net and no data.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
from typing import Any, Mapping, NoReturn, Sequence

import numpy as np

from xenon_mx.distributed import cluster
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import mxnet
from xenon_mx.runtime.mxnet import mx

_BEAT_S = 5.0  # chosen here: how often a worker says that it lives
_LOST_S = 30.0  # silent for so long, it is lost: its machine, or the network
_WRITE_S = 2.0  # chosen here: for a last sentence; a full pipe takes none
# Chosen here: for the main thread to answer a signal in. A call of MXNet's that waits
# for a lost server lasts for ever, and xenon-launch kills after ten seconds.
_ANSWER_S = 8.0
_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_HALF = 1 << 12  # lengths are sent as two numbers, each exact in a float32
_BEAT, _GOODBYE = b".", b"q"


class ProcessGroup:
    """The only worker there is: what a run on one machine has for workers."""

    rank, num_workers = 0, 1

    def all_reduce(self, name: str, values: np.ndarray) -> np.ndarray:
        """Give the sum over all workers of float32 values, alike on each."""
        return values

    def all_reduce_gradients(self, params: Mapping[str, Any]) -> None:
        """Replace the gradients of parameters by their sums over all workers."""

    def broadcast(self, content: Any) -> Any:
        """Give every worker what the first one has, anything that JSON can hold."""
        return content

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        """Take leave of the others, or let them know that this worker has failed."""


class KVStoreGroup(ProcessGroup):
    """One of several workers.

    Every method is called by all of them, in the same order: each waits for the rest.

    Args:
        kvstore: A `dist_sync` or `dist_device_sync` KVStore of MXNet.
        signals: What has been watched since before the KVStore was made.
    """

    def __init__(self, kvstore: Any, signals: SignalWatch) -> None:
        self._kvstore, self._signals = kvstore, signals
        self.rank, self.num_workers = int(kvstore.rank), int(kvstore.num_workers)
        self._keys: dict[tuple[str, tuple[int, ...]], int] = {}
        told = signals.told
        first = Watchdog.listen(self.num_workers, told) if self.rank == 0 else None
        address = self.broadcast(first and first.address)
        self._watch = first or Watchdog.connect(address, told)

    def all_reduce(self, name: str, values: np.ndarray) -> np.ndarray:
        """Give the sum over all workers of float32 values, alike on each."""
        array = mx.nd.array(values, dtype="float32")
        self._sum(name, [array])
        return array.asnumpy()

    def all_reduce_gradients(self, params: Mapping[str, Any]) -> None:
        """Replace the gradients of parameters by their sums over all workers.

        Args:
            params: Key to parameter, on any number of devices.
        """
        for key, param in params.items():
            if param.grad_req != "null":
                self._sum(f"gradient of {key}", param.list_grad())

    def broadcast(self, content: Any) -> Any:
        """Give every worker what the first one has, anything that JSON can hold."""
        data = json.dumps(content).encode() if self.rank == 0 else b""
        high, low = self.all_reduce("length", np.array(divmod(len(data), _HALF)))
        length = int(high) * _HALF + int(low)
        sent = np.zeros(length, np.float32)
        sent[: len(data)] = np.frombuffer(data, np.uint8)
        return json.loads(self.all_reduce("bytes", sent).astype(np.uint8).tobytes())

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        """Take leave of the others, or let them know that this worker has failed."""
        if kind is None:
            self.all_reduce("leave", np.zeros(1))  # all have come so far
            self._watch.shutdown()
            self._signals.forget()
        else:
            # Without this, MXNet would wait for the others before the process ends.
            mx.base._LIB.MXKVStoreSetBarrierBeforeExit(self._kvstore.handle, 0)
            self._watch.abort()

    def _sum(self, name: str, arrays: Sequence[Any]) -> None:
        """Sum arrays of one shape, on any devices, over themselves and the workers."""
        shape = arrays[0].shape
        key = self._keys.get((name, shape))
        if key is None:
            key = self._keys[name, shape] = len(self._keys)
            self._kvstore.init(key, mx.nd.zeros(shape))
        self._kvstore.push(key, list(arrays))
        self._kvstore.pull(key, out=list(arrays))


def join(kvstore: str | None) -> ProcessGroup:
    """Join the other workers, if there are any.

    Args:
        kvstore: `dist_sync` or `dist_device_sync`; None trains alone.

    Raises:
        ConfigError: Nothing tells where the others are, or there are others and no
            kvstore.
        XenonError: The others cannot be reached from this computer.
    """
    if kvstore is None:
        count = os.environ.get("DMLC_NUM_WORKER", "1")
        if count != "1":
            raise ConfigError(
                "--kvstore",
                f"started as one of {count} workers, which would all train the same: "
                f"say --kvstore dist_sync",
            )
        return ProcessGroup()
    missing = cluster.missing_variables()
    if missing:
        raise ConfigError(
            "--kvstore",
            f"{kvstore} takes several workers: start them by xenon-launch -n 2 -- "
            f"xenon-train ...; by hand, set {', '.join(missing)}",
        )
    cluster.refuse_unfit_machine("worker")
    signals = SignalWatch()
    try:
        return KVStoreGroup(mx.kv.create(kvstore), signals)
    except mx.base.MXNetError as error:
        raise XenonError(
            f"MXNet cannot join the other workers: {mxnet.reason(error)}"
        ) from error


class SignalWatch:
    """Ends this process when a signal tells it to and its main thread does not.

    Python answers a signal between two calls, and a call of MXNet's that waits for a
    lost server lasts for ever. The number of a signal is written to a socket at once.
    """

    def __init__(self) -> None:
        self.told = threading.Event()
        self._ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self._read, daemon=True).start()

    def forget(self) -> None:
        """Leave the signals that come from now on to the main thread alone."""
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)

    def _read(self) -> None:
        while True:
            number = self._ours.recv(1)[0]
            if number in _ENDING and signal.getsignal(number) is not signal.SIG_IGN:
                break
        self.told.set()
        time.sleep(_ANSWER_S)
        name = signal.Signals(number).name
        _end(
            f"ended by {name} while MXNet was waiting for others; --resume goes on",
            128 + number,
        )


class Watchdog:
    """Ends this process when another worker is lost.

    The first worker listens on the interface that leads to the scheduler; the others
    hold a connection to it. A worker that dies closes its own; one whose machine or
    network dies falls silent. Whoever notices ends, and so do all that it was
    connected to.
    """

    def __init__(self, address: tuple[str, int, str], closing: threading.Event) -> None:
        self.address = address
        self._closing = closing
        self._connections: list[socket.socket] = []

    @classmethod
    def listen(cls, count: int, closing: threading.Event) -> Watchdog:
        """Listen for the other workers."""
        host = _own_address()
        listener = socket.create_server((host, 0), backlog=count)
        address = (host, listener.getsockname()[1], secrets.token_hex(16))
        watch = cls(address, closing)
        watch._start(watch._accept, listener, count - 1)
        return watch

    @classmethod
    def connect(cls, address: Sequence[Any], closing: threading.Event) -> Watchdog:
        """Connect to the first worker."""
        watch = cls((address[0], address[1], address[2]), closing)
        connection = socket.create_connection((address[0], address[1]), _LOST_S)
        connection.sendall(watch.address[2].encode())
        watch._hold(connection, "the first worker")
        return watch

    def shutdown(self) -> None:
        """Let the others know that all is done here."""
        self._closing.set()
        for connection in self._connections:
            with contextlib.suppress(OSError):  # the other has gone before
                connection.sendall(_GOODBYE)

    def abort(self) -> None:
        """Let the others know that this worker is lost."""
        self._closing.set()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _start(self, work: Any, *args: Any) -> None:
        threading.Thread(target=work, args=args, daemon=True).start()

    def _accept(self, listener: socket.socket, others: int) -> None:
        token = self.address[2].encode()
        while others:
            connection, peer = listener.accept()
            connection.settimeout(_LOST_S)
            if _receive(connection, len(token)) != token:
                connection.close()  # a stranger
                continue
            others -= 1
            self._hold(connection, f"a worker on {peer[0]}")
        listener.close()

    def _hold(self, connection: socket.socket, who: str) -> None:
        connection.settimeout(_LOST_S)
        self._connections.append(connection)
        self._start(self._beat, connection)
        self._start(self._listen, connection, who)

    def _beat(self, connection: socket.socket) -> None:
        """Say every few seconds that this worker lives."""
        with contextlib.suppress(OSError):  # the listening thread notices, too
            while not self._closing.wait(_BEAT_S):
                connection.sendall(_BEAT)

    def _listen(self, connection: socket.socket, who: str) -> None:
        """End the process unless the other goes with a goodbye."""
        while True:
            heard = _receive(connection, 1)
            if heard == _GOODBYE or self._closing.is_set():
                return
            if not heard:
                _end(
                    f"error: {who} is lost, and MXNet would wait for it for ever: "
                    f"start all of them again, with --resume",
                    1,
                )


def _end(sentence: str, status: int) -> NoReturn:
    """End the process, and say why if that can be done in a moment.

    Ending does not depend on saying so: standard error may be closed, or a full disk,
    or a pipe that nobody reads.
    """
    try:
        writer = threading.Thread(target=_say, args=(sentence,), daemon=True)
        writer.start()
        writer.join(_WRITE_S)
    finally:
        os._exit(status)


def _say(sentence: str) -> None:
    with contextlib.suppress(Exception):
        sys.stderr.write(f"{sentence}\n")
        sys.stderr.flush()


def _receive(connection: socket.socket, count: int) -> bytes:
    """Receive bytes; fewer if the other is gone or silent."""
    try:
        return connection.recv(count, socket.MSG_WAITALL)
    except OSError:
        return b""


def _own_address() -> str:
    """The address of this machine on the interface that leads to the scheduler."""
    root = (os.environ["DMLC_PS_ROOT_URI"], int(os.environ["DMLC_PS_ROOT_PORT"]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(root)  # sends nothing
        return str(probe.getsockname()[0])
