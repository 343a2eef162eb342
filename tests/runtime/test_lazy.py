"""A lazy mapping reads as a dict of its functions' results."""

from __future__ import annotations

import pytest

from xenon_mx.runtime.lazy import LazyMapping


def test_it_reads_as_the_results_in_order():
    mapping = LazyMapping({"b": lambda: 1, "a": lambda: 2})
    assert dict(mapping) == {"b": 1, "a": 2}
    assert list(mapping.items()) == [("b", 1), ("a", 2)]
    assert len(mapping) == 2
    with pytest.raises(KeyError):
        mapping["c"]


def test_values_are_of_the_moment_when_they_are_asked_for():
    calls = []
    mapping = LazyMapping({"a": lambda: calls.append("a") or len(calls)})
    assert not calls
    assert [mapping["a"], mapping["a"]] == [1, 2]
