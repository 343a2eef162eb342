"""The workers that train one net together, over MXNet's own parameter server.

Owns who takes part, sums over all of them, and the watch that none of them is lost:
MXNet waits for a lost worker for ever. Knows no net and no data.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import sys
import threading
from typing import Any, Mapping, Sequence

import numpy as np

from xenon_mx.engine import mx
from xenon_mx.errors import ConfigError

# What MXNet reads its place among the others from; xenon-launch sets it.
_VARIABLES = (
    "DMLC_ROLE",
    "DMLC_PS_ROOT_URI",
    "DMLC_PS_ROOT_PORT",
    "DMLC_NUM_WORKER",
    "DMLC_NUM_SERVER",
)

_BEAT_S = 5.0  # chosen here: how often a worker says that it lives
_LOST_S = 30.0  # silent for so long, it is lost: its machine, or the network
_HALF = 1 << 12  # lengths are sent as two numbers, each exact in a float32
_BEAT, _GOODBYE = b".", b"q"


class Alone:
    """The only worker there is: what a run on one machine has for workers."""

    rank, count = 0, 1

    def total(self, name: str, values: np.ndarray) -> np.ndarray:
        """Give the sum over all workers of float32 values, alike on each."""
        return values

    def sum_gradients(self, params: Mapping[str, Any]) -> None:
        """Replace the gradients of parameters by their sums over all workers."""

    def from_first(self, content: Any) -> Any:
        """Give every worker what the first one has, anything that JSON can hold."""
        return content

    def __enter__(self) -> Alone:
        return self

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        """Take leave of the others, or let them know that this worker has failed."""


class Workers(Alone):
    """One of several workers.

    Every method is called by all of them, in the same order: each waits for the rest.

    Args:
        kvstore: A `dist_sync` or `dist_device_sync` KVStore of MXNet.
    """

    def __init__(self, kvstore: Any) -> None:
        self._kvstore = kvstore
        self.rank, self.count = int(kvstore.rank), int(kvstore.num_workers)
        self._keys: dict[tuple[str, tuple[int, ...]], int] = {}
        first = _Watch.of_first(self.count) if self.rank == 0 else None
        address = self.from_first(first and first.address)
        self._watch = first or _Watch.of_other(address)

    def total(self, name: str, values: np.ndarray) -> np.ndarray:
        """Give the sum over all workers of float32 values, alike on each."""
        array = mx.nd.array(values, dtype="float32")
        self._sum(name, [array])
        return array.asnumpy()

    def sum_gradients(self, params: Mapping[str, Any]) -> None:
        """Replace the gradients of parameters by their sums over all workers.

        Args:
            params: Key to parameter, on any number of devices.
        """
        for key, param in params.items():
            if param.grad_req != "null":
                self._sum(f"gradient of {key}", param.list_grad())

    def from_first(self, content: Any) -> Any:
        """Give every worker what the first one has, anything that JSON can hold."""
        data = json.dumps(content).encode() if self.rank == 0 else b""
        high, low = self.total("length", np.array(divmod(len(data), _HALF)))
        length = int(high) * _HALF + int(low)
        sent = np.zeros(length, np.float32)
        sent[: len(data)] = np.frombuffer(data, np.uint8)
        return json.loads(self.total("bytes", sent).astype(np.uint8).tobytes())

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        """Take leave of the others, or let them know that this worker has failed."""
        if kind is None:
            self.total("leave", np.zeros(1))  # all have come so far
            self._watch.take_leave()
        else:
            # Without this, MXNet would wait for the others before the process ends.
            mx.base._LIB.MXKVStoreSetBarrierBeforeExit(self._kvstore.handle, 0)
            self._watch.fail()

    def _sum(self, name: str, arrays: Sequence[Any]) -> None:
        """Sum arrays of one shape, on any devices, over themselves and the workers."""
        shape = arrays[0].shape
        key = self._keys.get((name, shape))
        if key is None:
            key = self._keys[name, shape] = len(self._keys)
            self._kvstore.init(key, mx.nd.zeros(shape))
        self._kvstore.push(key, list(arrays))
        self._kvstore.pull(key, out=list(arrays))


def join(kvstore: str | None) -> Alone:
    """Join the other workers, if there are any.

    Args:
        kvstore: `dist_sync` or `dist_device_sync`; None trains alone.

    Raises:
        ConfigError: Nothing tells where the others are, or there are others and no
            kvstore.
    """
    if kvstore is None:
        count = os.environ.get("DMLC_NUM_WORKER", "1")
        if count != "1":
            raise ConfigError(
                "--kvstore",
                f"started as one of {count} workers, which would all train the same: "
                f"say --kvstore dist_sync",
            )
        return Alone()
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing:
        raise ConfigError(
            "--kvstore",
            f"{kvstore} takes several workers: start them by xenon-launch -n 2 -- "
            f"xenon-train ...; by hand, set {', '.join(missing)}",
        )
    return Workers(mx.kv.create(kvstore))


class _Watch:
    """Ends this process when another worker is lost.

    The first worker listens on the interface that leads to the scheduler; the others
    hold a connection to it. A worker that dies closes its own; one whose machine or
    network dies falls silent. Whoever notices ends, and so do all that it was
    connected to.
    """

    def __init__(self, address: tuple[str, int, str]) -> None:
        self.address = address
        self._closing = threading.Event()
        self._connections: list[socket.socket] = []

    @classmethod
    def of_first(cls, count: int) -> _Watch:
        """Listen for the other workers."""
        host = _own_address()
        listener = socket.create_server((host, 0), backlog=count)
        watch = cls((host, listener.getsockname()[1], secrets.token_hex(16)))
        watch._start(watch._accept, listener, count - 1)
        return watch

    @classmethod
    def of_other(cls, address: Sequence[Any]) -> _Watch:
        """Connect to the first worker."""
        watch = cls((address[0], address[1], address[2]))
        connection = socket.create_connection((address[0], address[1]), _LOST_S)
        connection.sendall(watch.address[2].encode())
        watch._hold(connection, "the first worker")
        return watch

    def take_leave(self) -> None:
        """Let the others know that all is done here."""
        self._closing.set()
        for connection in self._connections:
            with contextlib.suppress(OSError):  # the other has gone before
                connection.sendall(_GOODBYE)

    def fail(self) -> None:
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
                sys.stderr.write(
                    f"error: {who} is lost, and MXNet would wait for it for ever: "
                    f"start all of them again, with --resume\n"
                )
                sys.stderr.flush()
                os._exit(1)


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
