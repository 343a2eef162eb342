"""xenon-train --epochs 0: a net that was trained elsewhere becomes a run like any."""

from __future__ import annotations

import json
import logging
import math
import shutil
from dataclasses import replace

import goldens
import numpy as np
import pytest
import synthetic
from click.testing import CliRunner
from safetensors.numpy import save_file
from support.predictions import predict_tables, read
from support.runs import NET, train_config

from xenon_mx import cli
from xenon_mx.commands import decide, export, predict, report, train, validation
from xenon_mx.config import (
    DecideConfig,
    ExportConfig,
    PredictConfig,
    ReportConfig,
    TrainConfig,
)
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.evaluation import decision_words, provenance
from xenon_mx.evaluation.seen import BEGAN_ELSEWHERE, MAY_BE_SEEN
from xenon_mx.inference.onnx_ensemble import OnnxEnsemble
from xenon_mx.models import network, weight_files
from xenon_mx.runs import decision_file, finished_run
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import RunMeta
from xenon_mx.runtime import files


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A packed folder, a run trained on it, its best net in a file, and the file's run.

    To the last of them, the net was trained elsewhere.
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    splits = {
        name: synthetic.labelled(count, seed=count)
        for name, count in (("train", 80), ("valid", 120))
    }
    pixels = splits["valid"][0]
    for start in range(0, len(pixels), 32):  # of 16 studies, two look like the others
        pixels[start : start + 4] = pixels[start + np.array([1, 0, 3, 2])]
    packed = synthetic.pack(folder / "packed", splits)
    train.train(train_config(packed, folder / "trained", lr=1e-2, epochs=3))
    best = Run.open(folder / "trained").members()[0]
    save_file(weight_files.read(best.params), folder / "net.safetensors")
    train.train(settings(folder))
    predict.predict(_prediction(folder, "valid.csv"))
    return folder


def settings(world, run="run", file="net.safetensors", **options):
    """Return the settings that make a run of a file."""
    given = {
        "model": NET,
        "pretrained": str(world / file),
        "epochs": 0,
        "ctx": "cpu()",
        **options,
    }
    return TrainConfig(world / "packed", world / run, **given)


def resumed(world, copy):
    """Return the settings that resume the copy of the run."""
    return settings(copy, pretrained=str(world / "net.safetensors"), resume=True)


def _prediction(world, out, split="valid", run="run", **options):
    rec = world / "packed" / f"{split}.rec"
    runs = (world / run,)
    return PredictConfig((rec,), world / out, runs, ctx="cpu()", **options)


@pytest.fixture
def copy(world, tmp_path):
    """A copy of it, to change."""
    shutil.copytree(world, tmp_path / "world")
    return tmp_path / "world"


# --- the run ---


def test_the_files_net_is_the_one_member_bit_for_bit(world):
    (member,) = Run.open(world / "run").members()
    assert member.params.name == f"{NET}-0000.params"
    kept, given = (
        weight_files.read(file) for file in (member.params, world / "net.safetensors")
    )
    assert kept.keys() == given.keys()
    assert all((kept[key] == given[key]).all() for key in given)


def test_run_json_says_that_it_was_not_trained_here(world):
    content = json.loads((world / "run" / "run.json").read_text())
    assert content["trained_on"] == {"split": "elsewhere", "images": 0}
    assert content["validated_on"] == {"split": "valid", "images": 120}
    assert content["pretrained"]["origin"] == str(world / "net.safetensors")
    assert content["config"]["epochs"] == 0
    assert RunMeta.from_json(content).is_from_elsewhere
    assert not Run.open(world / "trained").meta.is_from_elsewhere
    assert not (world / "run" / "studies.json").exists()


