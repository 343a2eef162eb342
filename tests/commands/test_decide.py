"""xenon-decide: which tables may decide, and what follows from a decision."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import synthetic
from click.testing import CliRunner
from support.predictions import predict_tables, read
from support.runs import train_config

import xenon_mx as xenon
from xenon_mx import cli, exit_status
from xenon_mx.commands import decide, export, predict, report, train, validation
from xenon_mx.config import (
    DecideConfig,
    ExportConfig,
    PredictConfig,
    ReportConfig,
)
from xenon_mx.data import output_records
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.evaluation import calibration, decision, provenance, sample_size
from xenon_mx.evaluation.evaluation_set import from_table
from xenon_mx.evaluation.prediction_tables import read_table
from xenon_mx.inference import onnx_metadata
from xenon_mx.runs import decision_file
from xenon_mx.runs.run_folder import Run


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A packed folder, a run of it, and the table of its valid split, untouched."""
    folder = tmp_path_factory.mktemp("decide")
    splits = {
        name: synthetic.labelled(count, seed=count)
        for name, count in (("train", 80), ("valid", 120), ("holdout", 24))
    }
    pixels = splits["valid"][0]
    for start in range(0, len(pixels), 32):  # of 16 studies, two look like the others
        pixels[start : start + 4] = pixels[start + np.array([1, 0, 3, 2])]
    packed = synthetic.pack(folder / "packed", splits)
    for name, seed in (("run", 0), ("other", 1)):
        train.train(train_config(packed, folder / name, lr=1e-2, epochs=3, seed=seed))
    _predict(folder, "valid.csv")
    return folder


def _predict(folder, name, split="valid", **options):
    """Predict a split with the run in a folder."""
    settings = {"runs": (folder / "run",), "ctx": "cpu()", **options}
    rec = folder / "packed" / f"{split}.rec"
    return predict.predict(PredictConfig((rec,), folder / name, **settings))


@pytest.fixture
def world(base, tmp_path):
    """A copy of it, without a decision."""
    folder = tmp_path / "world"
    shutil.copytree(base, folder)
    return folder


def _decide(world, **options):
    config = DecideConfig(world / "run", world / "valid.csv", **options)
    return decide.decide(config)


def _content(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- what is decided -----------------------------------------------------------------


def test_a_decision_is_one_file_and_the_run_is_else_as_it_was(world):
    before = _content(world / "run")
    made = _decide(world, sensitivity=0.7, refer=0.1)
    after = _content(world / "run")
    text = after.pop(Path("decision.json"))
    assert after == before
    assert decision_file.read(world / "run") == made
    content = json.loads(text, parse_constant=pytest.fail)
    assert content["written_by"] == "xenon-decide"
    assert content["decided_on"]["studies"] == content["decided_on"]["patients"] == 60
    assert b"patient" not in text.replace(b"patients", b"")


def test_its_numbers_are_those_of_the_table(world):
    made = _decide(world, sensitivity=0.7)
    rows = read(world / "valid.csv")
    labels = np.array([int(row["label"]) for row in rows])
    prob = np.array([float(row["probability"]) for row in rows])
    assert made.calibration == calibration.fit(labels, prob)
    assert made.before == calibration.quality(labels, prob)
    called = prob > made.threshold.value
    assert made.measures["sensitivity"].value == called[labels == 1].mean()
    assert made.measures["specificity"].value == 1 - called[labels == 0].mean()
    assert made.threshold.bound >= 0.7
    members = [member.sha256 for member in Run.open(world / "run").members()]
    assert made.is_of(members)


def test_without_a_flag_the_threshold_stays(world):
    made = _decide(world)
    assert (made.threshold.value, made.threshold.is_decided) == (0.5, False)
    assert made.referral is None
    assert set(made.decide(np.array([0.1, 0.9]))) == {"normal", "abnormal"}


def test_one_number_can_be_fitted_instead_of_two(world):
    assert _decide(world, temperature=True).calibration.intercept == 0
    assert _decide(world).calibration.intercept != 0


def test_the_best_kappa_promises_nothing(world):
    made = _decide(world, best="kappa")
    assert made.threshold.bound is None
    assert made.threshold.cross_fitted <= made.measures["kappa"].value


# --- which tables may decide ---------------------------------------------------------


def _rewritten(world, change):
    """Replace valid.csv by a table that xenon-predict might have written."""
    file = world / "valid.csv"
    rows = list(csv.reader(io.StringIO(file.read_text())))
    rows = change(rows)
    text = "".join(",".join(row) + "\n" for row in rows)
    _record(world, text.encode(), lambda found: found)


def _record(world, data, change):
    """Write valid.csv with its record, whose provenance is changed."""
    file = world / "valid.csv"
    content = change(provenance.read(file).provenance).to_json()
    record = output_records.BesideRecord()
    notes = {provenance.KEY: content}
    for path, written in record.add(file, data, "xenon-predict", "x", notes).items():
        path.write_bytes(written)


def _cells(column, value):
    """Return the change that sets a column of every row."""

    def change(rows):
        index = rows[0].index(column)
        for row in rows[1:]:
            row[index] = value(row)
        return rows

    return change


def _without_paths(rows):
    """Names that tell neither patient nor label."""
    for number, row in enumerate(rows[1:]):
        row[0] = f"study{number}"
    return rows


def _of_one_patient(rows):
    rows[0].append("patient")
    for number, row in enumerate(rows[1:]):
        row[0] = f"study{number}"
        row.append("one")
    return rows


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without_paths, "of 60 studies the patient is not known"),
        (_of_one_patient, "1 patient with an abnormal study, and a decision needs"),
        (_cells("probability", lambda row: "nan"), "is not a number from 0 to 1"),
        (lambda rows: rows[:1], "contains no predictions"),
        (
            lambda rows: [r for r in rows if "_negative" not in r[0]],
            "0 patients with a normal study",
        ),
        (
            lambda rows: [r for r in rows if "_positive" not in r[0]],
            "0 patients with an abnormal study",
        ),
    ],
)
def test_what_cannot_decide_gets_one_clear_line(world, change, words):
    _rewritten(world, change)
    with pytest.raises(XenonError, match=words):
        _decide(world)
    assert not (world / "run" / "decision.json").exists()


