"""Arguments that were swapped or taken for others are told in one clear line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import xenon_mx as xenon
from xenon_mx import arguments
from xenon_mx.commands import export, pack, predict, recognition, report, train
from xenon_mx.commands.recognition import Kind
from xenon_mx.config import (
    ExportConfig,
    PackConfig,
    PredictConfig,
    ReportConfig,
    TrainConfig,
)
from xenon_mx.errors import XenonError

TABLE = "study,study_type,images,probability,prediction,label\n"
FILES = {
    "MURA/train_image_paths.csv": "MURA-v1.1/train/XR_HAND/patient1/study1/a.png\n",
    "own/train/XR_HAND/patient1/study1_positive/a.png": "",
    "own/notes.txt": "",
    "films/a.png": "",
    "packed/pack.json": "{}",
    "packed/train.rec": "",
    "packed/valid.rec": "",
    "packed/valid.lst": "",
    "run/run.json": "{}",
    "run/params/net-0001.params": "",
    "run/last/net-0001.params": "",
    "net.onnx": "",
    "other.pth": "",
    "out.csv": TABLE,
    "of other;program.csv": "study;probability\n",
    "images.csv": "image,study,study_type,probability,prediction,label,member_1\n",
    "paths.csv": "MURA-v1.1/train/XR_HAND/patient1/study1/a.png\n",
    "studies.csv": "label,image\n",
    "image.dcm": "",
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("MURA", Kind.DATA_SET),
        ("own", Kind.DATA_SET),
        ("films", Kind.FOLDER),
        ("empty", Kind.EMPTY),
        ("packed", Kind.PACKED),
        ("packed/train.rec", Kind.RECORDS),
        ("run", Kind.RUN),
        ("run/params/net-0001.params", Kind.WEIGHTS),
        ("other.pth", Kind.WEIGHTS),
        ("net.onnx", Kind.ONNX),
        ("out.csv", Kind.TABLE),
        ("of other;program.csv", Kind.TABLE),
        ("paths.csv", Kind.LIST),
        ("studies.csv", Kind.LIST),
        ("MURA/train_image_paths.csv", Kind.LIST),
        ("image.dcm", Kind.FILE),
        ("nowhere", Kind.NOTHING),
        ("a" * 300, Kind.NOTHING),
    ],
)
def test_what_a_path_is(path, kind):
    assert recognition.what_is(Path(path)) is kind


def call_pack(source, out):
    pack.pack(PackConfig(source, out))


def call_train(packed, run):
    train.train(TrainConfig(packed, run, model="mobilenet0.25", no_pretrained=True))


def call_resume(packed, run):
    arguments.with_recorded({"packed": packed, "run": run}, ())


def call_predict(given, out, run):
    predict.predict(PredictConfig((given,), out, (run,)))


def call_export(run):
    export.export(ExportConfig((run,), "new.onnx"))


def call_report(run, predictions=None, **more):
    report.report(ReportConfig(run, predictions, **more))


def call_report_against(table, against):
    call_report(table, against=against)


def call_report_with_readers(table, readers):
    call_report(table, readers=readers)


def call_load(run):
    xenon.load(run)


SWAPPED = [
    (call_pack, ("new", "MURA"), "xenon-pack MURA new"),
    (call_pack, ("empty", "own"), "xenon-pack own empty"),
    (call_pack, ("packed", "own"), "xenon-pack own packed"),
    (call_pack, ("new", "studies.csv"), "xenon-pack studies.csv new"),
    (call_pack, ("new", "films"), "xenon-pack films new"),
    (call_train, ("new", "packed"), "xenon-train packed new"),
    (call_train, ("run", "packed"), "xenon-train packed run"),
    (call_resume, ("run", "packed"), "xenon-train packed run"),
    (call_predict, ("out.csv", "own", "run"), "xenon-predict own out.csv --run run"),
    (
        call_predict,
        ("new.csv", "paths.csv", "run"),
        "xenon-predict paths.csv new.csv --run run",
    ),
    (
        call_predict,
        ("new.csv", "image.dcm", "net.onnx"),
        "xenon-predict image.dcm new.csv --run net.onnx",
    ),
]


@pytest.mark.parametrize(("call", "given", "meant"), SWAPPED)
def test_swapped_arguments_are_answered_with_the_command_that_was_meant(
    call, given, meant
):
    before = sorted(os.listdir())
    with pytest.raises(XenonError) as caught:
        call(*given)
    assert str(caught.value).startswith(f"{given[0]}: ")
    assert str(caught.value).endswith(f"; did you mean: {meant}")
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir()) == before


RUN_ADVICE = "give the whole run: run"
TAKEN = [
    (call_pack, ("packed", "new"), "is a packed folder .*: xenon-train packed RUN"),
    (call_pack, ("run", "new"), "is a run of xenon-train, not a data set"),
    (call_pack, ("packed/train.rec", "new"), "is a file of a packed folder"),
    (call_pack, ("out.csv", "new"), "is a table of predictions, not a data set"),
    (call_pack, ("own", "run"), "run: is a run of .*: name another folder for OUT"),
    (call_train, ("run", "new"), "is a run of xenon-train, not a packed folder"),
    (call_train, ("packed/train.rec", "new"), "the folder: xenon-train packed new"),
    (call_train, ("own", "new"), "pack it first: xenon-pack own OUT"),
    (call_train, ("studies.csv", "new"), "pack it first: xenon-pack studies.csv OUT"),
    (call_train, ("net.onnx", "new"), "is an ONNX file, not a packed folder"),
    (call_predict, ("packed", "o.csv", "run"), "packed/valid.rec o.csv --run run"),
    (call_predict, ("packed/valid.lst", "o.csv", "run"), "give packed/valid.rec"),
    (call_predict, ("run", "o.csv", "run"), "name the run with --run"),
    (call_predict, ("net.onnx", "o.csv", "run"), "is an ONNX file, not radiographs"),
    (call_predict, ("out.csv", "o.csv", "run"), "is a table of predictions, not rad"),
    (call_predict, ("own", "o.csv", "run/params/net-0001.params"), RUN_ADVICE),
    (call_predict, ("own", "o.csv", "run/params"), RUN_ADVICE),
    (call_predict, ("own", "o.csv", "other.pth"), "is a weight file, not a run"),
    (call_predict, ("own", "o.csv", "packed"), "is a packed folder .*, not a run"),
    (call_predict, ("own", "o.csv", "out.csv"), "is a table of .*, not a run"),
    (call_load, ("run/last/net-0001.params",), RUN_ADVICE),
    (call_load, ("packed",), "is a packed folder of xenon-pack, not a run"),
    (call_export, ("net.onnx",), "net.onnx: is an ONNX file, not a run"),
    (call_export, ("run/params/net-0001.params",), RUN_ADVICE),
    (call_report, ("run/params/net-0001.params",), RUN_ADVICE),
    (call_report, ("packed",), "is a packed folder .*, not a run or a table"),
    (call_report, ("run", "own"), "own: is a data set, not a run or a table"),
    (
        call_report,
        ("out.csv", "of other;program.csv"),
        "are two tables of predictions; did you mean: xenon-report out.csv --against "
        "'of other;program.csv'",
    ),
    (
        call_report,
        ("out.csv", "images.csv"),
        "are two tables of predictions; did you mean: xenon-report out.csv --images "
        "images.csv",
    ),
    (
        call_report_against,
        ("out.csv", "run"),
        "run: is a run of xenon-train, not a table of predictions; predict with it "
        "first: xenon-predict INPUT OUT.csv --run run",
    ),
    (
        call_report_with_readers,
        ("out.csv", "of other;program.csv"),
        "is a table of predictions, not a file of readers; compare two tables with "
        "--against",
    ),
]


@pytest.mark.parametrize(("call", "given", "message"), TAKEN)
def test_what_was_taken_for_something_else_is_named(call, given, message):
    before = sorted(os.listdir())
    with pytest.raises(XenonError, match=message) as caught:
        call(*given)
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir()) == before
