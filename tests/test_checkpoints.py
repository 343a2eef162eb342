"""The run folder: the five best files, and nothing half-written."""

from __future__ import annotations

import hashlib
import json

import pytest

from xenon_mx.checkpoints import Epoch, Run
from xenon_mx.errors import XenonError
from xenon_mx.handlers import Best


def epoch(number, loss):
    return Epoch(number, 0.5, loss, 0.1, 0.6, 1e-4, 10.0, 0.01, 5.0)


def save(run, best, number, loss):
    def write_params(path):
        with open(path, "w") as file:
            file.write(f"params of {number}")

    best.step(number, loss)
    run.save(epoch(number, loss), best, write_params)


META = {
    "config": {"model": "net"},
    "data": "abc",
    "preprocessing": {"size": 32, "fit": "stretch"},
    "architecture": {"pooling": "global"},
    "study_types": ["XR_A"],
    "weights": [[0.5, 0.5]],
}


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "runs" / "a", META)


def names(run):
    return sorted(file.name for file in (run.folder / "params").iterdir())


def test_only_the_best_files_are_kept_and_best_json_matches_them(run):
    best = Best(2)
    for number, loss in enumerate([0.5, 0.4, 0.6, 0.3]):
        save(run, best, number, loss)
    run.close()
    assert names(run) == ["net-0001.params", "net-0003.params"]
    members = Run.open(run.folder).members()
    assert [(m.epoch, m.loss) for m in members] == [(3, 0.3), (1, 0.4)]
    for member in members:
        digest = hashlib.sha256(member.params.read_bytes()).hexdigest()
        assert member.sha256 == digest


def test_log_has_a_row_an_epoch_under_the_contract_header(run):
    best = Best(1)
    save(run, best, 0, 0.5)
    save(run, best, 1, float("nan"))
    run.close()
    header, *rows = (run.folder / "log.csv").read_text().splitlines()
    assert header == (
        "epoch,train_loss,val_loss,kappa,auroc,lr,images_per_s,wait_share,seconds"
    )
    assert rows == [
        "0,0.5,0.5,0.1,0.6,0.0001,10,0.01,5",
        "1,0.5,nan,0.1,0.6,0.0001,10,0.01,5",
    ]


def test_tensorboard_events_hold_the_log(run):
    save(run, Best(1), 0, 0.25)
    run.close()
    (events,) = run.folder.glob("events.out.tfevents.*")
    assert b"val_loss" in events.read_bytes()


def test_no_temporary_file_stays(run):
    save(run, Best(1), 0, 0.25)
    run.close()
    assert not list(run.folder.rglob("*.partial"))


def test_a_second_run_in_the_same_folder_is_refused(run):
    with pytest.raises(XenonError, match="holds a run already"):
        Run.create(run.folder, {})


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(XenonError, match="is a file"):
        Run.create(tmp_path / "a", {})


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(XenonError, match="not a run"):
        Run.open(tmp_path)


def test_a_run_of_another_format_is_refused(run):
    (run.folder / "run.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(XenonError, match="format"):
        Run.open(run.folder)


@pytest.mark.parametrize("content", ["", "{", '[{"epoch": 1}]', "[3]", "{}"])
def test_a_damaged_best_json_is_refused_or_empty(run, content):
    (run.folder / "best.json").write_text(content)
    if content == "{}":
        assert run.members() == []
    else:
        with pytest.raises(XenonError, match=r"best\.json"):
            run.members()


@pytest.mark.parametrize(
    "change",
    [
        {"config": []},
        {"config": {}},
        {"preprocessing": {"fit": "stretch"}},
        {"preprocessing": {"size": "64", "fit": "stretch"}},
        {"preprocessing": {"size": 0, "fit": "stretch"}},
        {"preprocessing": {"size": 64, "fit": "crop"}},
        {"study_types": None},
        {"weights": []},
    ],
)
def test_a_damaged_run_json_is_refused(run, change):
    (run.folder / "run.json").write_text(json.dumps({**run.meta, **change}))
    with pytest.raises(XenonError, match=r"run\.json: is damaged"):
        Run.open(run.folder)


def test_a_folder_that_holds_anything_else_is_refused(tmp_path):
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "pack.json").write_text("{}")
    with pytest.raises(XenonError, match="not empty"):
        Run.create(tmp_path / "packed", META)


def test_a_full_disk_is_one_error_and_keeps_what_was_whole(run):
    best = Best(2)
    save(run, best, 1, 0.5)

    def no_space(path):
        raise OSError(28, "No space left on device")

    best.step(2, 0.4)
    with pytest.raises(XenonError, match="No space left.*epochs before it are whole"):
        run.save(epoch(2, 0.4), best, no_space)
    run.close()
    assert [member.epoch for member in Run.open(run.folder).members()] == [1]
