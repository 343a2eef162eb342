"""xenon-train: the paper's recipe, from a packed folder to a run folder.

Puts `records`, `sources`, `models`, `loops` and `checkpoints` together. Knows no
command line.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import platform
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from xenon_mx import __version__
from xenon_mx.config import MEAN, STD, TrainConfig, flag_name
from xenon_mx.data import mura, packed_folder
from xenon_mx.distributed import process_group
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.models import network
from xenon_mx.runs import run_folder
from xenon_mx.runtime import devices, mxnet, progress
from xenon_mx.runtime.mxnet import mx
from xenon_mx.training import loop as loops
from xenon_mx.training import pretrained

_log = logging.getLogger(__name__)

# What of its settings a run may be resumed with others of: where things are, how long
# and how fast it goes, not what comes out.
_MAY_CHANGE = {"packed", "run", "resume", "epochs", "threads", "ctx"}


def train(
    config: TrainConfig, bar: progress.Bar = progress.silent
) -> list[run_folder.Checkpoint]:
    """Train a net and keep its five best epochs.

    Args:
        config: What `xenon-train` was told.
        bar: Shows the steps of each epoch.

    Returns:
        The best epochs, the lowest validation loss first.

    Raises:
        XenonError: Something that the user gave does not fit, or the loss is no
            longer finite. The epochs finished until then are kept.
    """
    if config.model not in network.NAMES:
        raise ConfigError("--model", f"must be one of {', '.join(network.NAMES)}")
    with process_group.join(config.kvstore) as group:
        if group.num_workers > 1:
            _log.info("rank %d of %d", group.rank, group.num_workers)
        return _train(config, group, bar if group.rank == 0 else progress.silent)


def _train(
    config: TrainConfig, group: process_group.ProcessGroup, bar: progress.Bar
) -> list[run_folder.Checkpoint]:
    """Train as one of several workers, of which the first alone has the run."""
    first = group.rank == 0
    run = _opened(config) if first else None
    packed = packed_folder.open_packed(config.packed)
    if group.broadcast(packed.fingerprint) != packed.fingerprint:
        raise XenonError(f"{config.packed}: other data than the first worker's")
    if group.broadcast(config.threads) != config.threads:
        raise XenonError("--threads: must be alike for all that train together")
    if run:
        _refuse_changes(run, config, packed)
    ctxs = devices.contexts(config.ctx)
    # Before the records are verified, which takes a while with all of MURA.
    start = None
    if first and not (run and run.is_begun):
        start = _start(config, run, bar)
    data = _open_data(config, packed)
    _check_devices(config, data, ctxs)
    mxnet.seed(config.seed)
    begin = start.file if start else None
    net = network.build(config.model, begin, ctxs, config.reference)
    loop = loops.TrainingLoop(config, data, net, ctxs, group, bar)
    if not first:
        with mxnet.failures():
            loop.restore(None)
            loop.run(None)
        return []
    last = None
    if run:
        last = run.resume(_settings(config))
    else:
        run = run_folder.Run.create(config.run, _describe(config, data, start))
    with contextlib.closing(run), mxnet.failures():
        _announce(config, run, data, net)
        loop.restore(last)
        loop.run(run)
    if not run.members():
        raise XenonError(
            f"{config.run}: no epoch had a finite validation loss: try a lower --lr"
        )
    return run.members()


def _opened(config: TrainConfig) -> run_folder.Run | None:
    """Open the run to go on with; None if there is to be a new one."""
    if config.resume:
        return run_folder.Run.open(config.run)
    run_folder.refuse_existing(config.run)
    return None


def _refuse_changes(
    run: run_folder.Run, config: TrainConfig, packed: packed_folder.PackedFolder
) -> None:
    """Stop if a run would go on with other data, another net or another recipe."""
    then = run.meta["config"]
    # A run may be older than a setting.
    settings = [
        (n, v, getattr(TrainConfig, n, None)) for n, v in _settings(config).items()
    ]
    changed = [
        f"{flag_name(name)} was {then.get(name, default)} and is {value}"
        for name, value, default in settings
        if name not in _MAY_CHANGE and then.get(name, default) != value
    ]
    if packed.fingerprint != run.meta["data"]:
        changed.append(
            f"{config.packed} holds other data than {then['packed']} did, by the "
            f"SHA-256 of {packed_folder.PACK_JSON}"
        )
    if changed:
        raise XenonError(
            f"{run.folder}: cannot go on with another recipe or other data: "
            f"{changed[0]}",
            changed[1:],
        )


def _settings(config: TrainConfig) -> dict[str, Any]:
    """What run.json says of the settings."""
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(config).items()
        if key != "resume"
    }


def _start(
    config: TrainConfig, run: run_folder.Run | None, bar: progress.Bar
) -> pretrained.Weights | None:
    """Find the first weights, unless they are to be random."""
    if config.no_pretrained:
        return None
    start = pretrained.find(config.model, config.pretrained, bar)
    if run and start.record()["sha256"] != run.meta["pretrained"]["sha256"]:
        raise XenonError(
            f"{start.file}: not the weights that {run.folder} began with, by the "
            f"SHA-256 in its {run_folder.RUN_JSON}; begin another run"
        )
    return start


def _open_data(
    config: TrainConfig, packed: packed_folder.PackedFolder
) -> loops.TrainingData:
    if "train" not in packed.splits:
        raise XenonError(f"{config.packed}: holds no train split to train on")
    name = "holdout" if "holdout" in packed.splits else "valid"
    if name not in packed.splits:
        raise XenonError(
            f"{config.packed}: holds no split to validate on; pack one, or set "
            f"patients aside with xenon-pack --holdout 0.1"
        )
    table = _weights(config, packed, ("train", name))
    return loops.TrainingData(packed, packed.split("train"), packed.split(name), table)


def _weights(
    config: TrainConfig, packed: packed_folder.PackedFolder, splits: tuple[str, ...]
) -> np.ndarray:
    """The loss weights, (T, 2), refused where the paper's formula gives 0."""
    types = packed.study_types
    if config.loss == "plain":
        return np.ones((len(types), 2))
    if config.pooled_weights:
        pooled = packed.meta.pooled_weights
        assert pooled is not None, "there is a train split"
        if 0 in pooled:
            raise XenonError(
                f"{config.packed}: the training images are all of one class"
            )
        return np.array([pooled] * len(types))
    present = {t for split in splits for t in packed.meta.splits[split].counts}
    weights = packed.meta.weights
    lone = mura.single_class_types((t for t in types if t in present), weights)
    if lone:
        raise XenonError(
            f"{config.packed}: {', '.join(lone)}: the training images do not hold "
            f"both classes, so that the paper's weights are 0; train with "
            f"--pooled-weights or --loss plain"
        )
    return np.array([weights.get(t, (1.0, 1.0)) for t in types])


