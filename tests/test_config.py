"""Settings: their ranges, and the paper's recipe as defaults."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from xenon_mx.config import (
    MEMBERS,
    THRESHOLD,
    PackConfig,
    PredictConfig,
    ReportConfig,
    TrainConfig,
)
from xenon_mx.errors import ConfigError

A, B = Path("a"), Path("b")


def test_the_defaults_are_the_recipe_of_the_paper():
    recipe = TrainConfig(A, B, no_pretrained=True)
    assert recipe.model == "densenet169"
    assert recipe.loss == "weighted"
    assert (recipe.batch_size, recipe.lr, recipe.patience) == (8, 1e-4, 1)
    assert PackConfig(A, B).size == 320
    assert PackConfig(A, B).fit == "stretch"
    prediction = PredictConfig((A,), B, (A,))
    assert (prediction.members, MEMBERS) == (None, 5)
    assert (prediction.threshold, THRESHOLD) == (None, 0.5)


@pytest.mark.parametrize(
    ("flag", "options"),
    [
        ("--size", {"size": 31}),
        ("--fit", {"fit": "crop"}),
        ("--encoding", {"encoding": "gif"}),
        ("--quality", {"quality": 0}),
        ("--quality", {"quality": 101}),
        ("--holdout", {"holdout": -0.1}),
        ("--holdout", {"holdout": 1.0}),
        ("--holdout", {"holdout": float("nan")}),
        ("--threads", {"threads": -1}),
    ],
)
def test_a_packing_setting_out_of_range_is_refused_by_its_flag(flag, options):
    with pytest.raises(ConfigError) as caught:
        PackConfig(A, B, **options)
    assert caught.value.flag == flag


@pytest.mark.parametrize(
    ("flag", "options"),
    [
        ("--batch-size", {"batch_size": 0}),
        ("--lr", {"lr": 0.0}),
        ("--lr", {"lr": 1e-50}),
        ("--lr", {"lr": 1.2e-38}),  # a normal float32, but Adam's corrected rate is not
        ("--lr", {"lr": float("nan")}),
        ("--lr", {"lr": float("inf")}),
        ("--epochs", {"epochs": 0}),
        ("--patience", {"patience": 0}),
        ("--min-delta", {"min_delta": -1.0}),
        ("--min-delta", {"min_delta": float("inf")}),
        ("--min-delta", {"min_delta": float("nan")}),
        ("--min-lr", {"min_lr": 1.0}),
        ("--min-lr", {"min_lr": 1e-50}),
        ("--min-lr", {"min_lr": -1e-6}),
        ("--min-lr", {"min_lr": float("nan")}),
        ("--threads", {"threads": 0}),
        ("--no-pretrained", {"pretrained": "a.params"}),
        ("--pretrained-input", {"pretrained_input": "xrv"}),
        ("--freeze-epochs", {"freeze_epochs": 1}),
        ("--freeze-epochs", {"freeze_epochs": -1}),
    ],
)
def test_a_training_setting_out_of_range_is_refused_by_its_flag(flag, options):
    with pytest.raises(ConfigError) as caught:
        TrainConfig(A, B, **{"no_pretrained": True, **options})
    assert caught.value.flag == flag


@pytest.mark.parametrize(
    ("flag", "options"),
    [("--members", {"members": 0}), ("--threshold", {"threshold": 1.5})],
)
def test_a_prediction_setting_out_of_range_is_refused_by_its_flag(flag, options):
    with pytest.raises(ConfigError) as caught:
        PredictConfig((A,), B, (A,), **options)
    assert caught.value.flag == flag


@pytest.mark.parametrize("kind", [str, Path, lambda text: DirEntryLike(text)])
def test_a_path_may_be_text_or_anything_that_has_one(kind):
    packing = PackConfig(kind("a"), kind("b"), root=kind("c"))
    assert (packing.source, packing.out, packing.root) == (A, B, Path("c"))
    assert PackConfig(A, B).root is None
    prediction = PredictConfig([kind("a"), kind("b")], kind("b"), kind("a"))
    assert (prediction.inputs, prediction.runs) == ((A, B), (A,))
    training = TrainConfig(kind("a"), kind("b"), pretrained=kind("x.params"))
    assert (training.packed, training.pretrained) == (A, "x.params")
    assert ReportConfig(kind("a"), None, out=kind("b")).out == B


class DirEntryLike:
    """What os.scandir yields, in short."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


@pytest.mark.parametrize("wrong", ["", 5, b"a", ["a"]])
def test_what_is_no_path_is_refused_by_its_name(wrong):
    for make, name in (
        (lambda: PackConfig(wrong, B), "source"),
        (lambda: PackConfig(A, B, root=wrong), "--root"),
    ):
        with pytest.raises(ConfigError, match="path") as caught:
            make()
        assert caught.value.flag == name
    with pytest.raises(ConfigError, match="path"):
        PredictConfig((A,), B, [wrong])


def test_what_is_no_sequence_of_paths_is_refused():
    with pytest.raises(ConfigError, match="inputs: must be paths, not 5"):
        PredictConfig(5, B, (A,))


def test_the_help_of_the_seed_names_each_split_that_it_draws():
    (seed,) = [each for each in fields(PackConfig) if each.name == "seed"]
    for flag in ("--valid", "--holdout", "--calibration"):
        assert flag in seed.metadata["help"]
