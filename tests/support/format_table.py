"""The table of formats in docs/formats.md, from what the differential tests saw."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Iterable

from support.paths import ROOT

READ = "read"


class Outcomes:
    """What became of the files of each kind.

    Args:
        damages: The kinds that may be read or refused, file by file.
    """

    def __init__(self, damages: Iterable[str]) -> None:
        self._damages = set(damages)
        self._counts: dict[tuple[str, str], dict[str, int]] = defaultdict(
            lambda: defaultdict(int)
        )

    def add(self, format: str, kind: str, result: str) -> None:
        """Count one file: `read`, the reason of its refusal, or an error after `!`."""
        self._counts[format, kind][result] += 1

    @property
    def total(self) -> int:
        """Return the number of files."""
        return sum(sum(results.values()) for results in self._counts.values())

    @property
    def wrong(self) -> dict[tuple[str, str, str], int]:
        """Return the number of files, by kind, that were neither read nor refused."""
        return {
            (*key, result): count
            for key, results in self._counts.items()
            for result, count in results.items()
            if result.startswith("!")
        }

    @property
    def mixed(self) -> list[tuple[str, str]]:
        """Return the kinds, damage aside, of which some were read and some refused."""
        return [
            key
            for key, results in self._counts.items()
            if key[1] not in self._damages and READ in results and len(results) > 1
        ]

    def check(self) -> None:
        """Check that there is no third outcome, and that the docs have every row."""
        assert not self.wrong
        assert not self.mixed
        docs = (ROOT / "docs" / "formats.md").read_text()
        missing = [row for row in self.rows() if row not in docs]
        assert not missing, "\n".join(["rows that docs/formats.md lacks:", *missing])

    def listing(self) -> str:
        """Return every kind with its results and their numbers, a line each."""
        return "\n".join(
            f"{format:12}{kind:36}{count:5}  {result[:100]}"
            for (format, kind), results in sorted(self._counts.items())
            for result, count in sorted(results.items())
        )

    def rows(self) -> list[str]:
        """Return the table's rows: a format, what is read, and what is refused."""
        by_format: dict[str, tuple[list[str], list[str]]] = {}
        for (format, kind), results in sorted(self._counts.items()):
            columns = by_format.setdefault(format, ([], []))
            if kind not in self._damages:
                columns[READ not in results].append(kind)
        return [
            f"| {format} | {_joined(read)} | {_joined(refused)} |"
            for format, (read, refused) in by_format.items()
        ]


def _order(item: tuple[str, list[int]]) -> tuple[bool, str]:
    """Order kinds of pixels before specialities, each by the alphabet."""
    return not item[1], item[0].lower()


def _joined(kinds: list[str]) -> str:
    """Join kinds, those that differ only in their bits into one."""
    bits: dict[str, list[int]] = {}
    for kind in kinds:
        match = re.fullmatch(r"(.+), (\d+) bits?", kind)
        name = match[1] if match else kind
        numbers = bits.setdefault(name, [])
        if match:
            numbers.append(int(match[2]))
    parts = []
    for name, numbers in sorted(bits.items(), key=_order):
        listed = ", ".join(map(str, sorted(numbers)))
        unit = "bit" if numbers == [1] else "bits"
        parts.append(f"{name} ({listed} {unit})" if numbers else name)
    return "; ".join(parts) or "none"
