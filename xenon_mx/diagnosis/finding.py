"""What a check has found, and how it is told on one line.

Owns the words between a check and its reader. Must not know any check.
"""

from __future__ import annotations

import math
from typing import Any, Mapping, NamedTuple, Protocol

from xenon_mx.runtime import text


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        name: What was checked, such as `gradients on gpu(0)`.
        seen: What was seen, with its limit if it has one.
        wrong: What is wrong and what to do; empty if nothing is.
        is_fact: Whether this only describes the computer, and cannot be wrong.
        is_open: Whether this says why something could not be told to be ok or wrong.
    """

    name: str
    seen: str
    wrong: str = ""
    is_fact: bool = False
    is_open: bool = False

    @property
    def line(self) -> str:
        """The line; it ends in `ok` or what is wrong, unless it is a fact or open."""
        if self.is_fact or self.is_open:
            return text.one_line(f"{self.name}: {self.seen}")
        if not self.wrong:
            return text.one_line(f"{self.name}: {self.seen}: ok")
        seen = f"{self.seen}: " if self.seen else ""
        return text.one_line(f"{self.name}: {seen}WRONG: {self.wrong}")

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Finding:
        """Return the finding that `_asdict` became JSON values of."""
        return cls(**content)


class Teller(Protocol):
    """What a check reports to while it works."""

    def doing(self, what: str) -> None:
        """Report what is done next, for the progress bar and in case it crashes."""

    def found(self, finding: Finding) -> None:
        """Report what was found."""


def fact(name: str, seen: str) -> Finding:
    """Return a line that describes the computer."""
    return Finding(name, seen, is_fact=True)


def unchecked(name: str, reason: str) -> Finding:
    """Return a line about something that could not be checked, with the reason."""
    return Finding(name, f"not checked: {reason}", is_open=True)


def compared(
    name: str, difference: float, limit: float, advice: str, why_not: str = ""
) -> Finding:
    """Return the finding for a relative difference that has a limit.

    Args:
        name: What was compared.
        difference: The relative difference; one that is not finite is wrong.
        limit: The largest that is in order.
        advice: What is wrong, and what to do, if it is larger.
        why_not: Why a finite difference tells nothing; empty if it does.
    """
    if why_not and math.isfinite(difference):
        return unchecked(name, why_not)
    seen = f"{difference:.1e} from the CPU's (limit {limit:.1e})"
    return Finding(name, seen, "" if difference <= limit else advice)
