"""What a training starts from: its first weights, its splits and their loss weights.

Owns which file and which splits these are. Must not know the run folder's files or the
training loop.
"""

from __future__ import annotations

import numpy as np

from xenon_mx.config import TrainConfig
from xenon_mx.data import packed_folder
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runs import run_folder
from xenon_mx.runs.run_meta import RUN_JSON
from xenon_mx.runtime import progress
from xenon_mx.training import class_weights, pretrained
from xenon_mx.training.loop import TrainingData
from xenon_mx.training.validator import ValidationData
from xenon_mx.training.weight_places import GLUON, HUB, Weights


def find_pretrained(
    config: TrainConfig, run: run_folder.Run | None, bar: progress.Bar
) -> Weights | None:
    """Find the first weights; None if they are to be random."""
    if config.no_pretrained:
        return None
    if not config.epochs and config.pretrained in (GLUON, HUB):
        raise ConfigError(
            "--epochs",
            f"0 needs a net with one logit, and --pretrained {config.pretrained} has "
            f"ImageNet's 1000 classes: name a file or a run",
        )
    start = pretrained.find(
        config.model, config.pretrained, bar, config.pretrained_input
    )
    if (
        run
        and run.meta.pretrained
        and start.record().sha256 != run.meta.pretrained.sha256
    ):
        raise XenonError(
            f"{start.file}: not the weights that {run.folder} started from, by the "
            f"SHA-256 in its {RUN_JSON}; start another run"
        )
    return start


def open_data(config: TrainConfig, packed: packed_folder.PackedFolder) -> TrainingData:
    """Open the splits, and compute the loss weights."""
    if "train" not in packed.splits:
        raise XenonError(f"{config.packed}: holds no train split to train on")
    name = _validation_split(config, packed)
    weights = _loss_weights(config, packed, ("train", name))
    return TrainingData(
        packed=packed,
        train=packed.split("train"),
        valid=packed.split(name),
        weights=weights,
    )


def open_validation(
    config: TrainConfig, packed: packed_folder.PackedFolder
) -> ValidationData:
    """Open the split to validate on alone, and compute the loss weights."""
    name = _validation_split(config, packed)
    if "train" not in packed.splits and config.loss != "plain":
        raise XenonError(
            f"{config.packed}: holds no train split, whose counts give the loss its "
            f"weights: add --loss plain"
        )
    weights = _loss_weights(config, packed, (name,))
    return ValidationData(packed=packed, valid=packed.split(name), weights=weights)


def _validation_split(config: TrainConfig, packed: packed_folder.PackedFolder) -> str:
    """Return the name of the split to validate on."""
    name = packed.validation_split
    if name is None:
        raise XenonError(
            f"{config.packed}: holds no split to validate on; pack one, or set "
            f"patients aside with xenon-pack --holdout 0.1"
        )
    return name


def _loss_weights(
    config: TrainConfig, packed: packed_folder.PackedFolder, splits: tuple[str, ...]
) -> np.ndarray:
    """Return the loss weights of the study types in some splits."""
    present = {name for split in splits for name in packed.meta.splits[split].counts}
    return class_weights.loss_weights(
        config,
        packed.study_types,
        present,
        packed.meta.weights,
        packed.meta.pooled_weights,
    )
