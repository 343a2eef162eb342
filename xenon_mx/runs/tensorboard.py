"""TensorBoard event files with scalars, whose failures never end a run.

Owns the file's name, its format, and the handling of a file that cannot be written.
Must not know what a run is. Of tensorboardX, only the messages are used: its writer has
a queue and a thread that need /dev/shm, and that deadlock once the disk is full.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import time
from pathlib import Path
from typing import IO, AbstractSet, Iterator, Mapping

from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from xenon_mx.errors import os_error

_log = logging.getLogger(__name__)

_PREFIX = "events.out.tfevents."
_VERSION = "brain.Event:2"  # the first event of a file; TensorBoard rejects others
_MAX_NAMES = 1000  # chosen here: attempts to find an unused name per second


def file_name(second: int, number: int = 0) -> str:
    """Return the name of an event file, as TensorBoard expects it.

    Args:
        second: Unix time of its creation.
        number: Distinguishes files of the same second.
    """
    host = socket.gethostname().replace(os.sep, "_")
    return f"{_PREFIX}{second}.{host}" + (f".{number}" if number else "")


class Writer:
    """Writer of a new event file, which flushes after each step.

    Events that cannot be written are kept and retried with the next step, after one
    warning.

    Args:
        folder: Folder of the file, which is created with the first event.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._size = 0
        self._unwritten = _record(Event(wall_time=time.time(), file_version=_VERSION))
        self._has_warned = False

    def add(
        self, step: int, values: Mapping[str, float], wall_time: float | None = None
    ) -> None:
        """Write the values of a step.

        Args:
            step: Number of the step.
            values: Tag to value.
            wall_time: Unix time of the step; now by default.
        """
        now = time.time() if wall_time is None else wall_time
        for tag, value in values.items():
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            self._unwritten += _record(Event(wall_time=now, step=step, summary=summary))
        try:
            self._write()
        except OSError as error:
            self._warn(error)

    def close(self) -> None:
        """Close the file."""
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError as error:  # such as a network disk over its quota
            self._warn(error)
        self._file = None

    def _write(self) -> None:
        """Write all pending records, or none of them."""
        if self._file is None:
            self._file = _create(self._folder)
        remaining = memoryview(self._unwritten)
        try:
            while remaining:  # a disk that is nearly full takes a part
                remaining = remaining[self._file.write(remaining) :]
            os.fsync(self._file.fileno())
        except OSError:
            with contextlib.suppress(OSError):  # the first error is raised
                self._file.truncate(self._size)
                self._file.seek(self._size)
            raise
        self._size += len(self._unwritten)
        self._unwritten = b""

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            _log.warning(
                "%s: TensorBoard's events cannot be written: %s; training continues "
                "without them, and --resume writes them again",
                self._folder,
                os_error(self._folder, error).reason,
            )
        self._has_warned = True


def remove(folder: Path, tags: AbstractSet[str]) -> None:
    """Remove the event files in a folder that contain no other than the given tags.

    Links and files that are not event files stay.

    Raises:
        OSError: A file cannot be read or removed.
    """
    for file in folder.glob(_PREFIX + "*"):
        if file.is_file() and not file.is_symlink() and _has_only(file, tags):
            file.unlink()


def has_step(folder: Path, step: int) -> bool:
    """Return whether an event file in a folder has a value of a step."""
    files = [file for file in folder.glob(_PREFIX + "*") if file.is_file()]
    with contextlib.suppress(DecodeError, OSError):  # not an event file, or not ours
        return any(
            event.step == step and event.summary.value  # 0 is the step of the version
            for file in files
            for event in _events(file)
        )
    return False


def _create(folder: Path) -> IO[bytes]:
    """Create an event file, exclusively: no existing file or link is opened."""
    second = int(time.time())
    for number in range(_MAX_NAMES):
        try:
            return open(folder / file_name(second, number), "xb", buffering=0)
        except FileExistsError as error:
            exists = error
    raise exists


def _record(event: Event) -> bytes:
    """Return an event as a TFRecord: length and message, each with masked CRC-32C."""
    message = event.SerializeToString()
    length = struct.pack("<Q", len(message))
    length_crc, message_crc = (
        struct.pack("<I", masked_crc32c(part)) for part in (length, message)
    )
    return length + length_crc + message + message_crc


def _has_only(file: Path, tags: AbstractSet[str]) -> bool:
    """Return whether a file is an event file without other tags."""
    try:
        events = list(_events(file))
        return events[0].file_version == _VERSION and all(
            value.tag in tags for event in events for value in event.summary.value
        )
    except (DecodeError, IndexError):  # IndexError: there is no event
        return False


def _events(file: Path) -> Iterator[Event]:
    """Yield the events of a file, without an incomplete one at its end."""
    with open(file, "rb") as stream:
        while True:
            header = stream.read(12)
            length = struct.unpack("<QI", header)[0] if len(header) == 12 else 0
            if not 0 < length <= file.stat().st_size - stream.tell():
                return
            message = stream.read(length)
            if len(stream.read(4)) < 4:
                return
            yield Event.FromString(message)
