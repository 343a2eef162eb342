"""The run folder: the five best files, the last epoch, and nothing half-written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import paths, tensorboard_events
from support.tensorboard_events import scalars

from xenon_mx.errors import XenonError
from xenon_mx.models import weight_files
from xenon_mx.runs import training_state
from xenon_mx.runs.epoch_log import EpochRecord
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import Preprocessing, RunMeta
from xenon_mx.runs.top_epochs import TopEpochs
from xenon_mx.runs.training_state import TrainingState
from xenon_mx.runtime import files

LOSSES = [0.5, 0.4, 0.6, 0.3, float("nan"), 0.35, 0.2]
# The third is not kept, and the fourth replaces the first.
LOSSES_OF_KILLED = [0.5, 0.4, float("nan"), 0.3]


def epoch(number, loss):
    finished = 1764539700.125 + number
    return EpochRecord(number, 0.5, loss, 0.1, 0.6, 1e-4, 10.0, 0.01, 5.0, finished)


def last(number, done=False):
    """A state of small arrays that tell their epoch."""
    net = {"a": np.full(3, number, np.float32), "b": np.zeros((2, 2), np.float32)}
    moments = {"a.mean": np.full(3, -number, np.float32)}
    return TrainingState(
        number, net, moments, 10 * number, {"plateau": {"waited": 1}}, done
    )


def save(run, best, number, loss):
    best.step(number, loss)
    run.save(epoch(number, loss), last(number), best.ranked)


META = RunMeta(
    data="abc",
    study_types=("XR_A",),
    weights=((0.5, 0.5),),
    preprocessing=Preprocessing(32, "stretch"),
    settings={"model": "net"},
    architecture={"pooling": "global"},
)


@pytest.fixture
def run(tmp_path):
    run = Run.create(tmp_path / "runs" / "a", META)
    yield run
    run.close()


def names(run, folder="params"):
    return sorted(file.name for file in (run.folder / folder).iterdir())


def again(run):
    """The run as another process finds it."""
    run.close()
    return Run.open(run.folder)


def test_only_the_best_files_are_kept_and_best_json_matches_them(run):
    best = TopEpochs(2)
    for number, loss in enumerate(LOSSES[:4], 1):
        save(run, best, number, loss)
    assert names(run) == ["net-0002.params", "net-0004.params"]
    members = Run.open(run.folder).members()
    assert [(m.epoch, m.loss) for m in members] == [(4, 0.3), (2, 0.4)]
    for member in members:
        digest = hashlib.sha256(member.params.read_bytes()).hexdigest()
        assert member.sha256 == digest
        assert (weight_files.read(member.params)["a"] == member.epoch).all()


def test_log_has_a_row_an_epoch_under_the_contract_header(run):
    best = TopEpochs(1)
    save(run, best, 1, 0.5)
    save(run, best, 2, float("nan"))
    header, *rows = (run.folder / "log.csv").read_text().splitlines()
    assert header == (
        "epoch,train_loss,val_loss,kappa,auroc,lr,images_per_s,wait_share,seconds,"
        "finished"
    )
    assert rows == [
        "1,0.5,0.5,0.1,0.6,0.0001,10,0.01,5,1764539701.125",
        "2,0.5,nan,0.1,0.6,0.0001,10,0.01,5,1764539702.125",
    ]


def without_times(run):
    """Write a run's files as xenon 0.1.0 did: without times, and with NaN."""
    run.close()
    log, state = run.folder / "log.csv", run.folder / "last" / "state.json"
    lines = log.read_text().splitlines()
    log.write_text("".join(f"{line.rpartition(',')[0]}\n" for line in lines))
    content = files.read_json(state)
    nan = float("nan")
    content["log"] = [[nan if v is None else v for v in r[:-1]] for r in content["log"]]
    content["checksum"] = files.json_sha256(content)
    state.write_text(json.dumps(content))
    return Run.open(run.folder)


def test_a_log_without_times_is_read_and_continued(run):
    best = TopEpochs(2)
    save(run, best, 1, 0.5)
    save(run, best, 2, float("nan"))
    old = without_times(run)
    assert "NaN" in (run.folder / "last" / "state.json").read_text()
    assert [record.finished for record in old.log()] == [None, None]
    old.resume(META.settings)
    save(old, best, 3, 0.25)
    resumed = again(old)
    resumed.resume(META.settings)
    resumed.close()
    records = resumed.log()
    assert [record.finished for record in records] == [None, None, epoch(3, 0).finished]
    assert np.isnan(records[1].val_loss)
    times = tensorboard_events.wall_times(run.folder, "kappa")
    assert times == [epoch(3, 0).finished] * 3


def test_json_has_no_words_that_other_programs_refuse(run):
    save(run, TopEpochs(2), 1, float("nan"))
    save(run, TopEpochs(2), 2, float("inf"))
    run.close()

    def refuse(word):
        raise AssertionError(word)

    for file in run.folder.rglob("*.json"):
        json.loads(file.read_text(), parse_constant=refuse)
    losses = [row.val_loss for row in training_state.read_meta(run.folder).log]
    assert losses == [pytest.approx(float("nan"), nan_ok=True), float("inf")]


