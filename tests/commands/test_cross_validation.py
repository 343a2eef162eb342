"""xenon-train --folds: what is trained, predicted, left behind, resumed and refused."""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support import patients
from support.runs import train_config

import xenon_mx as xenon
from xenon_mx import cli
from xenon_mx.commands import cross_validation, export, predict, train, validation
from xenon_mx.commands import report as reporting
from xenon_mx.config import ExportConfig, PredictConfig, ReportConfig
from xenon_mx.data import fold_packing, single_classes
from xenon_mx.data.pack_meta import TypeCounts
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.evaluation import provenance
from xenon_mx.inference import onnx_ensemble
from xenon_mx.runs import folds_folder
from xenon_mx.runs.run_folder import Run
from xenon_mx.runtime import files

config = partial(train_config, lr=1e-3, epochs=1, folds=2)


def within(command, is_silent):
    """Run the process of a prediction within this one, as `validation._run` does."""
    assert command[:3] == [sys.executable, "-m", "xenon_mx"]
    cli.COMMANDS[command[3]].main(command[4:], standalone_mode=False)
    return 0, []


@pytest.fixture
def quick(monkeypatch):
    """Predictions without processes of their own."""
    monkeypatch.setattr(validation, "_run", within)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return patients.pack_manifest(tmp_path_factory.mktemp("folds"))


