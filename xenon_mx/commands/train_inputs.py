"""What a training starts from: its first weights, its splits and their loss weights.

Owns which file and which splits these are. Must not know the run folder's files or the
training loop.
"""

from __future__ import annotations

from xenon_mx.config import TrainConfig
from xenon_mx.data import packed_folder
from xenon_mx.errors import XenonError
from xenon_mx.runs import run_folder
from xenon_mx.runs.run_meta import RUN_JSON
from xenon_mx.runtime import progress
from xenon_mx.training import class_weights, pretrained
from xenon_mx.training.loop import TrainingData


def find_pretrained(
    config: TrainConfig, run: run_folder.Run | None, bar: progress.Bar
) -> pretrained.Weights | None:
    """Find the first weights; None if they are to be random."""
    if config.no_pretrained:
        return None
    start = pretrained.find(config.model, config.pretrained, bar)
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
    name = packed.validation_split
    if name is None:
        raise XenonError(
            f"{config.packed}: holds no split to validate on; pack one, or set "
            f"patients aside with xenon-pack --holdout 0.1"
        )
    train, valid = (packed.meta.splits[split].counts for split in ("train", name))
    pooled = packed.meta.pooled_weights
    assert pooled is not None, "there is a train split"
    weights = class_weights.loss_weights(
        config, packed.study_types, {*train, *valid}, packed.meta.weights, pooled
    )
    return TrainingData(
        packed=packed,
        train=packed.split("train"),
        valid=packed.split(name),
        weights=weights,
    )
