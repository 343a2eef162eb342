"""xenon-train: the paper's recipe, from a packed folder to a run folder.

Owns the order of the work: it connects packed folder, net, training loop and run
folder. Must not know the command line.
"""

from __future__ import annotations

import contextlib
import logging

from xenon_mx.commands import (
    net_from_elsewhere,
    resume_line,
    train_checks,
    train_inputs,
    train_precision,
    train_record,
    train_settings,
    validation,
)
from xenon_mx.config import TrainConfig
from xenon_mx.data import packed_folder
from xenon_mx.distributed import process_group, worker_lines
from xenon_mx.errors import XenonError
from xenon_mx.models import network
from xenon_mx.runs import finished_run, run_folder
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.seen_studies import SeenStudies
from xenon_mx.runs.training_state import TrainingState
from xenon_mx.runtime import devices, mxnet, progress, text
from xenon_mx.training.loop import TrainingData, TrainingLoop

_log = logging.getLogger(__name__)


def train(config: TrainConfig, bar: progress.Bar = progress.silent) -> list[Checkpoint]:
    """Train a net and keep its five best epochs, or keep one as it is: `--epochs 0`.

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
    train_checks.check_arguments(config)
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


def _train(
    config: TrainConfig, group: process_group.ProcessGroup, bar: progress.Bar
) -> list[Checkpoint]:
    """Train as one worker; only rank 0 opens the run folder."""
    run = _open_run(config) if group.rank == 0 else None
    ending = _ending(run, config) if run else None
    if group.broadcast(ending):
        return run.members() if run else []
    packed = packed_folder.open_packed(config.packed)
    train_checks.check_same_on_all(config, packed, group)
    if run:
        train_checks.check_unchanged(run, config, packed)
    ctxs = devices.contexts(config.ctx)
    amp = train_precision.choose(config, run, ctxs)
    # Before the records are verified, which takes a while with all of MURA.
    start = None
    if group.rank == 0 and not (run and run.is_begun):
        start = train_inputs.find_pretrained(config, run, bar)
    if config.epochs == 0:
        return net_from_elsewhere.keep(config, run, packed, ctxs, start, bar)
    data = train_inputs.open_data(config, packed)
    train_checks.check_batch_size(config, data, ctxs)
    mxnet.seed(config.seed)
    net = network.build(
        config.model,
        start.file if start else None,
        ctxs,
        config.reference,
        pretrained_input=start.pretrained_input if start else None,
    )
    loop = TrainingLoop(config, data, net, ctxs, group=group, bar=bar, amp=amp)
    if group.rank > 0:
        with mxnet.failures():
            loop.restore(None)
            loop.run(None)
        return []
    space = train_checks.check_disk(config, net)
    last = None
    if run:
        last = run.resume(train_settings.recorded(config))
    else:
        source = start.record(net.taken) if start else None
        run = run_folder.Run.create(
            config.run, train_record.describe(config, data, source, amp)
        )
    train_record.log_start(config, run, data, net, ctxs)
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
        train_checks.check_unchanged(run, config, packed)
        _log.info("%s is finished: %s", text.folder_name(run.folder), ending)
    return ending
