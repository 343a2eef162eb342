"""The checks of what is written and read: packing, records, resuming and the disk."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from support.checks import Told
from support.runs import NET

from xenon_mx.data import packed_folder
from xenon_mx.diagnosis import (
    disk_speed,
    drawn_images,
    packing,
    records,
    resuming,
)
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.errors import XenonError
from xenon_mx.runtime import files


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A subject whose images are packed, and what was told of packing them."""
    folder = tmp_path_factory.mktemp("doctor")
    subject, told = Subject(NET, 32, 8, ("cpu(0)",), str(folder)), Told()
    returned = packing.check(subject, told)
    return subject, told, returned


@pytest.fixture
def copied(packed, tmp_path):
    """A subject with a copy of the packed folders."""
    subject, _, _ = packed
    for folder in (subject.large, subject.small):
        shutil.copytree(folder, tmp_path / folder.name)
    return Subject(NET, 32, 8, ("cpu(0)",), str(tmp_path))


# Packing


def test_what_is_drawn_is_packed_by_the_command(packed):
    subject, told, returned = packed
    assert told.wrong() == []
    assert told.findings[0].seen.startswith("192 images of ")
    large = packed_folder.open_packed(subject.large)
    assert [large.split(name).records for name in large.splits] == [192, 4]
    labels = [row.abnormal for row in large.split("train").rows()]
    assert np.mean(labels) == 0.5
    small = packed_folder.open_packed(subject.small)
    assert [small.split(name).records for name in small.splits] == [4, 4]
    mean = (subject.large / "train.rec").stat().st_size / 192
    assert returned == {"bytes_per_record": mean}


def test_drawn_images_differ_and_have_no_flat_places():
    drawn = drawn_images.pixels(8, 64)
    assert drawn.dtype == np.uint8
    assert len({image.tobytes() for image in drawn}) == 8
    steps = np.abs(np.diff(drawn.astype(int), axis=2))
    assert (steps == 0).mean() < 0.1


