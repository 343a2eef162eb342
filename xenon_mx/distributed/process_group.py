"""The workers that train one net together, over MXNet's parameter server.

Owns joining the workers, and their sums and broadcasts. Must not know nets or data.
"""

from __future__ import annotations

import json
import os
from typing import Any, Mapping, Sequence

import numpy as np

from xenon_mx.distributed import cluster
from xenon_mx.distributed.watchdog import SignalWatch, Watchdog
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import mxnet
from xenon_mx.runtime.mxnet import mx

_HALF = 1 << 12  # lengths are sent as two numbers, each exact in a float32


class ProcessGroup:
    """Process group of a single worker: what a run without --kvstore uses.

    Attributes:
        rank: This worker's number, from 0.
        num_workers: Number of workers.
    """

    rank, num_workers = 0, 1

    def all_reduce(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return the sum over all workers of float32 values, the same on each.

        Args:
            name: Identifies the array, the same on all workers.
            values: Of any shape, the same on all workers.
        """
        return values

    def all_reduce_gradients(self, params: Mapping[str, Any]) -> None:
        """Replace the gradients of parameters by their sums over all workers."""

    def broadcast(self, content: Any) -> Any:
        """Return rank 0's content, any JSON value, on every worker."""
        return content

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        """Leave the group; after an error, end the other workers."""
        if kind is None:
            self.shutdown()
        else:
            self.abort()

    def shutdown(self) -> None:
        """Leave the group after all workers have called this method."""

    def abort(self) -> None:
        """Leave the group at once, and end the other workers."""


class KVStoreGroup(ProcessGroup):
    """Process group over a distributed KVStore of MXNet.

    All workers call the same methods in the same order: each call waits for the others.

    Args:
        kvstore: A `dist_sync` or `dist_device_sync` KVStore.
        signals: The watch of this process's signals, started before the KVStore.
    """

    def __init__(self, kvstore: Any, signals: SignalWatch) -> None:
        self._kvstore, self._signals = kvstore, signals
        self.rank, self.num_workers = int(kvstore.rank), int(kvstore.num_workers)
        self._keys: dict[tuple[str, tuple[int, ...]], int] = {}
        if self.rank == 0:
            self._watchdog = Watchdog.listen(self.num_workers, signals.ending)
            self.broadcast(self._watchdog.address)
        else:
            address = self.broadcast(None)
            self._watchdog = Watchdog.connect(address, self.rank, signals.ending)

    def all_reduce(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return the sum over all workers: see `ProcessGroup.all_reduce`."""
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
        """Return rank 0's content, any JSON value, on every worker."""
        data = json.dumps(content, allow_nan=False).encode() if self.rank == 0 else b""
        high, low = self.all_reduce("length", np.array(divmod(len(data), _HALF)))
        length = int(high) * _HALF + int(low)
        buffer = np.zeros(length, np.float32)
        buffer[: len(data)] = np.frombuffer(data, np.uint8)
        return json.loads(self.all_reduce("bytes", buffer).astype(np.uint8).tobytes())

    def shutdown(self) -> None:
        """Leave the group after all workers have called this method."""
        self.all_reduce("leave", np.zeros(1))
        self._watchdog.shutdown()
        self._signals.close()

    def abort(self) -> None:
        """Leave the group at once, and end the other workers."""
        # Else MXNet would wait for the other workers before the process ends.
        mx.base._LIB.MXKVStoreSetBarrierBeforeExit(self._kvstore.handle, 0)
        self._watchdog.abort()

    def _sum(self, name: str, arrays: Sequence[Any]) -> None:
        """Sum arrays of one shape, on any devices, over devices and workers."""
        shape = arrays[0].shape
        key = self._keys.get((name, shape))
        if key is None:
            key = self._keys[name, shape] = len(self._keys)
            self._kvstore.init(key, mx.nd.zeros(shape))
        self._kvstore.push(key, list(arrays))
        self._kvstore.pull(key, out=list(arrays))


def join(
    kvstore: str | None, line: str = "xenon-launch -n 2 -- xenon-train ..."
) -> ProcessGroup:
    """Join the other workers, if there are any.

    Args:
        kvstore: `dist_sync` or `dist_device_sync`; None for a single worker.
        line: The command line that starts several workers, for the error.

    Raises:
        ConfigError: The environment names no scheduler, or several workers although
            there is no kvstore.
        XenonError: The other processes cannot be reached from this computer.
    """
    if kvstore is None:
        _check_single_worker()
        return ProcessGroup()
    missing = cluster.missing_variables()
    if missing:
        raise ConfigError(
            "--kvstore",
            f"{kvstore} needs several workers: start them by {line}; by hand, set "
            f"{', '.join(missing)}",
        )
    cluster.check_machine("worker")
    signals = SignalWatch()
    try:
        return KVStoreGroup(mx.kv.create(kvstore), signals)
    except mx.base.MXNetError as error:
        raise XenonError(
            f"MXNet cannot join the other workers: {mxnet.reason(error)}"
        ) from error


def _check_single_worker() -> None:
    count = os.environ.get("DMLC_NUM_WORKER", "1")
    if count != "1":
        raise ConfigError(
            "--kvstore",
            f"started as one of {count} workers, which would all train the same: "
            f"use --kvstore dist_sync",
        )
