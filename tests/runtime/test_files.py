"""Files are written atomically, and changed JSON files are detected."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from xenon_mx.errors import XenonError
from xenon_mx.runtime import files


def test_write_returns_the_sha256_of_the_file(tmp_path):
    digest = files.write(tmp_path / "x", b"abc")
    assert (tmp_path / "x").read_bytes() == b"abc"
    assert digest == hashlib.sha256(b"abc").hexdigest() == files.sha256(tmp_path / "x")
    assert os.listdir(tmp_path) == ["x"]


def test_a_secret_file_is_its_owners_from_the_start(tmp_path, monkeypatch):
    """Also where a file for everybody stood, and while it has its temporary name."""
    file = tmp_path / "x"
    file.touch()
    file.chmod(0o666)
    modes, fsync = [], os.fsync

    def seen(descriptor):
        modes.append(os.fstat(descriptor).st_mode & 0o777)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    umask = os.umask(0)
    try:
        files.write(file, b"abc", files.SECRET)
        files.write(tmp_path / "y", b"abc")
    finally:
        os.umask(umask)
    assert modes == [0o600, 0o666]
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes() == b"abc"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, step):
    files.write(tmp_path / "x", b"old")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space"):
        files.write(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


def test_json_is_read_as_it_was_written(tmp_path):
    content = {"a": [1, 0.1, None, "\u00e4"], "b": {"c": True}, "d": 1e300}
    files.write_json(tmp_path / "x", content)
    assert files.read_json(tmp_path / "x") == content


def test_json_may_be_reformatted_but_not_changed(tmp_path):
    files.write_json(tmp_path / "x", {"a": 1, "b": 2})
    stored = json.loads((tmp_path / "x").read_text())
    (tmp_path / "x").write_text(json.dumps(stored, sort_keys=True))
    assert files.read_json(tmp_path / "x") == {"a": 1, "b": 2}
    for changed in (
        {**stored, "a": 3},
        {**stored, "c": 0},
        {"a": 1, "b": 2},
        [stored],
    ):
        (tmp_path / "x").write_text(json.dumps(changed))
        with pytest.raises(XenonError, match="x: damaged"):
            files.read_json(tmp_path / "x")


def test_a_missing_file_is_one_error(tmp_path):
    with pytest.raises(XenonError, match="x: No such file"):
        files.read_json(tmp_path / "x")
