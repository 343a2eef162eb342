"""xenon-train: the paper's recipe, from a packed folder to a run folder.

Owns the checks before training, and the connection of packed folder, net, training loop
and run folder. Must not know the command line.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import platform
import uuid
from typing import Any

import numpy as np

from xenon_mx import __version__
from xenon_mx.commands import recognition, resume_line, train_settings, validation
from xenon_mx.config import MEAN, STD, TrainConfig
from xenon_mx.data import images, packed_folder, single_classes
from xenon_mx.distributed import process_group, worker_lines
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.models import mixed_precision, network, weight_input
from xenon_mx.runs import disk, finished_run, run_folder
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.run_meta import (
    ARCHITECTURE,
    RUN_JSON,
    Preprocessing,
    RunMeta,
    SplitSize,
)
from xenon_mx.runs.seen_studies import SeenStudies
from xenon_mx.runs.training_state import TrainingState
from xenon_mx.runtime import (
    devices,
    gradient_sums,
    half_precision,
    mxnet,
    progress,
    text,
)
from xenon_mx.runtime.mxnet import mx
from xenon_mx.training import class_weights, optimizers, pretrained
from xenon_mx.training.loop import TrainingData, TrainingLoop

_log = logging.getLogger(__name__)


def train(config: TrainConfig, bar: progress.Bar = progress.silent) -> list[Checkpoint]:
    """Train a net and keep its five best epochs.

    Args:
        config: The settings of `xenon-train`.
        bar: Shows the steps of each epoch.

    Returns:
        The best epochs, the lowest validation loss first; empty on all workers but
        rank 0.

    Raises:
        XenonError: A setting or an input is not valid, or the loss is not finite. The
            epochs finished before are kept.
    """
    check(config)
    with _join(config) as group:
        if group.num_workers > 1:
            _log.info(worker_lines.rank_line(group.rank, group.num_workers))
        return _train(config, group, bar if group.rank == 0 else progress.silent)


def _join(config: TrainConfig) -> process_group.ProcessGroup:
    """Join the other workers, if there are any."""
    if not config.resume:
        return process_group.join(config.kvstore)
    program = ["xenon-launch", "-n", "2", "--", "xenon-train"]
    line = resume_line.resume_line(program, config.packed, config.run)
    return process_group.join(config.kvstore, line)


def check(config: TrainConfig) -> None:
    """Check names and what the paths are, before anything is read.

    Raises:
        XenonError: There is no such net or input, or PACKED is something else.
    """
    if config.model not in network.NAMES:
        raise ConfigError("--model", network.unknown_name(config.model))
    weight_input.parse(config.pretrained_input)
    recognition.check_train(config.packed, config.run)


def _train(
    config: TrainConfig, group: process_group.ProcessGroup, bar: progress.Bar
) -> list[Checkpoint]:
    """Train as one worker; only rank 0 opens the run folder."""
    run = _open_run(config) if group.rank == 0 else None
    ending = _ending(run, config) if run else None
    if group.broadcast(ending):
        return run.members() if run else []
    packed = packed_folder.open_packed(config.packed)
    _check_same_on_all(config, packed, group)
    if run:
        _check_unchanged(run, config, packed)
    ctxs = devices.contexts(config.ctx)
    amp = _choose_precision(config, run, ctxs)
    # Before the records are verified, which takes a while with all of MURA.
    start = None
    if group.rank == 0 and not (run and run.is_begun):
        start = _find_pretrained(config, run, bar)
    data = _open_data(config, packed)
    _check_batch_size(config, data, ctxs)
    mxnet.seed(config.seed)
    weights = start.file if start else None
    net = network.build(
        config.model,
        weights,
        ctxs,
        config.reference,
        trained_on=config.pretrained_input,
    )
    loop = TrainingLoop(config, data, net, ctxs, group=group, bar=bar, amp=amp)
    if group.rank > 0:
        with mxnet.failures():
            loop.restore(None)
            loop.run(None)
        return []
    space = _check_disk(config, net)
    last = None
    if run:
        last = run.resume(train_settings.recorded(config))
    else:
        run = run_folder.Run.create(
            config.run, _describe(config, data, start, amp, net.taken)
        )
    _log_start(config, run, data, net, ctxs)
    _log.info("%s: %s", text.folder_name(run.folder), space)
    return _run_loop(loop, run, last, data)


def _run_loop(
    loop: TrainingLoop,
    run: run_folder.Run,
    last: TrainingState | None,
    data: TrainingData,
) -> list[Checkpoint]:
    """Train as rank 0, from a state or from the start; return the best epochs."""
    with contextlib.closing(run), mxnet.failures():
        run.record_studies(lambda: _seen_studies(data))
        loop.restore(last)
        loop.run(run)
    best = run.members()
    if not best:
        raise XenonError(
            f"{run.folder}: no epoch had a finite validation loss: try a lower --lr"
        )
    return best


def _seen_studies(data: TrainingData) -> SeenStudies:
    """Return the hashes of the studies that train the net or choose its checkpoints."""
    splits = (data.train, data.valid)
    return SeenStudies.of(*(split.listed() for split in splits))


def _open_run(config: TrainConfig) -> run_folder.Run | None:
    """Open the run to resume; None, after a check of the path, for a new run."""
    if config.resume:
        run = run_folder.Run.open(config.run)
        validation.check_replaceable(config.run)
        return run
    run_folder.check_new(config.run)
    return None


def _ending(run: run_folder.Run, config: TrainConfig) -> str | None:
    """Return, and log, why a run to resume is finished; None if it is not."""
    line = resume_line.resume_line(["xenon-train"], config.packed, config.run)
    ending = finished_run.ending(run, config.epochs, line)
    if ending:
        has_data = (config.packed / packed_folder.PACK_JSON).is_file()
        packed = packed_folder.open_packed(config.packed) if has_data else None
        _check_unchanged(run, config, packed)
        _log.info("%s is finished: %s", text.folder_name(run.folder), ending)
    return ending


def _check_same_on_all(
    config: TrainConfig,
    packed: packed_folder.PackedFolder,
    group: process_group.ProcessGroup,
) -> None:
    """Check that all workers have rank 0's data and number of threads."""
    if group.broadcast(packed.fingerprint) != packed.fingerprint:
        raise XenonError(f"{config.packed}: not the data of the worker of rank 0")
    if group.broadcast(config.threads) != config.threads:
        raise XenonError("--threads: must be the same for all workers")


