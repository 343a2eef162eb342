"""The disk that a run needs, against what one takes while it is saved."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from test_run_folder import META, epoch

from xenon_mx.errors import XenonError
from xenon_mx.runs import disk
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.top_epochs import TopEpochs
from xenon_mx.runs.training_state import TrainingState

MB = 10**6


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("epochs", [1, 2, 5, 8])
def test_the_estimate_is_what_a_run_takes_at_most(tmp_path, monkeypatch, epochs):
    """Each epoch is better than the last, so that each replaces a checkpoint."""
    sizes = []

    def replace(*args, **kwargs):
        os_replace(*args, **kwargs)
        sizes.append(size_of(tmp_path))

    os_replace = os.replace
    monkeypatch.setattr(os, "replace", replace)
    net = {"a": np.zeros(MB // 4, np.float32)}
    trainer = {"a.mean": net["a"], "a.var": net["a"]}
    run, best = Run.create(tmp_path / "run", META), TopEpochs(5)
    for number in range(1, epochs + 1):
        best.step(number, -number)
        state = TrainingState(number, net, trainer, number, {}, False)
        run.save(epoch(number, -number), state, best.ranked)
    run.close()
    needed = disk.needed(MB, 2 * MB, epochs)
    assert needed - disk._SMALL_FILES <= max(sizes) <= needed


@pytest.fixture
def free(monkeypatch):
    """Return a function that sets how many bytes are free."""

    def patch(number):
        def usage(place):
            assert place.is_dir()
            return SimpleNamespace(free=number)

        monkeypatch.setattr(shutil, "disk_usage", usage)

    return patch


def test_what_is_needed_and_free_is_told(tmp_path, free):
    free(2 * MB)
    said = disk.check(tmp_path / "runs" / "a", 2 * MB)
    assert said == "up to 2 MB of disk (2 MB free)"


def test_a_disk_with_too_little_is_refused(tmp_path, free):
    free(2 * MB)
    run = tmp_path / "runs" / "a"
    with pytest.raises(XenonError) as caught:
        disk.check(run, 3 * MB)
    assert str(caught.value) == (
        f"{run}: the disk has 2 MB free, but checkpoints and state of the run need up "
        f"to 3 MB: free some, or name a RUN on another disk"
    )
    assert not run.parent.exists()


def test_a_run_that_is_resumed_needs_what_it_does_not_have_yet(tmp_path, free):
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "net-0001.params").write_bytes(bytes(MB))
    free(2 * MB)
    disk.check(tmp_path, 3 * MB)
    with pytest.raises(XenonError, match="need up to 3 MB"):
        disk.check(tmp_path, 4 * MB)
