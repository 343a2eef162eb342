"""From how a command ends to its last line and its exit status.

Exit statuses: 0 done; 1 a `XenonError`; 2 wrong usage; 70 a bug, with its traceback;
130 Ctrl-C; 143 SIGTERM; 129 SIGHUP.

Owns the statuses and the message for each kind of failure. Must not know any command.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

import click

from xenon_mx import console
from xenon_mx.errors import XenonError, link_loop, os_error
from xenon_mx.runtime import memory, signals, streams, text

_USAGE, _FAILED, _BUG, _INTERRUPTED = 2, 1, 70, 130
_SYMLINK_LOOP = "Symlink loop from "  # the message of Path.resolve before Python 3.13


def run(command: click.Command, name: str) -> NoReturn:
    """Run a command with the process's arguments, and exit with its status.

    Args:
        command: The command.
        name: Its name in usage messages, such as `xenon-pack`.
    """
    streams.guard()
    try:
        signals.install()
        console.log_to_stderr()
        status = status_of(command, name)
        # All that remains is the shutdown of Python and MXNet.
        signals.restore()
    except BaseException:
        if signals.received():
            signals.exit_process()
        raise
    sys.exit(status)


def status_of(command: click.Command, name: str) -> int:
    """Run a command, print why it failed if it did, and return its exit status.

    Raises:
        BaseException: A signal arrived; this is the exception it led to.
    """
    try:
        _check_docstrings()
        # The result is the status of a click.exceptions.Exit, or None.
        status = command.main(prog_name=name, standalone_mode=False)
        sys.stdout.flush()
        return status or 0
    except (Exception, KeyboardInterrupt) as error:
        if signals.received():
            raise
        return _report_failure(_translate(error), command, name)


def _check_docstrings() -> None:
    """Raise an error if Python drops docstrings."""
    if sys.flags.optimize > 1:
        raise XenonError(
            "Python drops docstrings, which MXNet and --help need: set PYTHONOPTIMIZE "
            "to 1 at most, and do not use -OO"
        )


def _translate(error: BaseException) -> BaseException:
    """Return the exception that describes a failure to the user."""
    if isinstance(error, click.Abort):  # click replaces two other exceptions by it
        return error.__cause__ or error
    if not isinstance(error, XenonError) and memory.is_out_of_memory(error):
        return XenonError(memory.out_of_memory_message())
    if isinstance(error, OSError):
        return _translate_os_error(error)
    if isinstance(error, RuntimeError) and str(error).startswith(_SYMLINK_LOOP):
        path = str(error)[len(_SYMLINK_LOOP) :].strip("'\"")
        return link_loop(path)
    return error


def _translate_os_error(error: OSError) -> Exception:
    """Return the error for a path that the system refused, such as too long a name."""
    if error.filename:
        return os_error(os.fsdecode(error.filename), error)
    try:
        os.getcwd()
    except OSError:
        return XenonError(
            "the working directory no longer exists: change to another one"
        )
    return error


def _report_failure(error: BaseException, command: click.Command, name: str) -> int:
    """Print what ended a command, and return the exit status."""
    if isinstance(error, KeyboardInterrupt):
        console.print_line("interrupted")
        return _INTERRUPTED
    if isinstance(error, click.ClickException):
        return _report_usage(error, command, name)
    if isinstance(error, streams.NoReader):
        return _FAILED  # without a message, as other programs
    if isinstance(error, XenonError):
        for detail in error.details:
            console.print_line(f"  {detail}")
        console.print_line(f"error: {error}")
        return _FAILED
    traceback.print_exception(type(error), error, error.__traceback__)
    console.print_line("this is a bug in xenon: please report it with the lines above")
    return _BUG


def _report_usage(
    error: click.ClickException, command: click.Command, name: str
) -> int:
    if isinstance(error, click.UsageError) and error.ctx is None:
        error.ctx = click.Context(command, info_name=name)
    error.message = text.one_line(error.message)  # type: ignore[misc]
    error.show()
    return _USAGE
