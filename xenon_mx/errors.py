"""Failures that the user can cause and mend. Owns nothing else, knows nothing."""

from __future__ import annotations

from typing import Sequence


class XenonError(Exception):
    """What went wrong, where, and what to do: one sentence for the user.

    Args:
        message: One line.
        details: One line for each thing at fault, when there are several (every
            unreadable file, every contradictory label). Shown above the message.
    """

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


class ConfigError(XenonError):
    """A setting outside its range: the command line answers it as wrong usage.

    Args:
        flag: The setting as the command line spells it, such as `--batch-size`.
        message: What the setting must be.
    """

    def __init__(self, flag: str, message: str) -> None:
        super().__init__(f"{flag}: {message}")
        self.flag = flag
