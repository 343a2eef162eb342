"""What is recorded and logged of a training when it starts.

Owns the content of a new run.json, and the first lines of the log. Must not know when
a run is created.
"""

from __future__ import annotations

import logging
import platform
import uuid
from typing import Any

import numpy as np

from xenon_mx import __version__
from xenon_mx.commands import train_precision, train_settings
from xenon_mx.config import MEAN, STD, TrainConfig
from xenon_mx.data import images, single_classes
from xenon_mx.models import net_size, network
from xenon_mx.runs import run_folder
from xenon_mx.runs.run_meta import (
    ARCHITECTURE,
    NOT_TRAINED_HERE,
    Preprocessing,
    PretrainedSource,
    RunMeta,
    SplitSize,
)
from xenon_mx.runtime import mxnet_build, text
from xenon_mx.runtime.mxnet import mx
from xenon_mx.training.loop import TrainingData
from xenon_mx.training.validator import ValidationData

_log = logging.getLogger(__name__)


def describe(
    config: TrainConfig,
    data: TrainingData,
    start: PretrainedSource | None,
    amp: str | None = None,
) -> RunMeta:
    """Return run.json of a new run."""
    trained_on = SplitSize(data.train.name, data.train.records)
    return _describe(config, data, start, trained_on, amp)


def describe_from_elsewhere(
    config: TrainConfig, data: ValidationData, start: PretrainedSource
) -> RunMeta:
    """Return run.json of the new run of a net that was not trained here."""
    return _describe(config, data, start, NOT_TRAINED_HERE)


def _describe(
    config: TrainConfig,
    data: ValidationData,
    start: PretrainedSource | None,
    trained_on: SplitSize,
    amp: str | None = None,
) -> RunMeta:
    return RunMeta(
        data=data.packed.fingerprint,
        study_types=data.packed.study_types,
        weights=tuple(map(tuple, data.weights.tolist())),
        preprocessing=Preprocessing(
            **data.packed.preprocessing, mean=MEAN, std=STD, pixels=images.PIXELS
        ),
        settings=train_settings.recorded(config),
        architecture=ARCHITECTURE,
        pretrained=start,
        id=uuid.uuid4().hex,
        versions={
            "xenon": __version__,
            "python": platform.python_version(),
            "mxnet": mx.__version__,
            "gluoncv": mxnet_build.gluoncv_version(),
            "numpy": np.__version__,
        },
        trained_on=trained_on,
        validated_on=SplitSize(data.valid.name, data.valid.records),
        amp=amp,
    )


def log_start(
    config: TrainConfig,
    run: run_folder.Run,
    data: TrainingData,
    net: network.Net,
    ctxs: list[Any],
) -> None:
    """Log what is trained, from which weights, in which precision and on how much."""
    start = run.meta.pretrained
    if run.epochs:
        origin = f"where epoch {run.epochs[-1].epoch} was finished"
    else:
        origin = f"{start.source}: {start.words}" if start else "random weights"
    parameters = net_size.count_parameters(net) / 1e6
    _log.info("%s, %.1f M parameters, from %s", config.model, parameters, origin)
    precision = train_precision.line(config, run, ctxs)
    if precision:
        _log.info("%s", precision)
    _log.info(
        "train: %s; validate on %s: %s",
        text.counted(data.train.records, "image"),
        data.valid.name,
        text.counted(data.valid.records, "image"),
    )
    _warn_of_single_classes(data)


def log_from_elsewhere(
    config: TrainConfig,
    start: PretrainedSource,
    data: ValidationData,
    net: network.Net,
) -> None:
    """Log which net is taken as it is, and on how much it is validated."""
    parameters = net_size.count_parameters(net) / 1e6
    _log.info(
        "%s, %.1f M parameters, from %s: %s; not trained here",
        config.model,
        parameters,
        start.source,
        start.words,
    )
    images = text.counted(data.valid.records, "image")
    _log.info("validate on %s: %s", data.valid.name, images)
    _warn_of_single_classes(data)


def _warn_of_single_classes(data: ValidationData) -> None:
    """Log a warning if validation has study types with one class only."""
    warning = single_classes.warning_of_split(data.packed.meta, data.valid.name)
    if warning:
        _log.warning("%s", warning)
