"""Settings: their ranges, and the paper's recipe as defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from xenon_mx.config import PackConfig, PredictConfig, TrainConfig
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
    assert (prediction.members, prediction.threshold) == (5, 0.5)


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
