"""TensorBoard's events: a file of scalars, and never a reason for a run to end.

Owns the file's name, its format, and what happens when it cannot be written. Knows no
run. tensorboardX's own writer has a queue and a thread, which need /dev/shm, and which
wait for one another for ever once the disk is full; only its messages are taken.
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

_log = logging.getLogger(__name__)

_PREFIX = "events.out.tfevents."
_VERSION = "brain.Event:2"  # the first event of a file; TensorBoard refuses others
_MOST_NAMES = 1000  # of one second; more than anybody has a reason to take


def file_name(second: int, number: int = 0) -> str:
    """Return the name of a file of events, as TensorBoard expects it.

    Args:
        second: When it was begun, in the epoch of Unix.
        number: Of those begun in that second.
    """
    host = socket.gethostname().replace(os.sep, "_")
    return f"{_PREFIX}{second}.{host}" + (f".{number}" if number else "")


class Writer:
    """Write events into a new file, each step's at once, as far as the disk lets it.

    What cannot be written is kept and tried again with the next step; a warning says
    so once.

    Args:
        folder: Where the file goes, when there is something to write.
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
            step: Its number.
            values: Tag to value.
            wall_time: When it was, in the epoch of Unix; now, by default.
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
        except OSError as error:  # a disk of the network's, over its quota
            self._warn(error)
        self._file = None

    def _write(self) -> None:
        """Write whole records or none."""
        if self._file is None:
            self._file = _created(self._folder)
        left = memoryview(self._unwritten)
        try:
            while left:  # a full disk takes some of it first
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError:
            with contextlib.suppress(OSError):  # the first one tells more
                self._file.truncate(self._size)
                self._file.seek(self._size)
            raise
        self._size += len(self._unwritten)
        self._unwritten = b""

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            _log.warning(
                "%s: TensorBoard's events cannot be written: %s; training goes on "
                "without them, and --resume writes them again",
                self._folder,
                os.strerror(error.errno or 0),
            )
        self._has_warned = True


def remove(folder: Path, tags: AbstractSet[str]) -> None:
    """Remove those files of events from a folder that hold nothing but some tags.

    Links, and what is no file of events, stay.

    Raises:
        OSError: As the system gives it.
    """
    for file in folder.glob(_PREFIX + "*"):
        if file.is_file() and not file.is_symlink() and _holds_only(file, tags):
            file.unlink()


def _created(folder: Path) -> IO[bytes]:
    """Create a file for events, which nobody else has and no link leads away from."""
    second = int(time.time())
    for number in range(_MOST_NAMES):
        try:
            return open(folder / file_name(second, number), "xb", buffering=0)
        except FileExistsError as error:
            last = error
    raise last


def _record(event: Event) -> bytes:
    """Frame an event as TensorFlow's TFRecord does: lengths and masked CRC-32C."""
    message = event.SerializeToString()
    length = struct.pack("<Q", len(message))
    sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, message))
    return length + next(sums) + message + next(sums)


def _holds_only(file: Path, tags: AbstractSet[str]) -> bool:
    """Tell whether a file is one of events with these tags alone."""
    try:
        found = list(_messages(file))
        return found[0].file_version == _VERSION and all(
            value.tag in tags for event in found for value in event.summary.value
        )
    except (DecodeError, IndexError):  # the latter, of a file without any
        return False


def _messages(file: Path) -> Iterator[Event]:
    """Yield a file's events, but for one at its end that was not written in full."""
    with open(file, "rb") as stream:
        while True:
            head = stream.read(12)
            length = struct.unpack("<QI", head)[0] if len(head) == 12 else 0
            if not 0 < length <= file.stat().st_size - stream.tell():
                return
            message = stream.read(length)
            if len(stream.read(4)) < 4:
                return
            yield Event.FromString(message)
