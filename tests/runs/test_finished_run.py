"""A finished run: what --resume says of it, and what it still repairs."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace

import pytest
import synthetic
from support.runs import train_config

from xenon_mx.commands import train
from xenon_mx.errors import XenonError
from xenon_mx.runs.finished_run import ending
from xenon_mx.runs.run_folder import Run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The settings of a run of two epochs, which is finished."""
    folder = tmp_path_factory.mktemp("finished")
    splits = {"train": synthetic.labelled(16), "valid": synthetic.labelled(8, seed=9)}
    packed = synthetic.pack(folder / "packed", splits)
    config = train_config(packed, folder / "run", epochs=2, patience=9)
    train.train(config)
    return config


@pytest.fixture
def again(trained, tmp_path):
    """The settings to resume a copy of the run."""
    shutil.copytree(trained.run, tmp_path / "run")
    return replace(trained, run=tmp_path / "run", resume=True)


def files_of(folder):
    """Every file with its time of change and its bytes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path, path.stat().st_mtime_ns, path.read_bytes()) for path in paths]


def test_a_finished_run_is_said_to_be_and_left_as_it_is(again, caplog):
    """Its data need not be there."""
    before = files_of(again.run)
    with caplog.at_level(logging.INFO):
        best = train.train(replace(again, packed=again.run / "nowhere"))
    assert files_of(again.run) == before
    first, second = (member.epoch for member in best)
    assert caplog.messages == [
        f"{again.run} is finished: 2 epochs trained, the best first: {first}, "
        f"{second}; these were all of --epochs; to train longer: xenon-train "
        f"{again.run}/nowhere {again.run} --resume --epochs 4"
    ]


def test_more_epochs_are_trained(again):
    train.train(replace(again, epochs=3))
    assert [row.epoch for row in Run.open(again.run).log()] == [1, 2, 3]


def test_a_plateau_at_the_lowest_rate_cannot_be_continued(trained, tmp_path, caplog):
    config = replace(
        trained, run=tmp_path / "run", min_delta=1e9, patience=1, min_lr=1e-4, epochs=9
    )
    train.train(config)
    with caplog.at_level(logging.INFO):
        train.train(replace(config, resume=True, epochs=99))
    assert caplog.messages[-1].endswith(
        "the validation loss reached a plateau at the lowest learning rate: to train "
        "longer, start a new run with a lower --min-lr or a higher --patience"
    )


def test_other_settings_are_refused_for_a_finished_run_too(again):
    with pytest.raises(XenonError, match="--lr was .* and is 0.5"):
        train.train(replace(again, lr=0.5))


@pytest.mark.parametrize(
    "name", ["log.csv", "best.json", "studies.json", "events.out.tfevents.*"]
)
def test_what_a_killed_process_did_not_come_to_write_is_written(again, name):
    (file,) = again.run.glob(name)
    file.unlink()
    assert ending(Run.open(again.run), 2) is None
    train.train(again)
    assert ending(Run.open(again.run), 2)


def test_a_log_that_lacks_the_last_epoch_is_written(again):
    log = again.run / "log.csv"
    whole = log.read_bytes()
    log.write_bytes(whole[: whole.rindex(b"\n2,") + 1])
    train.train(again)
    assert log.read_bytes() == whole


def test_a_damaged_checkpoint_of_a_finished_run_is_refused(again):
    (file, *_) = (again.run / "params").iterdir()
    file.write_bytes(b"")
    with pytest.raises(XenonError, match=f"{file.name}: damaged"):
        train.train(again)