def _check_devices(
    config: TrainConfig, data: loops.TrainingData, ctxs: list[Any]
) -> None:
    smallest = min(config.batch_size, data.train.records)
    if smallest < len(ctxs):
        raise ConfigError(
            "--batch-size", f"{smallest} images cannot be spread over {len(ctxs)} ctx"
        )


def _describe(
    config: TrainConfig, data: loops.TrainingData, start: pretrained.Weights | None
) -> dict[str, Any]:
    """Make run.json: all that it takes to understand and to repeat the run."""
    return {
        "id": uuid.uuid4().hex,  # of this run, wherever it is moved to
        "config": _settings(config),
        "versions": {
            "xenon": __version__,
            "python": platform.python_version(),
            "mxnet": mx.__version__,
            "gluoncv": importlib.metadata.version("gluoncv"),
            "numpy": np.__version__,
        },
        "data": data.packed.fingerprint,
        "trained_on": {"split": data.train.name, "images": data.train.records},
        "validated_on": {"split": data.valid.name, "images": data.valid.records},
        "study_types": list(data.packed.study_types),
        "weights": data.table.tolist(),
        "preprocessing": {
            **data.packed.preprocessing,
            "mean": MEAN,
            "std": STD,
        },
        "architecture": run_folder.ARCHITECTURE,
        "pretrained": start.record() if start else None,
    }


def _announce(
    config: TrainConfig, run: run_folder.Run, data: loops.TrainingData, net: network.Net
) -> None:
    begun = run.meta["pretrained"]
    _log.info(
        "%s, %.1f M parameters, from %s",
        config.model,
        network.count_parameters(net) / 1e6,
        f"{begun['source']}: {begun['origin']}" if begun else "random weights",
    )
    _log.info(
        "train: %d images; validate on %s: %d images",
        data.train.records,
        data.valid.name,
        data.valid.records,
    )
    if run.epochs:
        _log.info("epoch %d was finished", run.epochs[-1].epoch)