def test_studies_without_labels_cannot_decide(world):
    def unlabel(rows):
        rows[0].append("patient")
        index = rows[0].index("label")
        for number, row in enumerate(rows[1:]):
            row[0], row[index] = f"study{number}", ""
            row.append(str(number))
        return rows

    _rewritten(world, unlabel)
    with pytest.raises(XenonError, match="no label in 60 of 60 rows: .* --labels, or"):
        _decide(world)


def test_probabilities_in_the_wrong_order_cannot_be_calibrated(world):
    _rewritten(world, _cells("probability", lambda row: str(1 - float(row[3]))))
    with pytest.raises(XenonError, match="no calibration"):
        _decide(world)


def test_a_table_without_its_record_cannot_decide(world):
    (world / "valid.csv.json").unlink()
    with pytest.raises(XenonError, match="there is no valid.csv.json beside"):
        _decide(world)


def test_a_table_that_was_changed_cannot_decide(world):
    with open(world / "valid.csv", "a") as file:
        file.write("\n")
    with pytest.raises(XenonError, match="was changed since"):
        _decide(world)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (
            {"basis": "unknown"},
            "it is not known whether its studies trained the nets; decide on others, "
            "such as calibration.rec, predicted with the run itself$",
        ),
        (
            {"basis": "names", "trained": 1, "patients": 2},
            "by name, 3 of 60 studies are of patients that trained the nets or chose "
            "the checkpoints; decide on others, such as calibration.rec$",
        ),
    ],
)
def test_studies_that_were_seen_or_may_have_been_cannot_decide(world, seen, words):
    data = (world / "valid.csv").read_bytes()
    _record(world, data, lambda found: replace(found, seen=replace(found.seen, **seen)))
    with pytest.raises(XenonError, match=words):
        _decide(world)


@pytest.mark.parametrize(
    ("split", "words"),
    [("holdout", "chose the checkpoints"), ("train", "trained the nets")],
)
def test_the_splits_of_training_cannot_decide(world, split, words):
    _predict(world, "valid.csv", split, overwrite=True)
    with pytest.raises(XenonError) as caught:
        _decide(world)
    assert str(caught.value) == (
        f"{world / 'valid.csv'}: cannot decide: its studies {words}; decide on others, "
        f"such as calibration.rec"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"members": 2}, "uses 3 members of run run"),
        ({"runs": ("other",)}, "predicted by 3 members of run other"),
        ({"runs": ("run", "other")}, "predicted by 5 members of runs run, other"),
    ],
)
def test_tables_of_other_members_cannot_decide(world, options, words):
    names = options.get("runs", ("run",))
    options = {**options, "runs": tuple(world / name for name in names)}
    _predict(world, "valid.csv", overwrite=True, **options)
    with pytest.raises(XenonError, match=words):
        _decide(world)