@pytest.fixture(scope="module")
def runs(packed, tmp_path_factory):
    """Folds as xenon-train leaves them: in processes, as a user starts them."""
    folder = tmp_path_factory.mktemp("folds") / "runs"
    program = str(Path(sys.executable).with_name("xenon-train"))
    flags = "--model mobilenet0.25 --no-pretrained --ctx cpu() --epochs 2 --lr 1e-3"
    done = subprocess.run(
        [program, packed.folder, folder, *flags.split(), "--folds", "2"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    (folder.parent / "said").write_text(done.stderr)
    return folder


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def snapshot(folder):
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def ask(out, given, *run, **options):
    return predict.predict(PredictConfig((given,), out, run, ctx="cpu()", **options))


# --- what it leaves ---


def test_each_study_is_predicted_once_by_the_run_that_left_its_patient_out(
    packed, runs
):
    rows = read(runs / "out-of-fold.csv")
    assert list(rows[0])[-3:] == ["patient", "scanner", "fold"]
    listed = packed.split("train").listed()
    assert sorted(row["study"] for row in rows) == sorted({i.study for i in listed})
    folds: dict[str, set[str]] = {}
    for row in rows:
        folds.setdefault(row["patient"], set()).add(row["fold"])
    assert all(len(each) == 1 for each in folds.values())
    assert {fold for each in folds.values() for fold in each} == {"1", "2"}
    for number in ("1", "2"):
        run = runs / f"fold-{number}"
        own = [{k: v for k, v in r.items() if k != "fold"} for r in rows]
        own = [o for o, row in zip(own, rows) if row["fold"] == number]
        assert own == read(run / "left-out.csv")
        seen = Run.open(run).seen_studies()
        left_out = {row["study"] for row in own}
        assert not seen.count(i for i in listed if i.study in left_out).is_any
        others = seen.count(i for i in listed if i.study not in left_out)
        assert others.trained + others.validated == others.studies
        for name in ("valid", "calibration"):
            assert not seen.count(packed.split(name).listed()).is_any


def test_a_fold_is_a_run_like_any_other_and_its_data_are_gone(packed, runs):
    assert sorted(path.name for path in runs.iterdir()) == [
        *("fold-1", "fold-2", "folds.json"),
        *("out-of-fold.csv", "out-of-fold.csv.json"),
    ]
    meta = folds_folder.read(runs)
    assert meta.shared.data == packed.fingerprint
    assert meta.settings["folds"] == len(meta.runs) == 2
    for each in meta.runs:
        run = Run.open(runs / each.run)
        assert run.identity == each.identity
        assert "folds" not in run.meta.settings
        assert run.meta.validated_on.split == "holdout"
        assert len(run.log()) == len(run.members()) == 2
        assert not validation.is_due(run.folder)


def test_what_is_printed_are_the_metrics_of_the_table_and_what_is_next(runs):
    said = (runs.parent / "said").read_text().splitlines()
    table = runs / "out-of-fold.csv"
    *by_fold, overall = cross_validation.out_of_fold.metrics_by_fold(table, 2)
    heads = [n for n, line in enumerate(said) if line.startswith("fold  ")]
    assert len(heads) == 1
    rows = [line.split() for line in said[heads[0] + 1 :][:3]]
    for row, each in zip(rows, [*by_fold, overall]):
        assert row[:2] == [each.study_type, str(each.studies)]
    assert overall.studies == sum(each.studies for each in by_fold)
    written, report, other = said[-3:]
    assert written == f"written: {table}"
    assert report == f"next: xenon-report {table}"
    assert other.endswith(f"xenon-predict INPUT OUT.csv --run {table.parent}")
    assert any("copy of the records" in line for line in said)


def test_the_record_names_all_runs_and_says_how_they_were_used(packed, runs):
    found = provenance.read(runs / "out-of-fold.csv").provenance
    assert [run.path for run in found.ensemble.runs] == ["fold-1", "fold-2"]
    assert found.ensemble.is_out_of_fold
    sums = [m.sha256 for n in (1, 2) for m in Run.open(runs / f"fold-{n}").members()]
    assert found.ensemble.sums() == sorted(sums)
    assert [member.run for member in found.ensemble.members] == [0, 0, 1, 1]
    assert str(found.ensemble).startswith("2 runs of folds, each study by the one that")
    assert (found.seen.is_known, found.seen.is_any) == (True, False)
    assert "out of fold" in str(found.seen)
    assert (found.inputs.fingerprint, found.inputs.split) == (
        packed.fingerprint,
        "train",
    )
    assert found.counts.studies == len(read(runs / "out-of-fold.csv"))
    average = provenance.EnsembleSource(found.ensemble.runs, found.ensemble.members)
    assert not average.has_members_of(found.ensemble)


def test_the_report_says_what_predicted_and_has_the_folds_as_subgroups(runs, tmp_path):
    out = tmp_path / "report.html"
    reporting.report(ReportConfig(None, runs / "out-of-fold.csv", out))
    page = out.read_text()
    assert "2 runs of folds, each study by the one that left it out" in page
    assert "Each study was predicted by nets that neither trained on its patient" in (
        page
    )
    assert "by xenon-train" in page
    assert "was not found" not in page
    assert "fold-1" in page
    assert "fold-2" in page


def test_holdout_patients_are_folded_too(tmp_path, quick):
    packed = patients.pack_manifest(tmp_path, holdout=0.3)
    done = cross_validation.cross_validate(config(packed, tmp_path / "runs"))
    assert len(done.best) == 2
    both = [i for name in ("train", "holdout") for i in packed.split(name).listed()]
    studies = sorted(row["study"] for row in read(done.table))
    assert studies == sorted({image.study for image in both})
    with pytest.raises(XenonError, match="trained all folds but one"):
        ask(tmp_path / "x.csv", packed.folder / "holdout.rec", tmp_path / "runs")
    out = tmp_path / "report.html"
    reporting.report(ReportConfig(None, done.table, out))
    where = f"from train and holdout of the packed data {packed.fingerprint[:12]}"
    assert where in out.read_text()


# --- the average of the folds ---


def test_the_average_is_the_mean_of_the_best_of_each_fold(packed, runs, tmp_path):
    valid = packed.folder / "valid.rec"
    table = tmp_path / "all.csv"
    averaged = ask(table, valid, runs)
    single = [
        ask(tmp_path / f"{n}.csv", valid, runs / f"fold-{n}", members=1).members
        for n in (1, 2)
    ]
    assert averaged.members.shape[1] == 2
    assert np.allclose(averaged.members, np.concatenate(single, axis=1), atol=1e-6)
    means = [
        np.mean([float(row["probability"]) for row in rows])
        for rows in zip(*(read(tmp_path / f"{n}.csv") for n in (1, 2)))
    ]
    found = [float(row["probability"]) for row in read(table)]
    assert found == pytest.approx(means, abs=1e-6)
    recorded = provenance.read(table).provenance
    assert [run.name for run in recorded.ensemble.runs] == ["fold-1", "fold-2"]
    assert not recorded.ensemble.is_out_of_fold
    assert str(recorded.seen).startswith("these images neither trained")
    assert recorded.command["members"] == 2
    out = tmp_path / "report.html"
    reporting.report(ReportConfig(None, table, out))
    assert "2 members of runs fold-1, fold-2" in out.read_text()


def test_members_are_counted_by_fold(packed, runs, tmp_path, caplog):
    valid = packed.folder / "calibration.rec"
    every = ask(tmp_path / "all.csv", valid, runs, members=2)
    assert list(every.losses)[::2] == [
        member.params for member in Run.open(runs / "fold-1").members()
    ]
    assert every.members.shape[1] == 4
    assert "fewer members" not in caplog.text
    more = ask(tmp_path / "more.csv", valid, runs, members=3)
    assert more.members.shape[1] == 4
    assert "fewer members than 6: a fold finished only 2 epochs" in caplog.text


def test_studies_of_training_patients_are_refused_by_records_and_by_names(
    packed, runs, tmp_path
):
    manifest = packed.folder.parent / "studies.csv"
    honest = "their honest predictions are in out-of-fold.csv of the folds"
    by_records = f" are of patients that trained all folds but one: {honest}$"
    with pytest.raises(XenonError, match=by_records):  # and no way round it
        ask(tmp_path / "x.csv", packed.folder / "train.rec", runs)
    by_names = f" are, by their names, of patients .*: {honest}; if only the names are"
    with pytest.raises(XenonError, match=by_names):
        ask(tmp_path / "x.csv", manifest, runs)
    with pytest.raises(XenonError, match="trained all folds but one"):
        xenon.load(runs).predict(manifest)
    assert not (tmp_path / "x.csv").exists()
    # One patient suffices, whose other study is new.
    rows = manifest.read_text().splitlines()
    other = [rows[0], rows[1].replace("S0.0", "new")]
    (manifest.parent / "one.csv").write_text("\n".join(other) + "\n")
    with pytest.raises(XenonError, match="^1 of 1 study"):
        ask(tmp_path / "x.csv", manifest.parent / "one.csv", runs)
    frame = xenon.load(runs, ctx="cpu()").predict(packed.folder / "valid.rec")
    assert len(frame)


def test_without_what_a_fold_has_seen_nothing_is_claimed(packed, runs, tmp_path):
    copy = shutil.copytree(runs, tmp_path / "runs")
    (copy / "fold-2" / "studies.json").unlink()
    image = packed.folder.parent / "images" / "0.png"
    with pytest.raises(XenonError, match="studies.json: is missing"):
        ask(tmp_path / "x.csv", image, copy)


def test_an_export_has_all_folds_and_refuses_the_same_records(packed, runs, tmp_path):
    onnx = tmp_path / "folds.onnx"
    assert export.export(ExportConfig((runs,), onnx, members=2)) == 4
    ensemble = onnx_ensemble.OnnxEnsemble(onnx, None)
    assert (ensemble.folds, len(ensemble.members)) == (2, 4)
    assert len(onnx_ensemble.OnnxEnsemble(onnx, 1).members) == 2
    valid = packed.folder / "valid.rec"
    exported = ask(tmp_path / "a.csv", valid, onnx, members=1)
    assert np.allclose(
        exported.members, ask(tmp_path / "b.csv", valid, runs).members, atol=1e-5
    )
    with pytest.raises(XenonError, match="trained all folds but one"):
        ask(tmp_path / "x.csv", packed.folder / "train.rec", onnx)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (("", "fold-1"), "folds are a whole ensemble"),
        (("fold-1", "fold-2"), "for the average of folds, name their folder: --run"),
    ],
)
def test_folds_are_named_by_their_folder_alone(packed, runs, tmp_path, named, message):
    with pytest.raises(XenonError, match=message):
        ask(tmp_path / "x.csv", packed.folder / "valid.rec", *(runs / n for n in named))