def test_the_log_has_what_was_measured_and_nothing_else(world):
    """The epoch that the net was taken from measured the same."""
    (row,) = Run.open(world / "run").log()
    best = Run.open(world / "trained").members()[0].epoch
    before = next(r for r in Run.open(world / "trained").log() if r.epoch == best)
    assert row.epoch == 0
    assert (row.val_loss, row.kappa, row.auroc) == pytest.approx(
        (before.val_loss, before.kappa, before.auroc), rel=1e-6
    )
    assert all(map(math.isnan, (row.train_loss, row.lr, row.images_per_s)))
    assert (world / "run" / "log.csv").read_text().splitlines()[1].startswith("0,nan,")


def test_torchvisions_names_and_a_pack_of_a_validation_split_alone(tmp_path):
    """The loss is recomputed from the probabilities of the images."""
    arrays = goldens.state_dict("resnet18")
    arrays.update({key: arrays[key][:1].copy() for key in ("fc.weight", "fc.bias")})
    save_file(arrays, tmp_path / "tv.safetensors")
    synthetic.pack(tmp_path / "packed", {"valid": synthetic.labelled(16)})
    wanted = settings(tmp_path, file="tv.safetensors", model="resnet18_v1b")
    with pytest.raises(XenonError, match="no train split, .* add --loss plain"):
        train.train(wanted)
    assert not (tmp_path / "run").exists()
    (member,) = train.train(replace(wanted, loss="plain"))
    rec = tmp_path / "packed" / "valid.rec"
    _, images, _ = predict_tables(tmp_path, [rec], [tmp_path / "run"])
    prob = np.array([float(row["probability"]) for row in images])
    labels = np.array([int(row["label"]) for row in images])
    loss = -np.log(np.where(labels == 1, prob, 1 - prob)).mean()
    assert member.loss == pytest.approx(loss, rel=1e-5)


# --- what makes no sense ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretrained": None}, "--epochs: 0 keeps a net .* with --pretrained"),
        ({"pretrained": None, "no_pretrained": True}, "--epochs: 0 keeps a net"),
        ({"freeze_epochs": 1}, "--freeze-epochs: has no effect with --epochs 0"),
        ({"amp": True}, "--amp: has no effect with --epochs 0"),
        ({"lr": 1e-3}, "--lr: has no effect with --epochs 0"),
        ({"folds": 5}, "--folds: has no effect with --epochs 0"),
        ({"kvstore": "dist_sync"}, "--kvstore: has no effect with --epochs 0"),
    ],
)
def test_settings_that_contradict_it_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        settings(tmp_path, **options)


@pytest.mark.parametrize("source", ["gluon", "hub"])
def test_imagenet_weights_of_a_server_are_refused(world, source):
    with pytest.raises(ConfigError, match=f"--pretrained {source} has ImageNet's"):
        train.train(settings(world, run="none", pretrained=source))
    assert not (world / "none").exists()


def _file(folder, change):
    """Write the weights of a net, changed; return the file's name."""
    arrays = network.state_dict(network.build(NET))
    change(arrays)
    save_file(arrays, folder / "changed.safetensors")
    return "changed.safetensors"


def _imagenet(arrays):
    arrays["output.weight"] = np.repeat(arrays["output.weight"], 1000, 0)
    arrays["output.bias"] = np.repeat(arrays["output.bias"], 1000)


def _overflowing(arrays):
    *_, last = (key for key in arrays if key.endswith("beta"))
    arrays[last].fill(1)  # so that every feature is about 1
    arrays["output.weight"].fill(3e38)


def test_a_file_with_other_classes_is_refused(copy):
    file = _file(copy, _imagenet)
    with pytest.raises(XenonError, match="no last layer with one logit"):
        train.train(settings(copy, run="none", file=file))
    assert not (copy / "none").exists()


def test_a_net_whose_logits_overflow_is_refused(copy):
    file = _file(copy, _overflowing)
    with pytest.raises(XenonError, match="validation loss of this net is (nan|inf)"):
        train.train(settings(copy, run="none", file=file))
    assert not (copy / "none").exists()


# --- a run as any other, resumed and taken further ---


