"""Standard output and standard error that may be full, broken or closed.

Owns what happens when a write fails: log lines are dropped silently, results are not.
Must not know what is written.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import Any, TextIO

from xenon_mx.errors import XenonError, os_error

_DESCRIPTORS = (0, 1, 2)  # of standard input, output and error


class NoReader(XenonError):
    """The reader of standard output has closed the pipe."""

    def __init__(self) -> None:
        super().__init__("standard output: its reader has closed it")


def guard() -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams that handle failed writes.

    Once a write to standard error fails, everything for it is dropped: messages, bars,
    warnings, tracebacks, and what Python flushes at exit. The first failed write to
    standard output, or the first to a closed one, raises a XenonError. Streams that
    are replaced already, as in tests, are left alone.
    """
    closed = [number for number in _DESCRIPTORS if _open_if_closed(number)]
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text_stream(_Log(2), sys.stderr)
    if sys.stdout is sys.__stdout__:
        stdout = _ClosedOutput(1) if 1 in closed else _Output(1)
        sys.stdout = _text_stream(stdout, sys.stdout)


def check_stdout() -> None:
    """Check that results can be written to standard output, before long work.

    Raises:
        XenonError: Standard output is closed.
    """
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _ClosedOutput):
        raise XenonError("standard output is closed: name a file, or open it")


def _open_if_closed(number: int) -> bool:
    """Open a descriptor on the null device if it is closed; return whether it was.

    Otherwise the next opened file would get its number, and with it whatever C++
    libraries write to standard error.
    """
    try:
        os.fstat(number)
    except OSError:
        _redirect_to_null(number)
        return True
    return False


def _redirect_to_null(number: int) -> None:
    """Redirect a descriptor to the null device, also for child processes."""
    null = os.open(os.devnull, os.O_RDWR)
    if null == number:
        os.set_inheritable(number, True)
        return
    os.dup2(null, number)
    os.close(null)


def _text_stream(raw: io.RawIOBase, replaced: TextIO | None) -> TextIO:
    """Return a text stream with the encoding of the one that it replaces."""
    if replaced is not None:
        replaced.flush()
    is_stderr = isinstance(raw, _Log)
    default_errors = "backslashreplace" if is_stderr else "strict"
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(replaced, "encoding", "utf-8"),
        errors=getattr(replaced, "errors", default_errors),
        line_buffering=is_stderr or raw.isatty(),
    )


class _Descriptor(io.FileIO):
    """A raw stream on a standard descriptor, which it does not close."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)

    def write(self, data: Any) -> int:
        try:
            while True:
                written = super().write(data)
                if written is not None:
                    return written
                select.select([], [self], [])  # non-blocking and full: wait
        except OSError as error:
            _redirect_to_null(self.fileno())
            self._handle_failure(error)
            return memoryview(data).nbytes

    def _handle_failure(self, error: OSError) -> None:
        """Handle the first failed write; later ones go to the null device."""


class _Log(_Descriptor):
    """Standard error."""


class _Output(_Descriptor):
    """Standard output."""

    def _handle_failure(self, error: OSError) -> None:
        if error.errno == errno.EPIPE:
            raise NoReader from error
        raise os_error("standard output", error) from error


class _ClosedOutput(_Descriptor):
    """A standard output that was closed before this process started."""

    _is_reported = False

    def write(self, data: Any) -> int:
        if not self._is_reported:
            self._is_reported = True
            raise XenonError("standard output is closed")
        return super().write(data)