def test_another_run_in_the_place_of_a_fold_is_found(packed, runs, tmp_path):
    copy = shutil.copytree(runs, tmp_path / "runs")
    shutil.rmtree(copy / "fold-2")
    shutil.copytree(copy / "fold-1", copy / "fold-2")
    with pytest.raises(XenonError, match="fold-2: is another run than"):
        ask(tmp_path / "x.csv", packed.folder / "valid.rec", copy)
    shutil.rmtree(copy / "fold-2")
    with pytest.raises(XenonError, match="fold-2: no such folder"):
        ask(tmp_path / "x.csv", packed.folder / "valid.rec", copy)


# --- stopped and resumed ---


class Stopped(BaseException):
    """What stops the process, and no handler takes for an error."""


STAGES = {
    "while fold 1 is copied": (fold_packing, "_copy", 2),
    "before fold 1 is trained": (train, "train", 1),
    "while fold 2 is copied": (fold_packing, "_copy", 5),
    "before fold 2 is trained": (train, "train", 2),
    "before the tuning set of fold 1 is predicted": (validation, "predict_if_due", 1),
    "before the part left out of fold 2 is predicted": (validation, "_run", 4),
    "before fold 1 is noted": (folds_folder.FoldsFolder, "complete", 1),
    "while fold 1 is removed": (fold_packing, "remove", 1),
    "before the tables are joined": (cross_validation, "_join", 1),
}