def test_a_full_disk_while_drawing_is_named(packed, tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(type(tmp_path), "write_bytes", full)
    subject = Subject(NET, 32, 8, ("cpu(0)",), str(tmp_path))
    with pytest.raises(XenonError, match="image1.png: No space left on device"):
        packing.check(subject, Told())


def test_what_xenon_pack_complains_of_is_passed_on(packed, tmp_path):
    subject = Subject(NET, 5000, 8, ("cpu(0)",), str(tmp_path))
    with pytest.raises(XenonError, match="xenon-pack has failed.*at most 2048"):
        packing._pack(subject, tmp_path, tmp_path / "packed")


# Records


def test_records_are_read_alike_twice(packed):
    told = Told()
    records.check(packed[0], told)
    assert [finding.name for finding in told.findings] == ["records", "batches"]
    assert told.wrong() == []
    assert told.findings[1].seen.startswith("192 images")


def test_a_disk_that_returns_other_bytes_is_found(copied, monkeypatch):
    """The second reading has one other bit, as from a bad cable."""
    rec, forget, calls = copied.large / "train.rec", records.forget, []

    def forget_and_damage(file):
        forget(file)
        calls.append(file)
        if len(calls) == 2:
            data = bytearray(file.read_bytes())
            data[500] ^= 1
            file.write_bytes(data)

    original = rec.read_bytes()
    monkeypatch.setattr(records, "forget", forget_and_damage)
    open_packed = packed_folder.open_packed

    def repair(folder):
        rec.write_bytes(original)
        return open_packed(folder)

    monkeypatch.setattr(packed_folder, "open_packed", repair)
    told = Told()
    records.check(copied, told)
    assert told.wrong() == ["records"]
    assert "not reliable" in told.findings[0].line


def test_batches_that_differ_are_found(packed, monkeypatch):
    batches, calls = records.record_iter.training_batches, []

    def vary(*args, **options):
        calls.append(1)
        for batch in batches(*args, **options):
            yield batch._replace(pixels=batch.pixels + np.uint8(len(calls) - 1))

    monkeypatch.setattr(records.record_iter, "training_batches", vary)
    told = Told()
    records.check(packed[0], told)
    assert told.wrong() == ["batches"]


# A checkpoint, killed and resumed; tests/commands/test_doctor.py has what is ok


def test_a_training_is_killed_in_its_second_epoch(copied, tmp_path):
    run = tmp_path / "run"
    process = resuming._start(copied, run)
    assert resuming._kill_after_first_epoch(process, run)
    assert process.returncode == -signal.SIGKILL
    assert files.read_json(run / "last" / "state.json")["epoch"] == 1


@pytest.mark.slow
def test_weights_that_are_lost_with_the_kill_are_found(copied, monkeypatch):
    """The state of the first epoch is replaced: as if it had not reached the disk."""
    start = resuming._start

    def damage_and_start(subject, run, words=()):
        if words:
            (file,) = (run / "last").glob("trainer-*.states")
            file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\0")
        return start(subject, run, words)

    monkeypatch.setattr(resuming, "_start", damage_and_start)
    with pytest.raises(XenonError, match=r"xenon-train has failed.*trainer.*damaged"):
        resuming.check(copied, Told())


@pytest.mark.slow  # tests/commands/test_doctor.py resumes once, too
def test_other_bytes_at_the_end_are_found(copied, monkeypatch):
    end, calls = resuming._end, []

    def end_and_change(process):
        end(process)
        calls.append(1)
        if len(calls) == 2:
            (file,) = (copied_run / "last").glob("trainer-*.states")
            file.write_bytes(file.read_bytes() + b"\0")

    copied_run = Path(copied.folder) / "run-killed"
    monkeypatch.setattr(resuming, "_end", end_and_change)
    told = Told()
    resuming.check(copied, told)
    assert told.wrong() == ["checkpoint"]
    assert "trainer-0002.states not as without the kill" in told.findings[0].wrong


# The disk


def check_disk(tmp_path, bytes_per_s=1e6):
    told = Told()
    subject = Subject(NET, 32, 8, ("cpu(0)",), str(tmp_path))
    disk_speed.check(subject, told, bytes_per_s)
    return told


NAMES = ["disk, saving", "disk, reading", "disk, space"]


def test_a_disk_that_is_fast_and_empty_is_ok(tmp_path):
    told = check_disk(tmp_path)
    assert [finding.name for finding in told.findings] == NAMES
    assert told.wrong() == []
    assert list(tmp_path.iterdir()) == []


def test_a_slow_disk_is_found(tmp_path, monkeypatch):
    """Each 8 MiB take 8 s by the clock of a disk that writes 1 MiB/s."""
    now = [0.0]
    fsync = os.fsync

    def slow(descriptor):
        fsync(descriptor)
        now[0] += 8.0

    monkeypatch.setattr(os, "fsync", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0] + time.monotonic() % 1e-6)
    assert disk_speed.write_speed(tmp_path / "file") == pytest.approx(2**20, rel=0.01)
    assert disk_speed.saving(150_000_000, 2**20).line == (
        "disk, saving: 1 MB/s written: the 150 MB of an epoch take 143.1 s (limit 10): "
        "WRONG: put RUN on a faster disk"
    )
    assert not disk_speed.saving(150_000_000, 2**24).wrong


def test_records_that_are_read_too_slowly_are_found():
    assert not disk_speed.reading(9e6, 4e6).wrong
    assert "put PACKED on a faster disk" in disk_speed.reading(7e6, 4e6).line
    alone = disk_speed.reading(7e6, None).line
    assert alone == "disk, reading: 7 MB/s read (not compared: no training): ok"


def test_a_disk_without_room_for_a_run_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_speed.disk_space, "free", lambda folder: 9_000_000)
    told = check_disk(tmp_path)
    assert told.wrong() == ["disk, space"]
    assert "up to 11 MB, and 9 MB are free: WRONG: free some" in told.findings[-1].line


def test_a_disk_that_is_full_is_named(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(XenonError, match="speed: No space left on device"):
        check_disk(tmp_path)