def _check_unchanged(
    run: run_folder.Run,
    config: TrainConfig,
    packed: packed_folder.PackedFolder | None = None,
) -> None:
    """Check that a run is resumed with its own settings, and data if there are any."""
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


def _choose_precision(
    config: TrainConfig, run: run_folder.Run | None, ctxs: list[Any]
) -> str | None:
    """Return the 16-bit type to train in; None for float32.

    Raises:
        ConfigError: Net or devices would gain nothing by --amp.
        XenonError: The run was trained in another type, on other devices, or this
            process has trained in float32.
    """
    if not config.amp:
        gradient_sums.choose(in_place=False)
        return None
    dtype = half_precision.dtype(ctxs)
    if not mixed_precision.can_gain(config.model, dtype):
        raise ConfigError(
            "--amp",
            f"{config.model} would gain nothing: oneDNN's grouped convolutions are no "
            f"faster in bfloat16; omit --amp, or train a DenseNet or ResNet",
        )
    if run and run.meta.amp != dtype:
        raise XenonError(
            f"{run.folder}: was trained in {run.meta.amp}, and --ctx would resume it "
            f"in {dtype}, with other results"
        )
    gradient_sums.choose(in_place=ctxs[0].device_type == "cpu")
    return dtype


def _find_pretrained(
    config: TrainConfig, run: run_folder.Run | None, bar: progress.Bar
) -> pretrained.Weights | None:
    """Find the first weights; None if they are to be random."""
    if config.no_pretrained:
        return None
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


