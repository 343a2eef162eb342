"""The checks before a training: paths, data, settings, batch and disk.

Owns what must hold before the first step, and its errors. Must not know the training
loop, or what order the checks come in.
"""

from __future__ import annotations

import logging
from typing import Any

from xenon_mx.commands import recognition, train_settings
from xenon_mx.config import TrainConfig
from xenon_mx.data import packed_folder
from xenon_mx.distributed import process_group
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.models import net_names, net_size, network, weight_input
from xenon_mx.runs import disk, run_folder
from xenon_mx.runtime import devices, text
from xenon_mx.training import optimizers
from xenon_mx.training.loop import TrainingData

_log = logging.getLogger(__name__)


def check_arguments(config: TrainConfig) -> None:
    """Check names and what the paths are, before anything is read.

    Raises:
        XenonError: There is no such net or input, or PACKED is something else.
    """
    if config.model not in net_names.NAMES:
        raise ConfigError("--model", net_names.unknown(config.model))
    weight_input.parse(config.pretrained_input)
    recognition.check_train(config.packed, config.run)


def check_same_on_all(
    config: TrainConfig,
    packed: packed_folder.PackedFolder,
    group: process_group.ProcessGroup,
) -> None:
    """Check that all workers have rank 0's data and number of threads."""
    if group.broadcast(packed.fingerprint) != packed.fingerprint:
        raise XenonError(f"{config.packed}: not the data of the worker of rank 0")
    if group.broadcast(config.threads) != config.threads:
        raise XenonError("--threads: must be the same for all workers")


def check_unchanged(
    run: run_folder.Run,
    config: TrainConfig,
    packed: packed_folder.PackedFolder | None = None,
) -> None:
    """Check that a run is resumed with its own settings, and data if there are any."""
    if run.meta.is_from_elsewhere and config.epochs:
        raise XenonError(
            f"{run.folder}: its net was not trained here, and cannot be trained "
            f"further: omit --epochs, or start another run from it with --pretrained "
            f"{text.shell_quote(run.folder)}"
        )
    if not run.meta.is_from_elsewhere and config.epochs == 0:
        raise XenonError(
            f"{run.folder}: was trained here, and --epochs 0 is for a net that was "
            f"not: omit --epochs, or give another RUN"
        )
    changed = train_settings.changes(config, run.meta.settings)
    if packed and packed.fingerprint != run.meta.data:
        changed.append(
            f"{config.packed} holds other data than {run.meta.settings['packed']} did, "
            f"by the SHA-256 of {packed_folder.PACK_JSON}"
        )
    if changed:
        raise XenonError(
            f"{run.folder}: cannot be resumed with other settings or data: "
            f"{changed[0]}",
            changed[1:],
        )


def check_batch_size(config: TrainConfig, data: TrainingData, ctxs: list[Any]) -> None:
    """Check that a batch has an image for each device."""
    if config.batch_size > data.train.records:
        _log.warning(
            "--batch-size %d is larger than the train split: each step takes all of "
            "its %s",
            config.batch_size,
            text.counted(data.train.records, "image"),
        )
    batch_size = min(config.batch_size, data.train.records)
    devices.check_batch_size(batch_size, len(ctxs))


def check_disk(config: TrainConfig, net: network.Net) -> str:
    """Check that the disk has what the run needs; return both in words."""
    total, trainable = net_size.count_bytes(net)
    moments = optimizers.MOMENTS_PER_PARAM * trainable if config.epochs else 0
    return disk.check(config.run, disk.needed(total, moments, max(config.epochs, 1)))
