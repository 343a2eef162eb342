"""The check that trains some steps: images per second, and memory.

Owns the measurement. Must not know what the rate is compared with.
"""

from __future__ import annotations

import itertools
import math
import resource
import time
from pathlib import Path
from typing import Any, Iterator

import numpy as np

from xenon_mx.config import TrainConfig
from xenon_mx.data import packed_folder, record_iter
from xenon_mx.diagnosis.finding import Finding, Teller
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.distributed import process_group
from xenon_mx.models import network
from xenon_mx.runtime import devices, gradient_sums, mxnet, progress, text
from xenon_mx.runtime.mxnet import mx
from xenon_mx.training.loop import TrainingData, TrainingLoop

# Chosen here: the first steps plan memory and choose algorithms. After 20 s even a slow
# computer's rate is known to some percent.
_WARM_UP, _STEPS, _MOST_S, _LEAST_STEPS = 2, 20, 20.0, 3


def check(subject: Subject, teller: Teller) -> dict[str, Any]:
    """Train steps with the loop of xenon-train, on all devices.

    Returns:
        `images_per_s`.
    """
    teller.doing("building the net")
    ctxs = [mx.Context(*each) for each in devices.parse_ctx(subject.ctx)]
    gradient_sums.choose(in_place=False)
    with mxnet.failures():
        loop, split = _training(subject, ctxs)
        batches = _endless(split, subject.batch_size)
        times, losses = [time.perf_counter()], []
        for step in range(_WARM_UP + _STEPS):
            teller.doing(f"training step {step + 1} of {_WARM_UP + _STEPS}")
            losses.append(loop.train_step(next(batches)))
            mx.nd.waitall()
            times.append(time.perf_counter())
            timed = step + 1 - _WARM_UP
            if timed >= _LEAST_STEPS and times[-1] - times[_WARM_UP] > _MOST_S:
                break
        memory = ", ".join([_peak_memory(), *_gpu_memory(ctxs)])
    steps = len(losses) - _WARM_UP
    images = steps * min(subject.batch_size, split.records)
    rate = images / (times[-1] - times[_WARM_UP])
    on = "" if len(ctxs) == 1 else f" over {text.counted(len(ctxs), 'device')}"
    seen = (
        f"{text.counted(steps, 'step')} of {subject.batch_size} images{on} at "
        f"{text.format_rate(rate)} img/s; {memory}"
    )
    teller.found(Finding("training", seen, _why_wrong(losses)))
    return {"images_per_s": rate}


def _training(
    subject: Subject, ctxs: list[Any]
) -> tuple[TrainingLoop, packed_folder.Split]:
    packed = packed_folder.open_packed(subject.large)
    weights = np.ones((len(packed.study_types), 2))
    train, valid = packed.split("train"), packed.split("valid")
    data = TrainingData(packed=packed, train=train, valid=valid, weights=weights)
    config = TrainConfig(
        packed.folder,
        Path(subject.folder) / "never-written",
        model=subject.model,
        no_pretrained=True,
        batch_size=subject.batch_size,
        ctx=subject.ctx,
    )
    mxnet.seed(config.seed)
    net = network.build(subject.model, None, ctxs)
    group = process_group.ProcessGroup()
    loop = TrainingLoop(config, data, net, ctxs, group=group, bar=progress.silent)
    return loop, data.train


def _endless(
    split: packed_folder.Split, batch_size: int
) -> Iterator[record_iter.Batch]:
    for epoch in itertools.count(1):
        yield from record_iter.training_batches(split, batch_size, 0, epoch)


def _peak_memory() -> str:
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{text.format_bytes(1024 * kilobytes)} of memory"


def _gpu_memory(ctxs: list[Any]) -> Iterator[str]:
    """Yield how much of each GPU's memory is taken, by all programs."""
    for ctx in ctxs:
        if ctx.device_type == "gpu":
            free, total = mx.context.gpu_memory_info(ctx.device_id)
            taken = text.format_bytes(total - free)
            yield f"{taken} of {text.format_bytes(total)} on {ctx}"


def _why_wrong(losses: list[float]) -> str:
    if all(map(math.isfinite, losses)):
        return ""
    step = next(i for i, loss in enumerate(losses, 1) if not math.isfinite(loss))
    return f"the loss is not finite from step {step} on: report this file"