def test_a_table_of_images_cannot_decide(world):
    _predict(world, "x.csv", images=world / "images.csv")
    with pytest.raises(XenonError, match="is a table of images"):
        decide.decide(DecideConfig(world / "run", world / "images.csv"))


@pytest.mark.parametrize(
    ("run", "table", "words"),
    [
        ("valid.csv", "run", "did you mean: xenon-decide .*run .*valid.csv"),
        ("packed", "valid.csv", "is a packed folder"),
        ("run", "packed/valid.rec", "make one: xenon-predict .*valid.rec TABLE.csv"),
        ("run", "run", "make one: xenon-predict INPUT TABLE.csv"),
        ("run", "none.csv", "none.csv: No such file"),
        ("none", "valid.csv", "none: no such folder; make a run"),
    ],
)
def test_arguments_that_are_something_else(world, run, table, words):
    with pytest.raises(XenonError, match=words):
        decide.decide(DecideConfig(world / run, world / table))


def test_folds_and_onnx_files_cannot_be_decided_on(world):
    (world / "folds").mkdir()
    (world / "folds" / "folds.json").write_text("{}")
    (world / "run.onnx").write_bytes(b"")
    for name, words in (
        ("folds", "is a cross-validation .* a decision is about one run"),
        ("run.onnx", "decide on the run that it was exported from"),
    ):
        with pytest.raises(XenonError, match=words):
            decide.decide(DecideConfig(world / name, world / "valid.csv"))


def test_a_promise_that_needs_more_patients_writes_nothing(world):
    for options, words in (
        ({"sensitivity": 0.95}, "about 59 patients with an abnormal .* there are 30"),
        ({"specificity": 0.95}, "about 59 patients with a normal .* there are 30"),
        ({"refer": 0.02}, "at least 49 patients with an abnormal .* there are 30"),
    ):
        with pytest.raises(XenonError, match=words):
            _decide(world, **options)
    assert not (world / "run" / "decision.json").exists()


@pytest.mark.parametrize(
    ("flag", "options"),
    [
        ("--sensitivity", {"sensitivity": 0.4}),
        ("--sensitivity", {"sensitivity": 1.0}),
        ("--sensitivity", {"sensitivity": float("nan")}),
        ("--specificity", {"specificity": 95}),
        ("--specificity", {"sensitivity": 0.9, "specificity": 0.9}),
        ("--best", {"best": "kappa", "sensitivity": 0.9}),
        ("--best", {"best": "AUROC"}),
        ("--refer", {"refer": 0.0}),
        ("--refer", {"refer": 0.6}),
    ],
)
def test_a_setting_out_of_range_is_refused_by_its_flag(flag, options):
    with pytest.raises(ConfigError) as caught:
        DecideConfig(Path("a"), Path("b"), **options)
    assert caught.value.flag == flag


# --- what may be replaced ------------------------------------------------------------


def test_its_own_decision_is_replaced(world):
    _decide(world)
    _decide(world, sensitivity=0.7)
    assert decision_file.read(world / "run").threshold.target == 0.7


def test_what_somebody_changed_is_replaced_only_if_told(world):
    _decide(world)
    file = world / "run" / "decision.json"
    file.write_text(file.read_text().replace('"value": 0.5', '"value": 0.4'))
    with pytest.raises(XenonError, match="was changed since .* move it to another"):
        _decide(world)
    _decide(world, overwrite=True)
    assert decision_file.read(world / "run").threshold.value == 0.5


@pytest.mark.parametrize("text", ["hello", "[]", "{}", '{"written_by": "me"}'])
def test_another_programs_file_is_replaced_only_if_told(world, text):
    file = world / "run" / "decision.json"
    file.write_text(text)
    with pytest.raises(XenonError, match="not written by xenon-decide"):
        _decide(world)
    assert file.read_text() == text
    _decide(world, overwrite=True)


def test_the_decision_of_another_run_is_not_replaced(world):
    _decide(world)
    shutil.copy(world / "run" / "decision.json", world / "other" / "decision.json")
    _predict(world, "other.csv", runs=(world / "other",), threshold=0.5)
    config = DecideConfig(world / "other", world / "other.csv")
    with pytest.raises(XenonError, match="made from other inputs or another run"):
        decide.decide(config)


