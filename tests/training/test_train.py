"""Training: the loop, its refusals, and what it leaves behind."""

from __future__ import annotations

import csv
import json
import logging
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import synthetic
from support.runs import NET, train_config

from xenon_mx.commands import train, train_inputs
from xenon_mx.data import packed_folder, record_iter
from xenon_mx.distributed import process_group
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.models import forward, network
from xenon_mx.runs.run_folder import Run
from xenon_mx.runtime import disk_space, files
from xenon_mx.runtime.mxnet import autograd, mx
from xenon_mx.training import loop, losses
from xenon_mx.training.loop import TrainingLoop
from xenon_mx.training.validator import Scores, Validator


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training") / "packed"
    splits = {"train": synthetic.labelled(36), "valid": synthetic.labelled(18, seed=9)}
    return synthetic.pack(folder, splits)


config = partial(train_config, epochs=1)


def log(run):
    with open(run / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(packed, tmp_path_factory):
    """A run of seven epochs, so that two are dropped."""
    run = tmp_path_factory.mktemp("trained") / "run"
    train.train(config(packed, run, epochs=7, patience=7))
    return run


def test_a_run_keeps_the_five_lowest_losses_of_its_log(trained):
    rows = log(trained)
    assert [int(row["epoch"]) for row in rows] == list(range(1, 8))
    expected = sorted(rows, key=lambda row: (float(row["val_loss"]), int(row["epoch"])))
    kept = [f"{NET}-{int(row['epoch']):04d}.params" for row in expected[:5]]
    assert [member.params.name for member in Run.open(trained).members()] == kept
    assert sorted(p.name for p in (trained / "params").iterdir()) == sorted(kept)


def test_run_json_tells_how_to_repeat_the_run(trained, packed):
    meta = json.loads((trained / "run.json").read_text())
    assert meta["config"]["model"] == NET
    assert meta["config"]["epochs"] == 7
    assert meta["data"] == packed.fingerprint
    assert meta["preprocessing"]["size"] == 32
    assert meta["architecture"] == {"pooling": "global", "logits": 1}
    assert meta["validated_on"] == {"split": "valid", "images": 18}
    assert meta["pretrained"] is None
    assert set(meta["versions"]) >= {"xenon", "mxnet", "numpy", "python"}


def test_the_logged_loss_is_the_mean_weighted_loss_of_the_saved_net(trained, packed):
    member = Run.open(trained).members()[0]
    net = network.build(NET, member.params)
    split = packed.split("valid")
    pixels, labels = synthetic.labelled(18, seed=9)
    logits = forward.logits([net], [pixels], [mx.cpu()])[:, 0].astype(np.float64)
    table = np.array([packed.meta.weights[t] for t in packed.study_types])
    types = np.array([row.study_type for row in split.rows()])
    prob = 1 / (1 + np.exp(-logits))
    hit = np.where(np.array(labels) == 1, prob, 1 - prob)
    expected = -(table[types, labels] * np.log(hit)).mean()
    assert member.loss == pytest.approx(expected, rel=1e-4)
    assert float(log(trained)[member.epoch - 1]["val_loss"]) == pytest.approx(
        expected, rel=1e-4
    )


def test_the_same_seed_gives_the_same_bytes(packed, tmp_path):
    for name in ("a", "b"):
        train.train(config(packed, tmp_path / name, seed=4))
    train.train(config(packed, tmp_path / "c", seed=5))
    digest = {
        name: files.sha256(tmp_path / name / "params" / f"{NET}-0001.params")
        for name in ("a", "b", "c")
    }
    assert digest["a"] == digest["b"] != digest["c"]


class _Bar:
    """A bar that remembers what it was shown."""

    def __init__(self):
        self.done = {}

    def __call__(self, total, unit, desc):
        self.desc, self.done[desc] = desc, [0, total]
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def update(self, n):
        self.done[self.desc][0] += n

    def set_postfix(self, loss, wait, refresh):
        assert float(loss) > 0
        assert wait.endswith("%")


@pytest.mark.parametrize(
    "name", [NET, pytest.param("resnet18_v1", marks=pytest.mark.slow)]
)
def test_the_reference_trains_to_the_same_bytes(packed, tmp_path, name):
    for folder, reference in (("fast", False), ("plain", True)):
        options = {"epochs": 2, "model": name, "reference": reference}
        train.train(config(packed, tmp_path / folder, **options))
    for fast in sorted((tmp_path / "fast" / "params").iterdir()):
        plain = tmp_path / "plain" / "params" / fast.name
        assert fast.read_bytes() == plain.read_bytes()
    for fast, plain in zip(log(tmp_path / "fast"), log(tmp_path / "plain")):
        assert fast["train_loss"] == plain["train_loss"]
        assert float(fast["val_loss"]) == pytest.approx(float(plain["val_loss"]), 1e-6)


def test_waiting_for_images_is_told(packed, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(loop, "_MAX_WAIT_SHARE", -1)
    monkeypatch.setattr(loop, "_MIN_WARN_S", 0)
    with caplog.at_level(logging.WARNING):
        train.train(config(packed, tmp_path / "run"))
    assert "waiting for images" in caplog.text
    assert "--threads 2" in caplog.text


def test_the_bar_is_filled_for_training_and_for_validation(packed, tmp_path):
    bar = _Bar()
    train.train(config(packed, tmp_path / "run"), bar)
    assert bar.done == {"epoch 1/1": [32, 32], "validating 1/1": [18, 18]}


@pytest.mark.parametrize(
    "name", [NET, pytest.param("densenet121", marks=pytest.mark.slow)]
)
def test_one_step_moves_every_trainable_parameter(packed, tmp_path, name):
    start = network.build(name)
    start.save_parameters(str(tmp_path / "start.params"))
    data = synthetic.pack(
        tmp_path / "p", {"train": synthetic.labelled(8), "valid": synthetic.labelled(2)}
    )
    options = {"model": name, "pretrained": str(tmp_path / "start.params")}
    train.train(config(data, tmp_path / "run", no_pretrained=False, **options))
    before = mx.nd.load(str(tmp_path / "start.params"))
    after = mx.nd.load(str(tmp_path / "run" / "params" / f"{name}-0001.params"))
    assert set(before) == set(after)
    still = [k for k in before if (before[k] == after[k]).asnumpy().all()]
    assert still == []  # the running statistics moved, too


@pytest.mark.parametrize(
    ("name", "lr", "epochs"),
    [
        ("mobilenet0.5", 3e-3, 6),
        pytest.param("resnet18_v1b", 1e-3, 3, marks=pytest.mark.slow),
        pytest.param("densenet121", 1e-3, 3, marks=pytest.mark.slow),
    ],
)
def test_eight_images_are_learnt_by_heart(tmp_path, name, lr, epochs):
    pixels, labels = synthetic.labelled(8)
    many = np.concatenate([pixels] * 8), labels * 8
    data = synthetic.pack(tmp_path / "p", {"train": many, "valid": (pixels, labels)})
    options = {"model": name, "lr": lr, "epochs": epochs, "patience": epochs}
    train.train(config(data, tmp_path / "run", **options))
    best = Run.open(tmp_path / "run").members()[0]
    assert best.loss < 0.03  # of ln(2) / 2 = 0.35, the weighted loss of a coin
    assert max(float(row["auroc"]) for row in log(tmp_path / "run")) == 1


def test_two_contexts_follow_one_where_nothing_looks_at_the_batch(packed, tmp_path):
    """Without BatchNorm a batch in two halves gives the gradients of the whole."""
    data = train_inputs.open_data(config(packed, tmp_path / "run"), packed)
    results = []
    for ctxs in ([mx.cpu(0)], [mx.cpu(0), mx.cpu(1)]):
        mx.random.seed(3)
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Flatten(), mx.gluon.nn.Dense(1, in_units=3 * 32 * 32))
        net.initialize(mx.init.Xavier(), ctx=ctxs)
        settings = config(packed, tmp_path / "run")
        group = process_group.ProcessGroup()
        training = TrainingLoop(settings, data, net, ctxs, group=group, bar=_Bar())
        epoch = training.train_epoch(1, 1e-3)
        weight = net[1].weight.data(ctxs[0]).asnumpy()
        if len(ctxs) == 2:
            assert (weight == net[1].weight.data(ctxs[1]).asnumpy()).all()
        results.append((epoch.train_loss, epoch.val_loss, weight))
    assert results[0][:2] == pytest.approx(results[1][:2], rel=1e-4)
    np.testing.assert_allclose(results[0][2], results[1][2], atol=1e-5)


def test_a_run_on_two_contexts_works_whole(packed, tmp_path):
    run = tmp_path / "run"
    train.train(config(packed, run, ctx="cpu(0),cpu(1)", batch_size=5))
    assert len(log(run)) == 1


def test_a_batch_larger_than_the_data_is_a_warning(packed, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        train.train(config(packed, tmp_path / "run", batch_size=37))
    assert caplog.messages == [
        "--batch-size 37 is larger than the train split: each step takes all of its "
        "36 images"
    ]


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    packed, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        disk_space.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6)
    )
    with pytest.raises(XenonError, match="the disk has 1 MB free, but checkpoints and"):
        train.train(config(packed, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_more_contexts_than_images_a_batch_is_refused(packed, tmp_path):
    with pytest.raises(ConfigError, match="cannot be split"):
        train.train(config(packed, tmp_path / "run", ctx="cpu(0),cpu(1)", batch_size=1))
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_with_the_step(packed, tmp_path, monkeypatch):
    steps = []

    def poisoned(self, logits, labels, weights):
        steps.append(1)
        value = math.nan if len(steps) == 3 else 1.0
        return (logits * 0 + value).reshape((-1,))

    monkeypatch.setattr(losses.WeightedBCE, "__call__", poisoned)
    with pytest.raises(XenonError, match="nan at step 3 of epoch 1"):
        train.train(config(packed, tmp_path / "run"))
    assert log(tmp_path / "run") == []


def test_a_plateau_divides_the_rate_and_ends_the_run(packed, tmp_path, monkeypatch):
    rising = (Scores(0.5 + number, 0.0, 0.5) for number in range(9))
    monkeypatch.setattr(Validator, "validate", lambda self, label: next(rising))
    run = tmp_path / "run"
    options = {"epochs": 9, "lr": 1e-4, "min_lr": 1e-5}
    train.train(config(packed, run, **options))
    assert [float(row["lr"]) for row in log(run)] == pytest.approx([1e-4, 1e-4, 1e-5])


def test_a_run_without_a_finite_validation_loss_is_a_failure(
    packed, tmp_path, monkeypatch
):
    none = Scores(math.nan, 0.0, 0.5)
    monkeypatch.setattr(Validator, "validate", lambda self, label: none)
    with pytest.raises(XenonError, match="no epoch had a finite validation loss"):
        train.train(config(packed, tmp_path / "run"))
    assert list((tmp_path / "run" / "params").iterdir()) == []


def test_the_holdout_chooses_where_there_is_one(tmp_path):
    splits = {
        name: synthetic.labelled(8, seed=i)
        for i, name in enumerate(packed_folder.SPLITS)
    }
    data = synthetic.pack(tmp_path / "p", splits)
    train.train(config(data, tmp_path / "run"))
    assert Run.open(tmp_path / "run").meta.validated_on.split == "holdout"


def test_a_run_in_a_folder_that_holds_one_is_refused(trained, packed):
    before = (trained / "log.csv").read_bytes()
    with pytest.raises(XenonError, match="contains a run already"):
        train.train(config(packed, trained))
    assert (trained / "log.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("missing", "said"),
    [("train", "no train split"), ("valid", "no split to validate")],
)
def test_a_missing_split_is_refused(tmp_path, missing, said):
    splits = {n: synthetic.labelled(8) for n in ("train", "valid") if n != missing}
    data = synthetic.pack(tmp_path / "p", splits)
    with pytest.raises(XenonError, match=said):
        train.train(config(data, tmp_path / "run"))


def test_a_type_of_one_class_is_refused_unless_weights_do_not_need_it(tmp_path):
    pixels, _ = synthetic.labelled(8)
    data = synthetic.pack(
        tmp_path / "p",
        {"train": (pixels, [0, 1, 0, 1, 0, 0, 0, 0]), "valid": (pixels, [0, 1] * 4)},
    )
    with pytest.raises(XenonError, match="XR_B.*--pooled-weights"):
        train.train(config(data, tmp_path / "a"))
    train.train(config(data, tmp_path / "b", pooled_weights=True))
    assert Run.open(tmp_path / "b").meta.weights == ((0.25, 0.75),) * 2
    train.train(config(data, tmp_path / "c", loss="plain"))
    assert Run.open(tmp_path / "c").meta.weights == ((1.0, 1.0),) * 2


def test_one_class_over_all_is_refused_with_advice_that_helps(tmp_path):
    """Pooled weights were advised, and then refused without a word of advice."""
    pixels, labels = synthetic.labelled(8)
    data = synthetic.pack(
        tmp_path / "p", {"train": (pixels, [1] * 8), "valid": (pixels, labels)}
    )
    for options in ({}, {"pooled_weights": True}):
        with pytest.raises(XenonError, match="one class") as caught:
            train.train(config(data, tmp_path / "a", **options))
        assert str(caught.value).endswith(": pack training studies of both classes")


def test_one_class_to_validate_on_is_told_at_the_start(tmp_path, caplog):
    pixels, labels = synthetic.labelled(8)
    splits = {"train": (pixels, labels), "valid": (pixels[:2], [1, 1])}
    data = synthetic.pack(tmp_path / "p", splits)
    with caplog.at_level("INFO"):
        train.train(config(data, tmp_path / "run"))
    assert "valid holds 1 study, all abnormal: kappa and AUROC are unde" in caplog.text
    assert "kappa undefined  AUROC undefined" in caplog.text
    assert "nan" not in caplog.text


def test_a_type_that_only_validation_has_is_refused(tmp_path):
    pixels, labels = synthetic.labelled(8)
    data = synthetic.pack(
        tmp_path / "p", {"train": (pixels[:4], labels[:4]), "valid": (pixels, labels)}
    )
    with pytest.raises(XenonError, match="XR_B"):
        train.train(config(data, tmp_path / "run"))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights to start from, whose BatchNorm has seen more than zeros."""
    net = network.build(NET)
    with autograd.record():
        net(mx.nd.random.normal(shape=(4, 3, 32, 32)))
    file = tmp_path_factory.mktemp("start") / "start.params"
    net.save_parameters(str(file))
    return file


def changed(before, after):
    """The keys whose arrays differ between two files."""
    old, new = mx.nd.load(str(before)), mx.nd.load(str(after))
    assert old.keys() == new.keys()
    return {key for key in old if (old[key] != new[key]).asnumpy().any()}


def test_frozen_epochs_move_the_last_layer_alone(packed, tmp_path, start):
    options = {"no_pretrained": False, "pretrained": str(start)}
    options.update(freeze_epochs=2, epochs=3, patience=9)
    train.train(config(packed, tmp_path / "run", **options))
    params = [tmp_path / "run" / "params" / f"{NET}-000{n}.params" for n in (1, 2, 3)]
    head = {"output.weight", "output.bias"}
    assert changed(start, params[0]) == changed(params[0], params[1]) == head
    rest = changed(params[1], params[2])
    assert head < rest
    assert {"features.0.weight", "features.1.running_mean"} < rest


def test_frozen_epochs_do_not_lower_the_learning_rate(packed, tmp_path, start):
    options = {"no_pretrained": False, "pretrained": str(start), "min_delta": 1e9}
    # The third epoch is the first that counts; none is ever better than the first.
    options.update(freeze_epochs=2, epochs=5, patience=1)
    train.train(config(packed, tmp_path / "run", **options))
    rates = [float(row["lr"]) for row in log(tmp_path / "run")]
    assert rates == pytest.approx([1e-4] * 4 + [1e-5])


def test_the_head_is_trained_on_the_features_that_prediction_sees(
    packed, tmp_path, start
):
    """One frozen step is Adam's on logistic regression over the pooled features."""
    few = synthetic.pack(
        tmp_path / "p", {"train": synthetic.labelled(4), "valid": synthetic.labelled(2)}
    )
    options = {"no_pretrained": False, "pretrained": str(start), "loss": "plain"}
    options.update(freeze_epochs=1, batch_size=4)
    train.train(config(few, tmp_path / "run", **options))
    net = network.build(NET, start)
    (batch,) = record_iter.training_batches(few.split("train"), 4, 0, 1, 1)
    images = network.normalise(mx.nd.array(batch.pixels, dtype="uint8"))
    pooled = net.features(images).asnumpy().astype(np.float64)
    logits = net(images).asnumpy()[:, 0]
    error = 1 / (1 + np.exp(-logits)) - batch.labels[:, 0]
    gradient = (error[:, None] * pooled).mean(axis=0)
    large = np.abs(gradient) > 1e-5
    assert large.sum() > 100
    before = mx.nd.load(str(start))["output.weight"].asnumpy()[0]
    after = mx.nd.load(str(tmp_path / "run" / "params" / f"{NET}-0001.params"))
    moved = before - after["output.weight"].asnumpy()[0]
    # Adam's first step is the rate times the sign, but for its epsilon.
    expected = 1e-4 * np.sign(gradient[large])
    np.testing.assert_allclose(moved[large], expected, rtol=0.05)


@pytest.mark.slow
def test_densenet169_takes_real_steps_at_320(tmp_path):
    """The paper's net, size and batch, on the CPU."""
    pixels, labels = synthetic.labelled(16, size=320)
    valid = (pixels[:2], labels[:2])
    data = synthetic.pack(tmp_path / "p", {"train": (pixels, labels), "valid": valid})
    train.train(config(data, tmp_path / "run", model="densenet169"))
    (row,) = log(tmp_path / "run")
    assert math.isfinite(float(row["train_loss"]))


def test_a_rate_that_falls_out_of_float32_ends_training(packed, tmp_path):
    """With --min-lr 0 nothing else ends it before the last of --epochs."""
    run = tmp_path / "run"
    options = {"lr": 2e-36, "min_lr": 0.0, "epochs": 9, "min_delta": 1e6}
    train.train(config(packed, run, **options))
    assert [float(row["lr"]) for row in log(run)] == [2e-36, 2e-36, 2e-37]