def test_the_last_epoch_comes_back_as_it_was(run):
    best = TopEpochs(2)
    for number in (1, 2):
        save(run, best, number, 0.5)
    resumed = again(run)
    found = resumed.resume(META.settings)
    resumed.close()
    assert (found.epoch, found.steps, found.done) == (2, 20, False)
    assert found.handlers == {"plateau": {"waited": 1}}
    for theirs, ours in ((found.net, last(2).net), (found.trainer, last(2).trainer)):
        assert theirs.keys() == ours.keys()
        assert all((theirs[k] == ours[k]).all() for k in ours)
    assert resumed.epochs == [epoch(1, 0.5), epoch(2, 0.5)]
    assert names(run, "last") == [
        "net-0002.params",
        "state.json",
        "trainer-0002.states",
    ]


def test_a_run_without_a_finished_epoch_begins_at_the_first(run):
    resumed = again(run)
    assert not resumed.is_begun
    assert resumed.resume(META.settings) is None
    save(resumed, TopEpochs(1), 1, 0.5)
    resumed.close()
    assert names(run) == ["net-0001.params"]


def test_tensorboard_shows_every_epoch_once_however_often_it_was_resumed(run):
    best = TopEpochs(2)
    for number, loss in enumerate(LOSSES, 1):
        save(run, best, number, loss)
        run = again(run)
        run.resume(META.settings)
    run.close()
    shown = scalars(run.folder, "val_loss")
    expected = [(n, loss) for n, loss in enumerate(LOSSES, 1) if loss == loss]
    np.testing.assert_allclose(shown, expected, rtol=1e-6)
    times = tensorboard_events.wall_times(run.folder, "kappa")
    assert times == [epoch(n, 0).finished for n in range(1, len(LOSSES) + 1)]


def test_two_processes_cannot_train_the_same_run(run):
    other = Run.open(run.folder)
    with pytest.raises(XenonError, match="another process trains it"):
        other.resume(META.settings)


def test_a_run_that_is_removed_in_the_midst_of_a_save_is_called_so(run, monkeypatch):
    monkeypatch.setattr(
        run._locked, "check_in_place", lambda: shutil.rmtree(run.folder)
    )
    with pytest.raises(XenonError, match="was moved or removed during training"):
        save(run, TopEpochs(1), 1, 0.5)
    assert not run.folder.exists()


def test_no_temporary_file_stays(run):
    save(run, TopEpochs(1), 1, 0.25)
    assert not list(run.folder.rglob("*.partial"))


# Saves four epochs without training, is killed before the n-th operation on a file,
# and resumes, for every possible n: each time in a process of its own, forked from a
# process without MXNet, which must not be forked. Nothing is flushed to the disk, since
# the system is not killed.
KILLED = """
import itertools, os, shutil, signal, sys
from pathlib import Path
from test_run_folder import META, LOSSES_OF_KILLED, save
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.top_epochs import TopEpochs

os.fsync = lambda descriptor: None

def train(folder):
    if (folder / "run.json").exists():
        run = Run.open(folder)
        run.resume(META.settings)
    else:
        run = Run.create(folder, META)
    best = TopEpochs(2)
    for row in run.epochs:
        best.step(row.epoch, row.val_loss)
    for number in range(len(run.epochs) + 1, len(LOSSES_OF_KILLED) + 1):
        save(run, best, number, LOSSES_OF_KILLED[number - 1])
    run.close()

def dying(work):
    def call(*args, **kwargs):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*args, **kwargs)
    return call

root = Path(sys.argv[1])
for n in itertools.count(1):
    child = os.fork()
    if not child:
        left = n
        for name in ("replace", "unlink", "fsync", "mkdir"):
            setattr(os, name, dying(getattr(os, name)))
        train(root / str(n))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    folder = root / str(n)
    if folder.exists():
        shutil.copytree(folder, root / f"{n}-killed")
    train(folder)
    if not status:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
"""


