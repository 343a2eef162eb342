"""Errors that the user can fix. Owns the exceptions; must not know any package."""

from __future__ import annotations

from typing import Sequence


class XenonError(Exception):
    """An error that the user can fix: what is wrong, where, and what to do.

    Args:
        message: One line.
        details: One line per problem if there are several (each unreadable file, each
            contradictory label). Printed above the message.
    """

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


class ConfigError(XenonError):
    """An invalid setting, which the command line reports as a usage error.

    Args:
        flag: The option on the command line, such as `--batch-size`.
        message: What the setting must be.
    """

    def __init__(self, flag: str, message: str) -> None:
        super().__init__(f"{flag}: {message}")
        self.flag = flag
