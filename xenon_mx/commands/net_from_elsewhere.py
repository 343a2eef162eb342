"""xenon-train --epochs 0: a net that was trained elsewhere becomes a run.

Owns the order of the work: the net is validated and kept as the one member. Must not
know the training loop or the command line.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from typing import Any

import numpy as np

from xenon_mx.commands import train_checks, train_inputs, train_record, train_settings
from xenon_mx.config import TrainConfig
from xenon_mx.data import packed_folder
from xenon_mx.errors import XenonError
from xenon_mx.models import network
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.epoch_log import EpochRecord
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.training_state import TrainingState
from xenon_mx.runtime import mxnet, progress, text
from xenon_mx.training.validator import Scores, ValidationData, Validator
from xenon_mx.training.weight_places import Weights

_log = logging.getLogger(__name__)

_EPOCH = 0  # of the one checkpoint: no epoch was trained


def keep(
    config: TrainConfig,
    run: Run | None,
    packed: packed_folder.PackedFolder,
    ctxs: list[Any],
    start: Weights | None,
    bar: progress.Bar,
) -> list[Checkpoint]:
    """Validate a net, and keep it as the one member of a run.

    Args:
        config: The settings of `xenon-train`, with 0 epochs.
        run: The run to resume; None for a new one.
        packed: The packed folder.
        ctxs: The devices that validate.
        start: The weights; None if the run has them already.
        bar: Shows the progress.

    Raises:
        XenonError: The weights are not those of a net with one logit, or the validation
            loss is not finite; there is no run then.
    """
    if start is None:
        assert run is not None, "a new run needs weights"
        with contextlib.closing(run):  # what a killed process did not come to write
            run.resume(train_settings.recorded(config))
        return run.members()
    net = network.build(
        config.model,
        start.file,
        ctxs,
        config.reference,
        pretrained_input=start.pretrained_input,
        needs_logit=True,
    )
    space = train_checks.check_disk(config, net)
    data = train_inputs.open_validation(config, packed)
    source = start.record(net.taken)
    train_record.log_from_elsewhere(config, source, data, net)
    _log.info("%s: %s", text.folder_name(config.run), space)
    record = _validate(config, data, net, ctxs, start, bar)
    if run is None:
        meta = train_record.describe_from_elsewhere(config, data, source)
        run = Run.create(config.run, meta)
    else:
        run.resume(train_settings.recorded(config))
    with contextlib.closing(run):
        state = TrainingState(
            epoch=_EPOCH,
            net=network.lazy_state_dict(net),
            trainer={},
            steps=0,
            handlers={},
            done=True,
        )
        run.save(record, state, [(record.val_loss, _EPOCH)])
    return run.members()


def _validate(
    config: TrainConfig,
    data: ValidationData,
    net: network.Net,
    ctxs: list[Any],
    start: Weights,
    bar: progress.Bar,
) -> EpochRecord:
    """Return the row of the log; what only training has is NaN."""
    begin = time.perf_counter()
    # NumPy's warning of logits that overflow: they are an error here.
    with mxnet.failures(), np.errstate(invalid="ignore"):
        scores = Validator(config, data, net, ctxs, bar).validate("validating")
    _check_finite(scores, start)
    return EpochRecord(
        epoch=_EPOCH,
        train_loss=math.nan,
        val_loss=scores.loss,
        kappa=scores.kappa,
        auroc=scores.auroc,
        lr=math.nan,
        images_per_s=math.nan,
        wait_share=math.nan,
        seconds=time.perf_counter() - begin,
        finished=round(time.time(), 3),
    )


def _check_finite(scores: Scores, start: Weights) -> None:
    """Check that the net computes numbers."""
    if not math.isfinite(scores.loss):
        raise XenonError(
            f"{start.file}: the validation loss of this net is {scores.loss}: its "
            f"weights are not those of a working net"
        )