def contents(folder):
    """What every file of a run holds, but for the events, which name their time."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and "tfevents" not in file.name
    }


def finished(folder):
    """How many epochs a killed run had finished."""
    state = folder / "last" / "state.json"
    return files.read_json(state)["epoch"] if state.exists() else 0


def test_killed_at_any_operation_a_run_goes_on_as_if_nothing_had_happened(tmp_path):
    subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": paths.PYTHONPATH},
        check=True,
    )
    whole = max(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit())
    assert whole > 60  # operations at which a process was killed
    expected = contents(tmp_path / str(whole))
    progress = []
    for n in range(1, whole):
        assert contents(tmp_path / str(n)) == expected, n
        killed = tmp_path / f"{n}-killed"
        if (killed / "run.json").exists():
            run = Run.open(killed)
            for member in run.members():
                member.check()
            progress.append(finished(killed))
    assert progress == sorted(progress)  # what was finished is never lost
    assert set(progress) == set(range(len(LOSSES_OF_KILLED) + 1))


def test_a_second_run_in_the_same_folder_is_refused(run):
    with pytest.raises(XenonError, match="contains a run already.*--resume"):
        Run.create(run.folder, META)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(XenonError, match="is a file"):
        Run.create(tmp_path / "a", META)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(XenonError, match="not a run"):
        Run.open(tmp_path)


def test_a_run_of_another_format_is_refused(run):
    files.write_json(run.folder / "run.json", {"format": 99})
    with pytest.raises(XenonError, match="format"):
        Run.open(run.folder)


def read_all(folder):
    """Read a run as predicting and as resuming does."""
    run = Run.open(folder)
    run.members()
    run.resume(META.settings)


@pytest.mark.parametrize("content", ["", "{", '[{"epoch": 1}]', "[3]", "{}"])
@pytest.mark.parametrize("name", ["best.json", "run.json", "last/state.json"])
def test_damaged_json_is_refused_by_name(run, name, content):
    save(run, TopEpochs(1), 1, 0.5)
    run.close()
    (run.folder / name).write_text(content)
    with pytest.raises(XenonError, match=f"{name}: damaged"):
        read_all(run.folder)


@pytest.mark.parametrize(
    "change",
    [
        *({key: None} for key in ("epoch", "done", "steps", "handlers", "files")),
        *({key: None} for key in ("best", "log")),
        {"epoch": "1"},
        {"files": {"net-0001.params": "abc"}},
        {"best": [{"epoch": 1}]},
        {"best": [3]},
        {"log": [[1, 0.5]]},
        {"log": [[]]},
        {"log": [3]},
    ],
)
def test_a_state_json_with_a_checksum_that_lacks_something_is_refused(run, change):
    save(run, TopEpochs(1), 1, 0.5)
    run.close()
    path = run.folder / "last" / "state.json"
    content = {**files.read_json(path), **change}
    for lacking in (content, {k: v for k, v in content.items() if v is not None}):
        files.write_json(path, lacking)
        with pytest.raises(XenonError, match=r"state\.json: damaged"):
            Run.open(run.folder).resume(META.settings)


def test_a_run_that_cannot_be_resumed_is_not_left_locked(run):
    save(run, TopEpochs(1), 1, 0.5)
    run.close()
    path = run.folder / "last" / "state.json"
    content = path.read_bytes()
    path.write_text("{}")
    with pytest.raises(XenonError, match=r"state\.json: damaged"):
        Run.open(run.folder).resume(META.settings)
    path.write_bytes(content)
    resumed = Run.open(run.folder)
    assert resumed.resume(META.settings).epoch == 1
    resumed.close()


@pytest.mark.parametrize("name", ["best.json", "run.json", "last/state.json"])
def test_a_changed_number_in_json_is_noticed(run, name):
    save(run, TopEpochs(1), 1, 0.5)
    run.close()
    path = run.folder / name
    path.write_text(path.read_text().replace("1", "2", 1))
    with pytest.raises(XenonError, match=f"{name}: damaged"):
        read_all(run.folder)


@pytest.mark.parametrize(
    "name",
    ["last/net-0001.params", "last/trainer-0001.states", "params/net-0001.params"],
)
@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_damaged_file_of_the_last_epoch_is_refused_by_name(run, name, damage):
    save(run, TopEpochs(1), 1, 0.5)
    run.close()
    path = run.folder / name
    if damage == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content)
    with pytest.raises(XenonError, match=f"{name}: (damaged|No such file)"):
        Run.open(run.folder).resume(META.settings)


@pytest.mark.parametrize(
    "change",
    [
        {"config": []},
        {"config": {}},
        {"data": None},
        {"preprocessing": {"fit": "stretch"}},
        {"preprocessing": {"size": "64", "fit": "stretch"}},
        {"preprocessing": {"size": 0, "fit": "stretch"}},
        {"preprocessing": {"size": 64, "fit": "crop"}},
        {"study_types": None},
        {"weights": []},
    ],
)
def test_a_run_json_that_misses_something_is_refused(run, change):
    files.write_json(run.folder / "run.json", {**run.meta.to_json(), **change})
    with pytest.raises(XenonError, match=r"run\.json: damaged"):
        Run.open(run.folder)


def test_a_folder_that_holds_anything_else_is_refused(tmp_path):
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "pack.json").write_text("{}")
    with pytest.raises(XenonError, match="not empty"):
        Run.create(tmp_path / "packed", META)


def test_a_full_disk_is_one_error_and_the_run_goes_on_when_there_is_room(
    run, monkeypatch
):
    best = TopEpochs(2)
    save(run, best, 1, 0.5)

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_space)
        with pytest.raises(XenonError, match="No space left.*before are complete"):
            save(run, best, 2, 0.4)
    assert not list(run.folder.rglob("*.partial"))
    resumed = again(run)
    assert [member.epoch for member in resumed.members()] == [1]
    assert resumed.resume(META.settings).epoch == 1
    resumed.save(epoch(2, 0.4), last(2), best.ranked)
    resumed.close()
    assert [member.epoch for member in resumed.members()] == [2, 1]