# --- what xenon-predict makes of it --------------------------------------------------


def test_the_columns_follow_from_the_decision(world):
    made = _decide(world, sensitivity=0.7, refer=0.1)
    result = _predict(world, "out.csv", images=world / "images.csv")
    before, rows = read(world / "valid.csv"), read(world / "out.csv")
    assert [*rows[0]] == [*before[0], "calibrated", "decision"]
    prob = np.array([float(row["probability"]) for row in rows])
    called = (prob > made.threshold.value).astype(int)
    assert [row["prediction"] for row in rows] == [*map(str, called)]
    for row, answer, calibrated in zip(rows, made.decide(prob), made.calibrate(prob)):
        assert row["decision"] == answer
        assert float(row["calibrated"]) == pytest.approx(calibrated, rel=1e-8)
    assert len({row["decision"] for row in rows}) == 3
    assert result.threshold == made.threshold.value
    assert result.count_decisions() == made.answers
    assert "decision" not in read(world / "images.csv")[0]
    found = provenance.read(world / "out.csv").provenance
    assert found.threshold == made.threshold.value == found.command["threshold"]
    assert found.decision.threshold == made.threshold
    assert not found.decision.is_overruled
    assert found.decision.studies == 60  # the very studies that decided


def test_without_a_decision_nothing_changes(world):
    """Not a byte but the time: the table, its record, and the ONNX file."""
    _predict(world, "out.csv")
    assert (world / "out.csv").read_bytes() == (world / "valid.csv").read_bytes()
    content = json.loads((world / "out.csv.json").read_text())["provenance"]
    assert "decision" not in content
    assert content["threshold"] == content["command"]["threshold"] == 0.5


def test_a_set_that_is_used_twice_is_told(world, caplog):
    _decide(world, sensitivity=0.7)
    _predict(world, "out.csv")
    assert "60 studies are, by name, among those on which calibration" in caplog.text
    caplog.clear()
    predict_tables(world, [_manifest(world, "label")], [world / "run"])
    assert "by name" not in caplog.text
    found = provenance.read(world / "out.csv").provenance.decision
    assert (found.studies, found.patients, found.is_used_twice) == (0, 0, False)


def _manifest(world, column):
    """Write two images and a manifest with one more column."""
    pixels, _ = synthetic.labelled(2)
    for number, image in enumerate(pixels):
        cv2.imwrite(str(world / f"{number}.png"), image)
    file = world / "own.csv"
    file.write_text(f"image,patient,{column}\n0.png,a,0\n1.png,b,1\n")
    return file


def test_a_threshold_overrules_the_prediction(world):
    made = _decide(world, sensitivity=0.7)
    _predict(world, "out.csv", threshold=0.9)
    for row in read(world / "out.csv"):
        assert row["prediction"] == str(int(float(row["probability"]) > 0.9))
        is_above = float(row["probability"]) > made.threshold.value
        assert row["decision"] == ("abnormal" if is_above else "normal")
    found = provenance.read(world / "out.csv").provenance
    assert found.threshold == 0.9
    assert "given, instead of" in str(found.decision)


def test_the_submission_follows_the_decided_threshold(world):
    made = _decide(world, sensitivity=0.7)
    _predict(world, "submission.csv", submission=True)
    rows = list(csv.reader(io.StringIO((world / "submission.csv").read_text())))
    prob = [float(row["probability"]) for row in read(world / "valid.csv")]
    assert [row[1:] for row in rows] == [
        [str(int(value > made.threshold.value))] for value in prob
    ]


def test_a_decision_about_other_members_is_an_error(world, caplog):
    _decide(world, sensitivity=0.7)
    with pytest.raises(XenonError, match="decided for other members than 2 members"):
        _predict(world, "out.csv", members=2)
    assert not (world / "out.csv").exists()
    _predict(world, "out.csv", members=2, threshold=0.4)
    assert "not used" in caplog.text
    assert "decision" not in read(world / "out.csv")[0]


def test_members_that_were_not_decided_on_are_to_be_left_out(world):
    _decide(world)
    reason = "run/decision.json: was decided for other members than 2 members of .*: "
    remedy = "leave --members out, or "
    with pytest.raises(XenonError, match=f"{reason}{remedy}give --threshold$"):
        _predict(world, "out.csv", members=2)
    with pytest.raises(XenonError, match=f"{reason}{remedy}move the file to another"):
        export.export(ExportConfig((world / "run",), world / "a.onnx", members=2))


