"""The cache of exported graphs: whole entries, a bound, and one who makes them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from xenon_mx.errors import XenonError
from xenon_mx.inference.export_cache import ExportCache, default_folder
from xenon_mx.inference.onnx_metadata import add_checksum


def filled(folder, *keys, size=1000):
    """Return a cache with entries of `size` bytes, the first used longest ago."""
    cache = ExportCache(folder)
    with cache.making(0):
        for number, key in enumerate(keys):
            data = add_checksum(b"")
            cache.write(key, add_checksum(b"\0" * (size - len(data))))
            os.utime(folder / f"{key}.onnx", (number, number))
    return cache


def names(folder):
    return sorted(path.stem for path in folder.iterdir())


def test_an_entry_is_read_as_it_was_written(tmp_path):
    cache = filled(tmp_path / "c", "a")
    data = add_checksum(b"model")
    with cache.making(0):
        cache.write("b", data)
    assert cache.read("b") == data
    assert cache.read("c") is None


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: b"", lambda d: b"x" + d[1:], lambda d: d * 2]
)
def test_a_damaged_entry_is_missing_and_said(tmp_path, caplog, damage):
    cache = filled(tmp_path, "a")
    file = tmp_path / "a.onnx"
    file.write_bytes(damage(file.read_bytes()))
    assert cache.read("a") is None
    assert caplog.messages == [f"{file}: damaged: exporting that net again"]
    assert not file.exists()


def test_the_entries_used_longest_ago_are_removed(tmp_path):
    cache = filled(tmp_path, "a", "b", "c", "d")
    cache.read("a")
    with cache.making(0):
        cache.trim(keep={"b"}, limit=3000)
        assert names(tmp_path) == ["a", "b", "d"]
        cache.trim(keep={"b"}, limit=0)
    assert names(tmp_path) == ["b"]


def test_entries_within_the_bound_stay(tmp_path):
    cache = filled(tmp_path, "a", "b")
    cache.trim(keep=set(), limit=2000)
    assert names(tmp_path) == ["a", "b"]


def test_an_entry_that_is_removed_while_it_is_read_is_whole(tmp_path):
    cache = filled(tmp_path, "a")
    data = cache.read("a")
    cache.trim(keep=set(), limit=0)
    assert data == add_checksum(b"\0" * (1000 - len(add_checksum(b""))))


def test_only_one_makes_entries(tmp_path, caplog):
    caplog.set_level("INFO")
    cache, order, entered = ExportCache(tmp_path), [], threading.Event()

    def other():
        entered.set()
        with ExportCache(tmp_path).making(0):
            order.append("other")

    with cache.making(0):
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait()
        while "waiting" not in caplog.text:
            thread.join(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/c/xenon"),
        ({"XDG_CACHE_HOME": "c", "HOME": "/h"}, "/h/.cache/xenon"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/xenon"),
        ({"HOME": "/h"}, "/h/.cache/xenon"),
    ],
)
def test_the_cache_is_where_the_user_keeps_caches(variables, expected):
    assert default_folder(variables) == Path(expected)


ADVICE = "set XDG_CACHE_HOME to another folder, or use --runtime mxnet"


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(XenonError, match=f"Not a directory.*{ADVICE}"):
        with ExportCache(tmp_path / "file" / "xenon").making(0):
            pass


def test_a_disk_without_space_is_one_error_before_the_work(tmp_path):
    with pytest.raises(XenonError, match=f"are needed.*{ADVICE}"):
        with ExportCache(tmp_path).making(1 << 60):
            pass


def test_an_entry_that_cannot_be_written_is_one_error(tmp_path):
    cache = ExportCache(tmp_path / "c")
    with cache.making(0):
        (tmp_path / "c").rmdir()
        with pytest.raises(XenonError, match=f"No such file.*{ADVICE}"):
            cache.write("a", b"")
