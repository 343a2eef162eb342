"""What a signal does to a command: it ends it, wherever it is, and is not forgotten.

Owns the handlers of SIGINT (Ctrl-C), SIGTERM (kill) and SIGHUP (a closed terminal).
Knows no command.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import weakref
from typing import Any, NoReturn

_WORDS = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "hung up",
}
_OF_SHELLS = 128  # plus the number: the status of what a signal has ended
_AGAIN_S = 0.01  # later; a destructor ends long before


class Stopped(BaseException):
    """A signal came."""


class _State:
    """Which signal came, and the exception that is on its way for it."""

    number = 0
    stop: weakref.ref[Stopped] | None = None
    is_over = False


_state = _State()


def catch() -> None:
    """Let the signals end what is done from here on, but those that are ignored.

    As nohup and & set it.
    """
    for each in _WORDS:
        if signal.getsignal(each) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(each, _arrive)
    sys.unraisablehook = _unraisable
    sys.excepthook = _excepthook


def release() -> None:
    """Leave the signals to the system again: the command is done but for its exit."""
    _state.is_over = True
    signal.setitimer(signal.ITIMER_REAL, 0)
    for each in _WORDS:
        if signal.getsignal(each) is _arrive:
            signal.signal(each, signal.SIG_DFL)


def arrived() -> int:
    """Tell the number of the signal that came, 0 if none.

    To be asked of every exception: libraries make others of the one that was raised,
    such as an ImportError while they are imported.
    """
    return _state.number


def leave() -> NoReturn:
    """Say which signal came, and exit with its status.

    Without Python's own end, which threads that were in the midst of their work in C
    can turn into an abort. What is to be removed or told at the exit is.
    """
    release()
    begin = "\n" if sys.stderr.isatty() else ""  # after ^C, or half a bar
    sys.stderr.write(f"{begin}{_WORDS[signal.Signals(_state.number)]}\n")
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(_OF_SHELLS + _state.number)


def _arrive(number: int, _: object) -> NoReturn:
    """End the command cleanly; the second time, the system ends it at once."""
    _state.number = number
    for each in _WORDS:
        if signal.getsignal(each) is _arrive:
            # A closed terminal, and the end of a session, say so more than once.
            again = signal.SIG_IGN if each == signal.SIGHUP else signal.SIG_DFL
            signal.signal(each, again)
    signal.signal(signal.SIGALRM, _arrive_again)
    _raise()


def _arrive_again(*_: object) -> None:
    if not _state.is_over:
        _raise()


def _raise() -> NoReturn:
    """Raise what ends the command, and see that it does.

    It may come out in a place where exceptions are dropped: a destructor of MXNet's
    arrays, of which training calls thousands a second, or a library that tries
    something and goes on if it fails.
    """
    stop = Stopped()
    _state.stop = weakref.ref(stop, _dropped)
    try:
        raise stop
    finally:
        del stop  # its own frame would keep it


def _dropped(_: object) -> None:
    """Raise again what nobody handles any more."""
    if not _state.is_over:
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)


def _unraisable(lost: Any) -> None:
    """Show what Python drops, but not what is going to be raised again."""
    if not isinstance(lost.exc_value, Stopped):
        sys.__unraisablehook__(lost)


def _excepthook(kind: type[BaseException], *rest: Any) -> None:
    """Show what ends Python, or what a library in C prints before it goes on."""
    if not issubclass(kind, Stopped):
        sys.__excepthook__(kind, *rest)