def test_a_decision_that_was_changed_is_an_error(world, caplog):
    _decide(world)
    file = world / "run" / "decision.json"
    file.write_text(file.read_text().replace('"value": 0.5', '"value": 0.4'))
    with pytest.raises(XenonError, match="is not as xenon-decide wrote it"):
        _predict(world, "out.csv")
    _predict(world, "out.csv", threshold=0.5)
    assert "is not as xenon-decide wrote it" in caplog.text
    assert (world / "out.csv").read_bytes() == (world / "valid.csv").read_bytes()


def test_several_runs_use_no_decision(world, caplog):
    _decide(world, sensitivity=0.7)
    caplog.set_level("INFO")
    _predict(world, "out.csv", runs=(world / "run", world / "other"))
    assert caplog.text.count("it is about one run, and these are several") == 1
    assert "decision" not in read(world / "out.csv")[0]
    assert provenance.read(world / "out.csv").provenance.threshold == 0.5


def test_a_manifests_own_column_is_not_doubled(world):
    arguments = (world, [_manifest(world, "decision")], [world / "run"])
    before, _, _ = predict_tables(*arguments)
    assert [row["decision"] for row in before] == ["0", "1"]
    _decide(world)
    with pytest.raises(XenonError, match="the manifest has a column decision"):
        predict_tables(*arguments)


def test_training_on_leaves_the_decision_alone_and_ends_well(world):
    """The members change: the decision is then about others, and training says so."""
    _decide(world, sensitivity=0.7)
    file = world / "run" / "decision.json"
    before = file.read_bytes()
    packed = world / "packed"
    settings = train_config(type("P", (), {"folder": packed}), world / "run")
    settings = replace(settings, lr=1e-2, epochs=4, resume=True)
    train.train(settings)
    validation.predict_if_due(settings)
    assert file.read_bytes() == before
    assert "decision" not in read(world / "run" / "validation.csv")[0]
    remedy = "labelled studies with --threshold 0.5, and .* xenon-decide; or "
    with pytest.raises(XenonError, match=f"{remedy}give --threshold$"):
        _predict(world, "out.csv")
    with pytest.raises(XenonError, match=f"{remedy}move the file to another folder$"):
        export.export(ExportConfig((world / "run",), world / "a.onnx"))
    anew = "uses 4 members .*: predict these .* without --members and with --threshold"
    with pytest.raises(XenonError, match=f"{anew} 0.5$"):
        _decide(world)
    _predict(world, "valid.csv", threshold=0.5, overwrite=True)  # as both errors say
    _decide(world, sensitivity=0.7)
    _predict(world, "out.csv")


def test_a_damaged_decision_does_not_stop_the_table_that_replaces_it(world):
    _predict(world, "valid.csv", members=2, overwrite=True)
    with pytest.raises(XenonError, match="without --members$"):
        _decide(world)
    (world / "run" / "decision.json").write_text("{}")
    with pytest.raises(XenonError, match="without --members and with --threshold 0.5$"):
        _decide(world, overwrite=True)


def test_no_output_may_replace_the_decision(world):
    _decide(world)
    run = Run.open(world / "run")
    assert world / "run" / "decision.json" in run.contents()


# --- the ONNX file, the report, the library, the command line ------------------------


def test_the_onnx_file_carries_the_decision_without_a_hash(world):
    pytest.importorskip("onnx")
    made = _decide(world, sensitivity=0.7, refer=0.1)
    file = world / "run.onnx"
    export.export(ExportConfig((world / "run",), file))
    properties = onnx_metadata.read_properties(file.read_bytes())
    assert properties["threshold"] == made.threshold.value
    carried = decision.Decision.from_json(properties["decision"])
    assert carried == replace(made, names=None)
    assert made.names.salt.encode() not in file.read_bytes()
    _predict(world, "ours.csv")
    _predict(world, "theirs.csv", runs=(file,))
    for ours, theirs in zip(read(world / "ours.csv"), read(world / "theirs.csv")):
        assert theirs["prediction"] == ours["prediction"]
        assert theirs["decision"] == ours["decision"]
        assert float(theirs["calibrated"]) == pytest.approx(
            float(ours["calibrated"]), abs=1e-4
        )
    found = provenance.read(world / "theirs.csv").provenance.decision
    assert found.studies is None
    remedy = "run.onnx: was decided for .*: leave --members out, or give --threshold$"
    with pytest.raises(XenonError, match=remedy):
        _predict(world, "theirs.csv", runs=(file,), members=2, overwrite=True)


