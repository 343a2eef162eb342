"""Signal handlers that end a command cleanly, wherever it is.

Owns the handlers of SIGINT (Ctrl-C), SIGTERM (kill) and SIGHUP (a closed terminal);
must not know commands.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import weakref
from typing import Any, Iterator, NoReturn

_MESSAGES = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "hung up",
}
_STATUS_BASE = 128  # plus the signal: the exit status, as shells report it
_RETRY_S = 0.01  # chosen here: a destructor returns well before


class Stopped(BaseException):
    """Raised when a signal arrives."""


class _State:
    """The signal received, and the exception raised for it."""

    number = 0
    exception: weakref.ref[Stopped] | None = None
    is_done = False
    is_deferred = False
    is_held = False  # arrived while deferred


_state = _State()


def install() -> None:
    """Install the handlers, except of signals ignored because of nohup or `&`."""
    for number in _MESSAGES:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _handle)
    sys.unraisablehook = _unraisable
    sys.excepthook = _excepthook


def restore() -> None:
    """Restore the default handlers, once the command only has to exit."""
    _state.is_done = True
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in _MESSAGES:
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Hold a signal back until the end of a short block, which is then interrupted.

    For what must be whole, such as the start of a child process: interrupted in the
    middle, the process would run, and nobody would hold its object.
    """
    _state.is_deferred = True
    try:
        yield
    finally:
        _state.is_deferred = False
    if _state.is_held:
        _raise()


def received() -> int:
    """Return the number of the signal received, 0 if none.

    Check this on every exception: libraries convert the one raised here to others,
    such as an ImportError during their import.
    """
    return _state.number


def exit_process() -> NoReturn:
    """Print which signal was received, and exit with its status.

    Functions registered at exit are run, but Python is not finalized: threads still
    inside C code can turn that into an abort.
    """
    restore()
    newline = "\n" if sys.stderr.isatty() else ""  # after ^C, or a partial bar
    sys.stderr.write(f"{newline}{_MESSAGES[signal.Signals(_state.number)]}\n")
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(_STATUS_BASE + _state.number)


def _handle(number: int, _: object) -> None:
    """Raise `Stopped`; a second SIGINT or SIGTERM ends the process at once."""
    _state.number = number
    for other in _MESSAGES:
        if signal.getsignal(other) is _handle:
            # A closed terminal, and the end of a session, send SIGHUP repeatedly.
            next_action = signal.SIG_IGN if other == signal.SIGHUP else signal.SIG_DFL
            signal.signal(other, next_action)
    signal.signal(signal.SIGALRM, _raise_again)
    if _state.is_deferred:
        _state.is_held = True
    else:
        _raise()


def _raise_again(*_: object) -> None:
    if not _state.is_done:
        _raise()


def _raise() -> NoReturn:
    """Raise `Stopped`, and raise it again if it is dropped.

    The handler may run where exceptions are dropped: in a destructor of MXNet's arrays,
    of which training calls thousands per second, or in a library that tries something
    and ignores its failure.
    """
    stopped = Stopped()
    _state.exception = weakref.ref(stopped, _on_dropped)
    try:
        raise stopped
    finally:
        del stopped  # this frame, part of its traceback, would keep it alive


def _on_dropped(_: object) -> None:
    """Schedule the exception again, since its object was freed without an exit."""
    if not _state.is_done:
        signal.setitimer(signal.ITIMER_REAL, _RETRY_S)


def _unraisable(unraisable: Any) -> None:
    """Report an exception that Python drops, but not `Stopped`, which is re-raised."""
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)


def _excepthook(exc_type: type[BaseException], *rest: Any) -> None:
    """Report an uncaught exception, except `Stopped`, which C libraries may print."""
    if not issubclass(exc_type, Stopped):
        sys.__excepthook__(exc_type, *rest)