def test_it_is_finished_and_cannot_be_trained_further(world, caplog):
    with caplog.at_level(logging.INFO):
        train.train(settings(world, resume=True))
    assert caplog.messages == [
        f"{world / 'run'} is finished: its net was not trained here, and was validated"
    ]
    with pytest.raises(XenonError, match="not trained here, .* with --pretrained"):
        train.train(settings(world, resume=True, epochs=3))


def test_a_run_that_was_trained_here_does_not_become_one(world):
    with pytest.raises(XenonError, match="was trained here, and --epochs 0 is for"):
        train.train(settings(world, run="trained", resume=True))


@pytest.mark.parametrize("name", ["log.csv", "best.json", "events.out.tfevents.*"])
def test_what_a_killed_process_did_not_come_to_write_is_written(world, copy, name):
    (file,) = (copy / "run").glob(name)
    before = file.read_bytes()
    file.unlink()
    assert finished_run.ending(Run.open(copy / "run"), 0) is None
    train.train(resumed(world, copy))
    assert finished_run.ending(Run.open(copy / "run"), 0)
    (again,) = (copy / "run").glob(name)
    assert len(again.read_bytes()) == len(before)


def test_a_run_killed_before_its_net_was_kept_is_validated_again(world, copy):
    shutil.rmtree(copy / "run" / "last")
    before = Run.open(copy / "run").members()
    for name in ("best.json", "log.csv"):
        (copy / "run" / name).unlink()
    assert train.train(resumed(world, copy)) == before


def test_a_run_that_starts_from_it_claims_less_than_another(world, tmp_path, caplog):
    """What trained its first weights may be what it predicts; so in every later run."""
    packed = synthetic.pack(
        tmp_path / "packed",
        {
            name: synthetic.labelled(16, seed=i)
            for i, name in enumerate(("train", "valid", "calibration"))
        },
    )
    starts = {
        "file": str(world / "net.safetensors"),
        "run": str(world / "run"),
        "again": str(tmp_path / "run"),
        "own": str(world / "trained"),
    }
    for name, start in starts.items():
        options = {"no_pretrained": False, "pretrained": start, "epochs": 1}
        train.train(train_config(packed, tmp_path / name, **options))
        caplog.clear()
        out, rec = tmp_path / f"{name}.csv", packed.folder / "calibration.rec"
        predict.predict(PredictConfig((rec,), out, (tmp_path / name,), ctx="cpu()"))
        data = provenance.read(out).provenance.data
        begins_here = name == "own"
        assert not Run.open(tmp_path / name).meta.is_from_elsewhere
        assert data.pretrained_on == (None if begins_here else "elsewhere")
        assert (BEGAN_ELSEWHERE in caplog.text) == (not begins_here)
        page = tmp_path / f"{name}.html"
        report.report(ReportConfig(None, out, out=page))
        began = "began as a net that was not trained here"
        assert (began in page.read_text()) == (not begins_here)
        export.export(ExportConfig((tmp_path / name,), tmp_path / f"{name}.onnx"))
        exported = OnnxEnsemble(tmp_path / f"{name}.onnx", None)
        assert exported.training_data() == data


# --- predictions, and what may be claimed of them ---


def test_it_predicts_what_the_net_predicted_where_it_was_trained(world):
    rec = world / "packed" / "valid.rec"
    ours, _, _ = predict_tables(world, [rec], [world / "run"])
    theirs, _, _ = predict_tables(world, [rec], [world / "trained"], members=1)
    assert ours == theirs


@pytest.mark.parametrize("split", ["train", "valid"])
def test_no_study_is_called_seen_or_unseen(world, split, caplog):
    predict.predict(_prediction(world, "out.csv", split, overwrite=True))
    found = provenance.read(world / "out.csv").provenance
    assert found.data.is_from_elsewhere
    assert not found.seen.is_known
    assert MAY_BE_SEEN in caplog.text