def _open_data(config: TrainConfig, packed: packed_folder.PackedFolder) -> TrainingData:
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
    return TrainingData(packed, packed.split("train"), packed.split(name), weights)


def _check_batch_size(config: TrainConfig, data: TrainingData, ctxs: list[Any]) -> None:
    """Check that a batch has an image for each device."""
    if config.batch_size > data.train.records:
        _log.warning(
            "--batch-size %d is larger than the train split: each step takes all of "
            "its %s",
            config.batch_size,
            text.counted(data.train.records, "image"),
        )
    batch_size = min(config.batch_size, data.train.records)
    if batch_size < len(ctxs):
        raise ConfigError(
            "--batch-size",
            f"{text.counted(batch_size, 'image')} cannot be split between "
            f"{text.counted(len(ctxs), 'device')}",
        )


def _check_disk(config: TrainConfig, net: network.Net) -> str:
    """Check that the disk has what the run needs; return both in words."""
    total, trainable = network.count_bytes(net)
    moments = optimizers.MOMENTS_PER_PARAM * trainable
    return disk.check(config.run, disk.needed(total, moments, config.epochs))


def _describe(
    config: TrainConfig,
    data: TrainingData,
    start: pretrained.Weights | None,
    amp: str | None = None,
    taken: weight_input.Taken | None = None,
) -> RunMeta:
    """Return run.json of a new run."""
    return RunMeta(
        data=data.packed.fingerprint,
        study_types=data.packed.study_types,
        weights=tuple(map(tuple, data.weights.tolist())),
        preprocessing=Preprocessing(
            **data.packed.preprocessing, mean=MEAN, std=STD, pixels=images.PIXELS
        ),
        settings=train_settings.recorded(config),
        architecture=ARCHITECTURE,
        pretrained=start.record(taken) if start else None,
        id=uuid.uuid4().hex,
        versions={
            "xenon": __version__,
            "python": platform.python_version(),
            "mxnet": mx.__version__,
            "gluoncv": importlib.metadata.version("gluoncv"),
            "numpy": np.__version__,
        },
        trained_on=SplitSize(data.train.name, data.train.records),
        validated_on=SplitSize(data.valid.name, data.valid.records),
        amp=amp,
    )


def _log_start(
    config: TrainConfig,
    run: run_folder.Run,
    data: TrainingData,
    net: network.Net,
    ctxs: list[Any],
) -> None:
    start = run.meta.pretrained
    if run.epochs:
        origin = f"where epoch {run.epochs[-1].epoch} was finished"
    else:
        origin = f"{start.source}: {start.words}" if start else "random weights"
    parameters = network.count_parameters(net) / 1e6
    _log.info("%s, %.1f M parameters, from %s", config.model, parameters, origin)
    precision = _precision_line(config, run, ctxs)
    if precision:
        _log.info("%s", precision)
    _log.info(
        "train: %s; validate on %s: %s",
        text.counted(data.train.records, "image"),
        data.valid.name,
        text.counted(data.valid.records, "image"),
    )
    warning = single_classes.warning_of_split(data.packed.meta, data.valid.name)
    if warning:
        _log.warning("%s", warning)


def _precision_line(
    config: TrainConfig, run: run_folder.Run, ctxs: list[Any]
) -> str | None:
    """Return what is said of mixed precision: what is used, or that it could be."""
    if run.meta.amp:
        return f"computing in {run.meta.amp}, with float32 weights"
    if run.epochs or not half_precision.can_gain(ctxs):
        return None
    dtype = half_precision.dtype(ctxs)
    if not mixed_precision.can_gain(config.model, dtype):
        return None
    return f"this device has {dtype}: --amp would train faster"
