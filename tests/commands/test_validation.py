"""The end of xenon-train: RUN/validation.csv, and when it is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import synthetic
from support import patients, processes
from support.runs import train_config

import xenon_mx as xenon
from xenon_mx.commands import predict, train, validation
from xenon_mx.config import PredictConfig
from xenon_mx.errors import XenonError
from xenon_mx.evaluation import provenance
from xenon_mx.runs.run_folder import Run

config = partial(train_config, lr=1e-3, epochs=2)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A packed folder whose checkpoints are chosen on the holdout split."""
    splits = {
        name: synthetic.labelled(count, seed=count)
        for name, count in (("train", 20), ("valid", 8), ("holdout", 12))
    }
    return synthetic.pack(tmp_path_factory.mktemp("end") / "packed", splits)


@pytest.fixture(scope="module")
def run(packed, tmp_path_factory):
    """A finished run, as xenon.train leaves it."""
    folder = tmp_path_factory.mktemp("end") / "run"
    settings = {"model": "mobilenet0.25", "no_pretrained": True, "ctx": "cpu()"}
    xenon.train(packed, folder, epochs=2, progress=False, **settings)
    return folder


def program(name):
    return str(Path(sys.executable).with_name(f"xenon-{name}"))


def test_the_table_is_that_of_xenon_predict_to_the_last_digit(packed, run, tmp_path):
    out = tmp_path / "out.csv"
    rec = packed.folder / "holdout.rec"
    command = [program("predict"), str(rec), str(out), "--run", str(run)]
    subprocess.run([*command, "--ctx=cpu()"], check=True, capture_output=True)
    assert out.read_bytes() == (run / "validation.csv").read_bytes()
    ours, theirs = (
        provenance.read(file).provenance for file in (run / "validation.csv", out)
    )
    assert ours.ensemble.sums() == theirs.ensemble.sums()
    assert ours.seen.validated == len(out.read_text().splitlines()) - 1


def test_it_is_written_once_and_again_when_the_members_change(packed, run, tmp_path):
    moved = tmp_path / "run"
    os.rename(run, moved)
    try:
        table = moved / "validation.csv"
        before = table.stat().st_mtime_ns
        validation.predict_if_due(config(packed, moved))
        assert table.stat().st_mtime_ns == before
        train.train(config(packed, moved, lr=1e-4, epochs=3, resume=True))
        validation.predict_if_due(config(packed, moved, epochs=3))
        named = provenance.read(table).provenance.ensemble.sums()
        assert named == sorted(member.sha256 for member in Run.open(moved).members())
        assert len(named) == 3
    finally:
        os.rename(moved, run)


def test_a_table_that_the_user_changed_is_not_lost(packed, tmp_path):
    folder = tmp_path / "run"
    train.train(config(packed, folder, epochs=1))
    (folder / "validation.csv").write_text("my notes\n")
    with pytest.raises(XenonError, match=r"validation.csv: would be replaced"):
        train.train(config(packed, folder, resume=True))
    assert (folder / "validation.csv").read_text() == "my notes\n"


def test_a_failure_leaves_the_run_and_says_how_to_try_again(packed, tmp_path):
    folder = tmp_path / "run"
    train.train(config(packed, folder, epochs=1))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "validation.csv").mkdir()
    with pytest.raises(XenonError, match="the run itself is complete") as caught:
        validation.predict_if_due(config(packed, folder))
    assert str(caught.value).endswith(f"xenon-train {packed.folder} {folder} --resume")
    assert any("is a folder" in line for line in caught.value.details)
    assert all(path.read_bytes() == data for path, data in before.items())


def test_interrupted_in_the_prediction_resume_does_just_that(packed, tmp_path):
    folder = tmp_path / "run"
    command = [program("train"), str(packed.folder), str(folder)]
    flags = "--model mobilenet0.25 --no-pretrained --ctx cpu() --epochs 1".split()
    with subprocess.Popen(
        [*command, *flags], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        for line in process.stderr:
            if line.startswith("predicting "):
                break
        processes.wait_for(lambda: processes.left_over("validation.csv"))
        os.killpg(process.pid, signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert f"xenon-train {packed.folder} {folder} --resume" in said
    assert said.splitlines()[-1] == "interrupted"
    assert not processes.left_over(str(folder))
    assert not (folder / "validation.csv").exists()
    log = (folder / "log.csv").read_bytes()
    done = subprocess.run(
        [*command, "--resume"], stderr=subprocess.PIPE, text=True, check=True
    )
    assert (folder / "validation.csv").is_file()
    assert (folder / "log.csv").read_bytes() == log
    rec = packed.folder / "valid.rec"
    assert f"next: xenon-predict {rec} valid.csv --run {folder}\n" in done.stderr
    assert "overall" in done.stderr


def test_valid_is_untouched_if_it_did_not_choose_the_runs_checkpoints(
    packed, run, tmp_path
):
    rec = packed.folder / "valid.rec"
    assert validation.untouched_rec(packed.folder, run) == rec
    splits = {"train": synthetic.labelled(8), "valid": synthetic.labelled(4, seed=1)}
    other = synthetic.pack(tmp_path / "packed", splits)
    train.train(config(other, tmp_path / "run", epochs=1))
    assert validation.untouched_rec(other.folder, tmp_path / "run") is None


def test_a_finished_run_is_resumed_with_its_own_data_alone(packed, run, tmp_path):
    splits = {"train": synthetic.labelled(8), "valid": synthetic.labelled(4, seed=1)}
    other = synthetic.pack(tmp_path / "packed", splits)
    with pytest.raises(XenonError, match="holds other data"):
        train.train(config(other, run, lr=1e-4, resume=True))


def test_what_is_to_calibrate_on_is_read_by_no_training(tmp_path):
    packed = patients.pack_manifest(tmp_path)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for file in packed.folder.glob("calibration.*"):
        os.rename(file, hidden / file.name)
    train.train(config(packed, tmp_path / "run", epochs=1))
    validation.predict_if_due(config(packed, tmp_path / "run", epochs=1))
    for file in hidden.iterdir():
        os.rename(file, packed.folder / file.name)
    rec, out = packed.folder / "calibration.rec", tmp_path / "out.csv"
    predict.predict(PredictConfig((rec,), out, (tmp_path / "run",), ctx="cpu()"))
    seen = provenance.read(out).provenance.seen
    assert (seen.basis, seen.is_any) == ("records", False)
    recorded = Run.open(tmp_path / "run").seen_studies()
    assert not recorded.count(packed.split("calibration").listed()).is_any


def test_a_run_folder_may_hold_it_and_be_read(run):
    """No command takes the table for a file of the run that must not be replaced."""
    names = {path.name for path in Run.open(run).contents()}
    assert "run.json" in names
    assert not {name for name in names if name.startswith("validation")}
    record = json.loads((run / "validation.csv.json").read_text())
    assert record["provenance"]["ensemble"]["runs"][0]["path"] == "."
