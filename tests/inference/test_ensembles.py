"""The choice of an ensemble's members, and the runs that cannot be averaged."""

from __future__ import annotations

import numpy as np
import pytest

from xenon_mx.errors import XenonError
from xenon_mx.inference import gluon_engine
from xenon_mx.inference.run_ensemble import RunEnsemble
from xenon_mx.runs.epoch_log import EpochRecord
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import RunMeta
from xenon_mx.runs.top_epochs import TopEpochs
from xenon_mx.runs.training_state import TrainingState
from xenon_mx.runtime.mxnet import mx

META = {
    "format": 1,
    "config": {"model": "resnet18_v1b"},
    "data": "abc",
    "preprocessing": {
        "size": 32,
        "fit": "stretch",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
    "architecture": {"pooling": "global", "logits": 1},
    "study_types": ["XR_A"],
    "weights": [[0.5, 0.5]],
}


def make(folder, losses, **changes):
    """Create a run whose params files hold a single number."""
    meta = RunMeta.from_json({**META, **changes})
    run, best = Run.create(folder, meta), TopEpochs(5)
    arrays = {"a": np.zeros(1, np.float32)}
    for number, loss in enumerate(losses):
        best.step(number, loss)
        row = EpochRecord(number, 1, loss, 0, 0, 0, 0, 0, 0)
        run.save(row, TrainingState(number, arrays, arrays, 1, {}, False), best.ranked)
    run.close()
    return folder


def test_the_lowest_losses_over_all_runs_are_chosen(tmp_path):
    a = make(tmp_path / "a", [0.5, 0.1, 0.4])
    b = make(tmp_path / "b", [0.2, 0.6])
    chosen = RunEnsemble([a, b], members=3).members
    assert [(m.params.parts[-3], m.epoch) for m in chosen] == [
        ("a", 1),
        ("b", 0),
        ("a", 2),
    ]


def test_fewer_members_than_asked_for_are_all_taken(tmp_path):
    assert len(RunEnsemble([make(tmp_path / "a", [0.5, 0.1])], members=5).members) == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data", "other"),
        ("preprocessing", {**META["preprocessing"], "size": 64}),
        ("weights", [[1.0, 1.0]]),
    ],
)
def test_runs_that_differ_are_refused(tmp_path, key, value):
    a, b = make(tmp_path / "a", [0.5]), make(tmp_path / "b", [0.4], **{key: value})
    with pytest.raises(XenonError, match=f"differ in {key}"):
        RunEnsemble([a, b], members=5)


def test_a_run_given_twice_is_refused(tmp_path):
    a = make(tmp_path / "a", [0.5])
    with pytest.raises(XenonError, match="twice"):
        RunEnsemble([a, tmp_path / "b" / ".." / "a"], members=5)


def test_a_run_without_an_epoch_is_refused(tmp_path):
    with pytest.raises(XenonError, match="no finished epoch"):
        RunEnsemble([make(tmp_path / "a", [])], members=5)


def test_a_changed_params_file_is_refused_before_mxnet_reads_it(tmp_path):
    ensemble = RunEnsemble([make(tmp_path / "a", [0.5])], members=1)
    ensemble.members[0].params.write_bytes(b"other")
    with pytest.raises(XenonError, match="damaged"):
        gluon_engine.build_nets(ensemble, [mx.cpu()])


def test_a_missing_params_file_is_refused(tmp_path):
    ensemble = RunEnsemble([make(tmp_path / "a", [0.5])], members=1)
    ensemble.members[0].params.unlink()
    with pytest.raises(XenonError, match="missing"):
        gluon_engine.build_nets(ensemble, [mx.cpu()])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("architecture", {"pooling": "7x7", "logits": 1}, "another architecture"),
        ("preprocessing", {**META["preprocessing"], "mean": [0.5] * 3}, "another mean"),
    ],
)
def test_a_run_of_another_kind_is_refused(tmp_path, key, value, message):
    with pytest.raises(XenonError, match=message):
        RunEnsemble([make(tmp_path / "a", [0.5], **{key: value})], members=5)