def test_an_ensemble_claims_something_only_without_such_a_net(world, copy):
    both = replace(
        _prediction(world, "both.csv", "train", overwrite=True),
        runs=(world / "trained", world / "run"),
    )
    predict.predict(both)
    found = provenance.read(world / "both.csv").provenance
    assert len(found.ensemble.members) == 4
    assert found.data.is_from_elsewhere
    assert not found.seen.is_known
    best = files.read_json(copy / "run" / "best.json")
    best["best"][0]["loss"] = 9.0
    files.write_json(copy / "run" / "best.json", best)
    alone = replace(both, members=1, out=world / "one.csv")
    predict.predict(replace(alone, runs=(copy / "run", world / "trained")))
    chosen = provenance.read(world / "one.csv").provenance
    assert not chosen.data.is_from_elsewhere
    assert chosen.seen.trained
    predict.predict(replace(alone, runs=(world / "trained",)))
    assert provenance.read(world / "one.csv").provenance.seen.trained


def test_page_and_card_say_it_at_each_place(world, tmp_path):
    out, card = tmp_path / "page.html", tmp_path / "card.md"
    config = ReportConfig(world / "run", world / "valid.csv", out=out, model_card=card)
    report.report(config)
    page, card = out.read_text(), card.read_text()
    for text in (page, card):
        assert "not trained here: on what is not known" in text
        assert "120 images of valid" in text
        assert "may have been trained on these studies" in text
        assert "chose the checkpoints" not in text
        assert "Adam" not in text
        assert "the net was trained on" not in text
        assert "\nnan" not in text
        assert ">nan<" not in text
    assert "This net was not trained here, so that there are no curves." in page
    assert "learning rate" not in page


def test_maps_are_drawn(world, tmp_path):
    predict.predict(_prediction(world, "maps.csv", cam=tmp_path / "maps"))
    assert len(list((tmp_path / "maps").rglob("*.npy"))) == 120


def test_its_export_predicts_the_same_and_claims_nothing(world, tmp_path):
    pytest.importorskip("onnxruntime")
    out = tmp_path / "net.onnx"
    assert export.export(ExportConfig((world / "run",), out)) == 1
    table = tmp_path / "out.csv"
    predict.predict(replace(_prediction(world, table), runs=(out,), ctx=None))
    ours, theirs = (
        [float(row["probability"]) for row in read(file)]
        for file in (table, world / "valid.csv")
    )
    assert ours == pytest.approx(theirs, abs=1e-5)
    found = provenance.read(table).provenance
    assert found.data.is_from_elsewhere
    assert not found.seen.is_known


# --- a decision ---


def test_a_decision_is_made_and_says_that_the_studies_may_have_trained(copy, tmp_path):
    made = decide.decide(DecideConfig(copy / "run", copy / "valid.csv"))
    assert decision_file.read(copy / "run") == made
    assert made.decided_on.may_have_trained
    assert "who may have trained the net" in decision_words.subject(made)
    first = next(decision_words.lines(made))
    assert "or the one that it began as, was not trained here" in first
    predict.predict(_prediction(copy, "decided.csv"))
    out = tmp_path / "page.html"
    report.report(ReportConfig(copy / "run", copy / "decided.csv", out=out))
    assert "who may have trained the net" in out.read_text()


def test_a_decision_of_a_net_that_was_trained_here_says_nothing_of_it(copy):
    predict.predict(_prediction(copy, "own.csv", run="trained"))
    with pytest.raises(XenonError, match="cannot decide: its studies chose"):
        decide.decide(DecideConfig(copy / "trained", copy / "own.csv"))


# --- the command ---


def test_the_command_from_start_to_end(world, tmp_path, monkeypatch):
    """The table of the validation split, a process of its own, is left out."""
    asked = []
    monkeypatch.setattr(
        validation, "predict_if_due", lambda config, bar: asked.append(config.run)
    )
    words = ["train", str(world / "packed"), str(tmp_path / "run"), "--epochs", "0"]
    words += ["--model", NET, "--ctx", "cpu()"]
    words += ["--pretrained", str(world / "net.safetensors")]
    done = CliRunner().invoke(cli.xenon_command, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert "not trained here, validation loss " in done.output
    assert asked == [tmp_path / "run"]
    assert Run.open(tmp_path / "run").meta.is_from_elsewhere