def test_the_onnx_file_without_a_decision_has_no_such_property(world):
    pytest.importorskip("onnx")
    file = world / "run.onnx"
    export.export(ExportConfig((world / "run",), file))
    properties = onnx_metadata.read_properties(file.read_bytes())
    assert "decision" not in properties
    assert properties["threshold"] == 0.5


def test_the_report_tells_what_was_decided_and_on_what(world, caplog):
    made = _decide(world, sensitivity=0.7)
    _predict(world, "out.csv")
    page, card = world / "page.html", world / "card.md"
    report.report(ReportConfig(world / "out.csv", None, out=page, model_card=card))
    text = page.read_text()
    assert f"above {made.threshold.value:.9g}, decided for a sensitivity of 0.7" in text
    assert "60 studies of 60 patients" in text
    warning = "60 studies are, by name, among those on which calibration and threshold"
    assert warning in text
    assert warning in card.read_text()
    assert warning in caplog.text


def test_the_library_decides_and_predicts_as_the_commands(world):
    made = xenon.decide(
        str(world / "run"), world / "valid.csv", sensitivity=0.7, refer=0.1
    )
    ensemble = xenon.load(world / "run", ctx="cpu()")
    rec = world / "packed" / "valid.rec"
    frame = ensemble.predict(rec)
    _predict(world, "out.csv")
    rows = read(world / "out.csv")
    assert list(frame.columns) == [*rows[0]]
    assert list(frame["decision"]) == [row["decision"] for row in rows]
    assert frame["calibrated"].dtype == np.float64
    assert list(frame["prediction"]) == [int(row["prediction"]) for row in rows]
    assert (ensemble.predict(rec, threshold=1.0)["prediction"] == 0).all()
    image = np.zeros((32, 32), np.uint8)
    image[8:16, 8:16] = 255
    (row,) = ensemble.predict_images([image]).to_dict("records")
    assert row["prediction"] == (row["probability"] > made.threshold.value)
    assert "decision" not in row


def test_the_command_prints_what_it_promises(world):
    arguments = [str(world / "run"), str(world / "valid.csv")]
    runner = CliRunner()
    done = runner.invoke(
        cli.COMMANDS["decide"], [*arguments, "--sensitivity", "0.7", "--refer", "0.1"]
    )
    assert done.exit_code == 0, done.output
    for words in (
        "decided on 60 studies of 60 patients: 30 have an abnormal study, 30 a normal",
        "calibrated on other patients",
        "with 95% confidence at least 0.",
        "it leaves a specificity of",
        "at most 10% of the patients with an abnormal study have one called normal",
        "nine of ten such sets give",
        f"written: {world / 'run' / 'decision.json'}",
        f"next: xenon-predict INPUT OUT.csv --run {world / 'run'}",
    ):
        assert words in done.output, words


def test_the_command_prints_how_many_patients_narrower_intervals_need(world):
    """As the report of the same table does, at the threshold that was decided."""
    arguments = [str(world / "run"), str(world / "valid.csv"), "--sensitivity", "0.7"]
    done = CliRunner().invoke(cli.COMMANDS["decide"], arguments)
    threshold = decision_file.read(world / "run").threshold.value
    samples = from_table(read_table(world / "valid.csv"))
    for margin in (0.05, 0.02):
        sizes = sample_size.sample_sizes(samples, threshold)
        words = ", ".join(f"{each.metric} {each.patients[margin]:,}" for each in sizes)
        line = f"patients like these that a 95% interval of ±{margin} needs: {words}\n"
        assert line in done.output


def test_a_refusal_is_one_line_and_status_1(world, capsys):
    arguments = [str(world / "run"), str(world / "valid.csv"), "--sensitivity", "0.99"]
    command = cli.COMMANDS["decide"]
    sys_argv, sys.argv = sys.argv, ["xenon-decide", *arguments]
    try:
        assert exit_status.status_of(command, "xenon-decide") == 1
    finally:
        sys.argv = sys_argv
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "299 patients with an abnormal study" in line


def test_the_program_decides(world):
    program = str(Path(sys.executable).with_name("xenon-decide"))
    if not os.path.exists(program):
        pytest.skip("xenon is not installed with xenon-decide")
    command = [program, str(world / "run"), str(world / "valid.csv")]
    subprocess.run(command, check=True, capture_output=True)
    assert (world / "run" / "decision.json").is_file()
