"""The loop of training: epoch after epoch of one net on one data set.

Owns the step, the validation and what is decided after an epoch. Knows neither where
data and weights come from nor how a run is kept.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import Any, Iterator, Mapping

import numpy as np

from xenon_mx.config import MEMBERS, SMALLEST_LR, THRESHOLD, TrainConfig
from xenon_mx.data import packed_folder, record_iter
from xenon_mx.distributed import process_group
from xenon_mx.errors import XenonError
from xenon_mx.evaluation import metrics
from xenon_mx.models import forward, network
from xenon_mx.runs import run_folder
from xenon_mx.runs.top_epochs import TopEpochs
from xenon_mx.runtime import mxnet, progress
from xenon_mx.runtime.mxnet import autograd
from xenon_mx.training import batch_norm, losses, optimizers
from xenon_mx.training.lr_schedule import ReduceLROnPlateau

_log = logging.getLogger(__name__)

# Chosen here: above this share, another decoding thread is worth its core. An epoch
# shorter than that many seconds waits for its first batch, mostly.
_MOST_WAIT, _LEAST_S = 0.1, 10


@dataclass(frozen=True)
class TrainingData:
    """What to train and to validate on."""

    packed: packed_folder.PackedFolder
    train: packed_folder.Split
    valid: packed_folder.Split
    table: np.ndarray  # (T, 2) weights of a normal and of an abnormal image


class TrainingLoop:
    """One epoch after another of one net on one data set."""

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        net: network.Net,
        ctxs: list[Any],
        group: process_group.ProcessGroup,
        bar: progress.Bar,
    ) -> None:
        self._group = group
        self._config = config
        self._data = data
        self._net = net
        self._evaluator = network.validation_block(net, config.reference)
        self._ctxs = ctxs
        self._bar = bar
        self._loss = losses.WeightedBCE(data.table)
        # Labels, study types and studies, read once and not at every epoch.
        columns = list(zip(*data.valid.rows()))[:3]
        self._valid_columns = [np.array(column) for column in columns]
        min_lr = max(config.min_lr, SMALLEST_LR)
        self._plateau = ReduceLROnPlateau(
            config.lr, config.patience, config.min_delta, min_lr
        )
        self._best = TopEpochs(MEMBERS)
        self._frozen = config.freeze_epochs > 0
        self._adam = self._new_adam()
        self._finished = 0
        self._done = False

    def _new_adam(self) -> optimizers.Adam:
        """Make an optimizer for what is to be trained now."""
        trained = self._net.output if self._frozen else self._net
        return optimizers.Adam(trained, self._config.lr, self._group)

    def restore(self, last: run_folder.TrainingState | None) -> None:
        """Take every worker to where the first one stands.

        Args:
            last: Where the run stands; None begins it, or is not for this worker to
                know.
        """
        known = last and [last.epoch, last.steps, last.handlers, last.done]
        known = self._group.broadcast(known)
        network.load_state_dict(self._net, self._shared(last.net if last else None))
        if not known:
            return
        self._finished, steps, handlers, self._done = known
        self._plateau.load_state_dict(handlers["plateau"])
        self._best.load_state_dict(handlers["best"])
        if self._frozen and self._finished > self._config.freeze_epochs:
            self._unfreeze()
        moments = last.trainer if last else self._adam.zero_state()
        self._adam.restore(self._broadcast_arrays("moment", moments), steps)

    def _shared(self, net: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
        """Give the first worker's net, or the one that it is to begin with."""
        return self._broadcast_arrays("weight", net or network.state_dict(self._net))

    def _broadcast_arrays(
        self, what: str, arrays: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Give the first worker's arrays: all the others add zeros."""
        own = 1.0 if self._group.rank == 0 else 0.0
        return {
            key: self._group.all_reduce(f"{what} {key}", own * array)
            for key, array in sorted(arrays.items())
        }

    def _last(self, number: int) -> run_folder.TrainingState:
        """Give what `restore` takes to go on after an epoch."""
        trainer, steps = self._adam.state()
        handlers = {
            "plateau": self._plateau.state_dict(),
            "best": self._best.state_dict(),
        }
        net = network.state_dict(self._net)
        return run_folder.TrainingState(
            number, net, trainer, steps, handlers, self._done
        )

    def run(self, run: run_folder.Run | None) -> None:
        """Train every epoch that is left; without a run, for the first worker's."""
        for number in range(self._finished + 1, self._config.epochs + 1):
            if self._done:
                break
            epoch = self.epoch(number, self._plateau.lr)
            self._best.step(number, epoch.val_loss)
            # While most of the net is frozen, a plateau says nothing of its rate.
            if number > self._config.freeze_epochs:
                self._done = not self._plateau.step(epoch.val_loss)
            if run:
                run.save(epoch, self._last(number), self._best.ranked)
                _report(epoch, self._config.epochs, self._best)
        if self._done and run:
            _log.info("the loss stopped falling at the lowest learning rate")

    def _unfreeze(self) -> None:
        self._frozen = False
        self._adam = self._new_adam()

    def epoch(self, number: int, lr: float) -> run_folder.EpochRecord:
        """Train on every image once and validate."""
        start = time.perf_counter()
        mxnet.seed(record_iter.epoch_seed(self._config.seed, number, self._group.rank))
        if self._frozen and number > self._config.freeze_epochs:
            _log.info("from epoch %d on, all of the net is trained", number)
            self._unfreeze()
        self._adam.lr = lr
        waiting = _Stopwatch()
        train_loss, images = self._train(number, waiting)
        trained, wait_share = time.perf_counter() - start, waiting.share
        if wait_share > _MOST_WAIT and trained > _LEAST_S:
            _log.warning(
                "%.0f%% of the time was spent waiting for images: more decoding "
                "threads (--threads %d) would help",
                100 * wait_share,
                2 * self._config.threads,
            )
        # On the first worker alone, whose word the others take: a learning rate that
        # differed by a rounding would part their weights.
        scores = self._validate(number) if self._group.rank == 0 else None
        val_loss, kappa, auroc = self._group.broadcast(scores)
        return run_folder.EpochRecord(
            number,
            train_loss,
            val_loss,
            kappa,
            auroc,
            lr,
            images / trained,
            wait_share,
            time.perf_counter() - start,
        )

    def _train(self, number: int, waiting: _Stopwatch) -> tuple[float, int]:
        """Take an epoch's steps; give the mean loss and the number of images."""
        config, split = self._config, self._data.train
        part = record_iter.Part(self._group.rank, self._group.num_workers)
        batches = record_iter.training_batches(
            split, config.batch_size, config.seed, number, config.threads, part
        )
        steps = record_iter.steps(
            split, config.batch_size, part.workers, config.threads
        )
        batch_size = min(config.batch_size, split.records)
        total, images = 0.0, 0
        label = f"epoch {number}/{config.epochs}"
        with self._bar(total=steps * batch_size, unit="img", desc=label) as shown:
            for step, batch in enumerate(waiting.over(batches)):
                loss = self._step(batch)
                if not math.isfinite(loss):
                    raise XenonError(
                        f"the loss is {loss} at step {step + 1} of epoch {number}: "
                        f"try a lower --lr than {self._adam.lr:g}; the "
                        f"epochs before this one are in {config.run}"
                    )
                total += loss * len(batch.pixels)
                images += len(batch.pixels)
                shown.set_postfix(
                    loss=f"{total / images:.4f}",
                    wait=f"{waiting.share:.0%}",
                    refresh=False,
                )
                shown.update(len(batch.pixels))
        batch_norm.average_running_statistics(self._net, self._group)
        totals = self._group.all_reduce("loss", np.array([total, images]))
        return float(totals[0] / totals[1]), int(totals[1])

    def _step(self, batch: record_iter.Batch) -> float:
        """Move the weights by one batch; give its mean loss."""
        labels = batch.labels[:, 0]
        weights = self._loss.weights(labels, batch.labels[:, 1])
        spread = [
            forward.split_to_devices(array, self._ctxs)
            for array in (batch.pixels, labels.reshape(-1, 1), weights.reshape(-1, 1))
        ]
        results = []
        with autograd.record():
            for pixels, label, weight in zip(*spread):
                logits = self._forward(network.normalise(pixels))
                results.append(self._loss(logits, label, weight))
        autograd.backward(results)
        # Waits for the loss, before a loss that is not finite could spoil the weights
        # and so that MXNet's queue cannot grow without bound.
        loss = float(np.concatenate([each.asnumpy() for each in results]).mean())
        if math.isfinite(loss):
            self._adam.step(len(batch.pixels))
        return loss

    def _forward(self, images: Any) -> Any:
        """Run the net for training; the frozen layers as they run for prediction.

        So BatchNorm normalises by the statistics it was pretrained with, and leaves
        them; and Dropout before the last layer rests.
        """
        if not self._frozen:
            return self._net(images)
        with autograd.pause(train_mode=False):
            pooled = self._net.features(images)
        return self._net.output(pooled)

    def _validate(self, number: int) -> tuple[float, float, float]:
        """Give the validation loss, and kappa and AUROC over studies."""
        split = self._data.valid
        labels, types, studies = self._valid_columns
        label = f"validating {number}/{self._config.epochs}"
        with self._bar(total=split.records, unit="img", desc=label) as shown:
            batches = record_iter.evaluation_batches(split, self._config.batch_size)
            pixels = progress.track((batch.pixels for batch in batches), shown)
            logits = forward.logits(
                [self._evaluator], pixels, self._ctxs, self._config.reference
            )[:, 0]
        prob = metrics.sigmoid(logits)
        _, by_study = metrics.study_means(
            studies.tolist(), np.stack([labels, prob], axis=1)
        )
        truth, mean = by_study[:, 0].round().astype(int), by_study[:, 1]
        return (
            self._loss.mean(logits, labels, types),
            metrics.kappa(truth, (mean > THRESHOLD).astype(int)),
            metrics.auroc(truth, mean),
        )


class _Stopwatch:
    """Adds up the time that a loop waits for its next item."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._start = time.perf_counter()

    @property
    def share(self) -> float:
        """The share of all the time until now that was spent waiting."""
        return self.seconds / (time.perf_counter() - self._start)

    def over(self, items: Iterator[Any]) -> Iterator[Any]:
        """Pass items on, timing how long each takes to come."""
        while True:
            start = time.perf_counter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - start
            yield item


def _report(epoch: run_folder.EpochRecord, epochs: int, best: TopEpochs) -> None:
    ranks = {each.epoch: rank for rank, each in enumerate(best.ranked, 1)}
    rank = ranks.get(epoch.epoch)
    _log.info(
        "epoch %d/%d  train %.4f  valid %.4f  kappa %.3f  AUROC %.3f  lr %.0e  "
        "%.1f img/s  %s%s",
        epoch.epoch,
        epochs,
        epoch.train_loss,
        epoch.val_loss,
        epoch.kappa,
        epoch.auroc,
        epoch.lr,
        epoch.images_per_s,
        _duration(epoch.seconds),
        f"  best {rank}" if rank else "",
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