@pytest.fixture(scope="module")
def whole(packed, tmp_path_factory):
    """The outcome of one epoch that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "runs"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(validation, "_run", within)
        cross_validation.cross_validate(config(packed, folder))
    return outcome(folder)


def outcome(runs):
    params = sorted(runs.glob("*/params/*.params"))
    sums = [files.sha256(path) for path in params]
    return sums, (runs / "out-of-fold.csv").read_bytes()


# The others show the same again, and take a while.
ORDINARY = (
    "before fold 1 is trained",
    "before the part left out of fold 2 is predicted",
    "while fold 1 is removed",
)


@pytest.mark.parametrize(
    "stage",
    [
        each if each in ORDINARY else pytest.param(each, marks=pytest.mark.slow)
        for each in STAGES
    ],
)
def test_stopped_anywhere_it_is_resumed_to_the_same_end(
    packed, whole, tmp_path, monkeypatch, quick, stage
):
    owner, name, when = STAGES[stage]
    original, calls = getattr(owner, name), []

    def stopping(*args, **options):
        calls.append(args)
        if len(calls) == when:
            raise Stopped
        return original(*args, **options)

    monkeypatch.setattr(owner, name, stopping)
    runs = tmp_path / "runs"
    with pytest.raises(Stopped):
        cross_validation.cross_validate(config(packed, runs))
    is_begun = any(runs.glob("fold-*/run.json"))
    assert is_begun == folds_folder.is_folds(runs)  # else nothing is left
    assert is_begun or not runs.exists() or name == "remove"
    if is_begun and stage != "before the tables are joined":
        with pytest.raises(XenonError, match="is not complete; continue with: "):
            ask(tmp_path / "x.csv", packed.folder / "valid.rec", runs)
    cross_validation.cross_validate(config(packed, runs, resume=is_begun))
    assert outcome(runs) == whole
    assert not list(runs.glob("packed-*"))


def test_finished_folds_are_left_as_they_are(packed, runs, quick, caplog):
    before = snapshot(runs)
    caplog.set_level("INFO")
    xenon.train(packed, runs, resume=True, progress=False)
    after = snapshot(runs)
    names = {Path(n) for n in ("folds.json", "out-of-fold.csv", "out-of-fold.csv.json")}
    assert {k: v for k, v in before.items() if k not in names} == {
        k: v for k, v in after.items() if k not in names
    }
    for name in names:
        assert before[name][1] == after[name][1]
    assert "fold 2 of 2 is finished" in caplog.text


@pytest.mark.slow
def test_more_epochs_train_all_folds_further(packed, tmp_path, quick):
    runs = tmp_path / "runs"
    first = cross_validation.cross_validate(config(packed, runs)).table.read_bytes()
    more = config(packed, runs, epochs=2, resume=True)
    second = cross_validation.cross_validate(more).table.read_bytes()
    assert [len(Run.open(runs / f"fold-{n}").log()) for n in (1, 2)] == [2, 2]
    assert first != second


def test_ctrl_c_prints_the_line_that_goes_on_and_the_line_works(
    packed, tmp_path, quick
):
    runs = tmp_path / "my runs"
    program = str(Path(sys.executable).with_name("xenon-train"))
    flags = "--model mobilenet0.25 --no-pretrained --ctx cpu() --epochs 1 --folds 2"
    with subprocess.Popen(
        [program, packed.folder, runs, *flags.split()],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        for line in process.stderr:
            if line.startswith("predicting "):
                break
        os.killpg(process.pid, signal.SIGINT)
        said = process.stderr.read().splitlines()
    assert process.returncode == 130
    (line,) = [each for each in said if "continue with: " in each]
    words = shlex.split(line.split("continue with: ")[1])
    assert words == ["xenon-train", str(packed.folder), str(runs), "--resume"]
    assert not (runs / "out-of-fold.csv").exists()
    assert xenon.train(*words[1:3], resume=True, progress=False)
    assert (runs / "out-of-fold.csv").is_file()


def test_only_one_process_trains_the_folds(packed, runs):
    with folds_folder.hold(runs, folds_folder.read(runs), is_new=False):
        with pytest.raises(XenonError, match="another process trains its folds"):
            cross_validation.cross_validate(config(packed, runs, epochs=2, resume=True))


# --- refused ---


@pytest.mark.parametrize(
    "change", [{"folds": 3}, {"seed": 1}, {"lr": 2e-3}, {"batch_size": 4}]
)
def test_other_settings_are_refused_by_their_flag(packed, runs, change):
    before = snapshot(runs)
    asked = config(packed, runs, **{"epochs": 2, "resume": True, **change})
    (flag,) = ("--" + name.replace("_", "-") for name in change)
    with pytest.raises(XenonError, match=f"other settings or data: {flag} was"):
        cross_validation.cross_validate(asked)
    assert snapshot(runs) == before


def test_other_data_are_refused(runs, tmp_path):
    other = patients.pack_manifest(tmp_path, size=48)
    with pytest.raises(XenonError, match="holds other data than"):
        cross_validation.cross_validate(config(other, runs, epochs=2, resume=True))


def test_a_table_that_the_user_changed_is_not_lost(packed, runs, tmp_path):
    copy = shutil.copytree(runs, tmp_path / "runs")
    (copy / "out-of-fold.csv").write_text("mine\n")
    with pytest.raises(XenonError, match="would be replaced at the end of training"):
        cross_validation.cross_validate(config(packed, copy, epochs=2, resume=True))
    assert (copy / "out-of-fold.csv").read_text() == "mine\n"


def test_folders_are_not_mistaken_for_one_another(packed, runs, tmp_path):
    single = partial(train_config, packed, epochs=1)
    with pytest.raises(XenonError, match="contains folds already"):
        train.train(single(runs))
    with pytest.raises(XenonError, match="contains folds already"):
        cross_validation.cross_validate(config(packed, runs))
    with pytest.raises(XenonError, match="is not empty; folds need a folder"):
        cross_validation.cross_validate(config(packed, runs / "fold-1"))
    with pytest.raises(XenonError, match="is a single run: resume it without --folds"):
        xenon.train(packed, runs / "fold-1", folds=2, resume=True)
    with pytest.raises(XenonError, match="holds no folds"):
        xenon.train(packed, tmp_path / "nothing", folds=2, resume=True)
    for run in (ReportConfig(runs, None),):
        with pytest.raises(XenonError, match=r"give its table: .*out-of-fold.csv"):
            reporting.report(run)


def test_several_workers_are_refused():
    with pytest.raises(ConfigError, match="--folds: contradicts --kvstore"):
        xenon.train("a", "b", folds=2, kvstore="dist_sync")


def test_a_fold_that_cannot_be_trained_is_refused_before_any_is(tmp_path):
    manifest = patients.write_manifest(tmp_path)
    text = manifest.read_text().replace("XR_WRIST", "XR_HAND")
    # One patient alone has a study type, with both classes: left out once, all go.
    text = text.replace("S5.0,P5,XR_HAND", "S5.0,P5,XR_FOOT")
    manifest.write_text(text.replace("S5.1,P5,XR_HAND", "S5.1,P5,XR_FOOT"))
    packed = patients.pack.pack(
        patients.PackConfig(manifest, tmp_path / "packed", size=32)
    )
    with pytest.raises(XenonError, match=r"without fold .: XR_FOOT: .*one class"):
        cross_validation.cross_validate(config(packed, tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_one_class_to_tune_a_fold_on_is_told_with_advice_for_folds(packed):
    of_fold = replace(packed.meta, holdout=None)
    one_class = replace(
        of_fold.splits["valid"],
        counts={"XR_WRIST": TypeCounts(2, 1, 0, 2, 0, 0)},
    )
    of_fold = replace(of_fold, splits={"holdout": one_class})
    assert single_classes.warning_of_split(of_fold, "holdout") == (
        "holdout holds 1 study, all normal: kappa and AUROC are undefined; use fewer "
        "--folds or another --seed"
    )


def test_a_column_of_that_name_is_refused(tmp_path):
    manifest = patients.write_manifest(tmp_path)
    manifest.write_text(manifest.read_text().replace("scanner", "fold"))
    packed = patients.pack.pack(
        patients.PackConfig(manifest, tmp_path / "packed", size=32)
    )
    with pytest.raises(XenonError, match="have a column 'fold' already"):
        cross_validation.cross_validate(config(packed, tmp_path / "runs"))


def test_a_disk_that_is_too_small_is_told_before_anything_is_copied(
    packed, tmp_path, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("", (), {"free": 1000}))
    with pytest.raises(XenonError, match="runs: the disk has 1 KB free, but "):
        cross_validation.cross_validate(config(packed, tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_a_start_that_fails_leaves_nothing(packed, tmp_path):
    start = {"no_pretrained": False, "pretrained": "no.params"}
    asked = config(packed, tmp_path / "runs", **start)
    with pytest.raises(XenonError, match=r"--pretrained no\.params"):
        cross_validation.cross_validate(asked)
    assert not (tmp_path / "runs").exists()
