"""Standard output and standard error, whatever becomes of them.

Owns what a stream does that is full, broken or closed: the log is lost in silence, a
result is not. Knows nothing of what is written.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import Any, TextIO

from xenon_mx.errors import XenonError

_STANDARD = (0, 1, 2)  # the descriptors of input, output and error


class NoReader(XenonError):
    """Whoever read the standard output has gone, and wants no more of it."""

    def __init__(self) -> None:
        super().__init__("standard output: its reader has gone")


def guard() -> None:
    """Make this process's streams outlive what they lead to.

    Once standard error cannot be written to, what is meant for it is dropped: messages,
    bars, warnings, tracebacks, and what Python still holds at its end. The first
    failure of standard output is an error of ours, as is every use of a closed one.
    Streams that were replaced by others, as tests do, are left alone.
    """
    closed = [number for number in _STANDARD if _open_if_closed(number)]
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Log(2), sys.stderr)
    if sys.stdout is sys.__stdout__:
        out = _Closed(1) if 1 in closed else _Results(1)
        sys.stdout = _text(out, sys.stdout)


def check_results() -> None:
    """Find out before long work that its results cannot be written.

    Raises:
        XenonError: Standard output is closed.
    """
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Closed):
        raise XenonError("standard output is closed: name a file, or open it")


def _open_if_closed(number: int) -> bool:
    """Lead a closed descriptor nowhere.

    Else the next file that is opened gets its number, and with it all that libraries in
    C++ write to standard error.
    """
    try:
        os.fstat(number)
    except OSError:
        _lead_nowhere(number)
        return True
    return False


def _lead_nowhere(number: int) -> None:
    """Connect a descriptor to the null device, for our children, too."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere == number:
        os.set_inheritable(number, True)
        return
    os.dup2(nowhere, number)
    os.close(nowhere)


def _text(raw: io.RawIOBase, before: TextIO | None) -> TextIO:
    """Make a stream of text of the encoding that the one before it had."""
    if before is not None:
        before.flush()
    is_error = isinstance(raw, _Log)
    usual = "backslashreplace" if is_error else "strict"
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", "utf-8"),
        errors=getattr(before, "errors", usual),
        line_buffering=is_error or raw.isatty(),
    )


class _Descriptor(io.FileIO):
    """One of the standard descriptors, which stays open after us."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)

    def write(self, data: Any) -> int:
        try:
            while True:
                done = super().write(data)
                if done is not None:
                    return done
                select.select([], [self], [])  # a stream that does not block is full
        except OSError as error:
            _lead_nowhere(self.fileno())
            self._lose(error)
            return memoryview(data).nbytes

    def _lose(self, error: OSError) -> None:
        """Answer the first failure; what is written later goes nowhere."""


class _Log(_Descriptor):
    """Standard error."""


class _Results(_Descriptor):
    """Standard output."""

    def _lose(self, error: OSError) -> None:
        if error.errno == errno.EPIPE:
            raise NoReader from error
        words = os.strerror(error.errno or 0)
        raise XenonError(f"standard output: {words}") from error


class _Closed(_Descriptor):
    """A standard output that was closed before we began."""

    _is_said = False

    def write(self, data: Any) -> int:
        if not self._is_said:
            self._is_said = True
            raise XenonError("standard output is closed")
        return super().write(data)
