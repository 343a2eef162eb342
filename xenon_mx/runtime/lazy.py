"""A mapping whose values are computed each time they are asked for.

Owns the class; must not know what the values are. With it, large arrays need not all be
in memory while they are written one after another.
"""

from __future__ import annotations

from typing import Callable, Generic, Iterator, Mapping, TypeVar

T = TypeVar("T")


class LazyMapping(Mapping[str, T], Generic[T]):
    """A mapping of functions that reads as one of their results.

    Args:
        functions: Key to a function without arguments.
    """

    def __init__(self, functions: Mapping[str, Callable[[], T]]) -> None:
        self._functions = functions

    def __getitem__(self, key: str) -> T:
        return self._functions[key]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)
