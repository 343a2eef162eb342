"""The training loop: all epochs of one net on one data set.

Owns the training step and the decisions after each epoch, except for the learning rate
(`lr_schedule`). Must not know where data and weights come from, how a net is validated,
or how a run is saved.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import Any, Mapping

import numpy as np

from xenon_mx.config import MEMBERS, SMALLEST_LR, TrainConfig
from xenon_mx.data import packed_folder, record_iter
from xenon_mx.distributed import process_group
from xenon_mx.errors import XenonError
from xenon_mx.models import forward, mixed_precision, network
from xenon_mx.runs import run_folder
from xenon_mx.runs.epoch_log import EpochRecord
from xenon_mx.runs.top_epochs import TopEpochs
from xenon_mx.runs.training_state import TrainingState
from xenon_mx.runtime import json_numbers, mxnet, progress
from xenon_mx.runtime.half_precision import FLOAT16
from xenon_mx.runtime.mxnet import autograd
from xenon_mx.training import batch_norm, epoch_lines, losses, optimizers, timing
from xenon_mx.training.loss_scale import LossScale
from xenon_mx.training.lr_schedule import ReduceLROnPlateau
from xenon_mx.training.validator import ValidationData, Validator

_log = logging.getLogger(__name__)

# Chosen here: above this share, one more decoding thread is worth its core. An epoch
# shorter than _MIN_WARN_S mostly waits for its first batch.
_MAX_WAIT_SHARE, _MIN_WARN_S = 0.1, 10


@dataclass(frozen=True)
class TrainingData(ValidationData):
    """The splits to train and to validate on.

    Attributes:
        train: The training split.
    """

    train: packed_folder.Split


class TrainingLoop:
    """Training of a net, epoch by epoch.

    Args:
        config: The settings of `xenon-train`.
        data: The splits and the loss weights.
        net: Initialized on all devices.
        ctxs: The devices that share each batch.
        group: The workers that train the same net.
        bar: Shows the progress of each epoch.
        amp: The 16-bit type in which the net computes while it trains, as
            `half_precision.dtype` returns it; None is float32.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        net: network.Net,
        ctxs: list[Any],
        group: process_group.ProcessGroup,
        bar: progress.Bar,
        amp: str | None = None,
    ) -> None:
        self._group = group
        self._config = config
        self._data = data
        self._net = net
        # The same parameters: what is trained in 16 bits is validated in float32.
        self._trained_net = net
        if amp is not None:
            self._trained_net = mixed_precision.MixedPrecisionNet(
                net, amp, config.reference
            )
        self._loss_scale = LossScale() if amp == FLOAT16 else None
        self._validator = Validator(config, data, net, ctxs, bar)
        self._ctxs = ctxs
        self._bar = bar
        self._loss = losses.WeightedBCE(data.weights)
        self._lr_schedule = ReduceLROnPlateau(
            config.lr,
            config.patience,
            config.min_delta,
            max(config.min_lr, SMALLEST_LR),
        )
        self._top_epochs = TopEpochs(MEMBERS)
        self._is_frozen = config.freeze_epochs > 0
        self._optimizer = self._new_optimizer()
        self._run_timer = timing.RunTimer(config.epochs, data.valid.records)
        self._epoch = 0  # the last finished epoch
        self._done = False

    def _new_optimizer(self) -> optimizers.Adam:
        trainable = self._net.output if self._is_frozen else self._net
        return optimizers.Adam(
            trainable, self._config.lr, self._group, self._loss_scale
        )

    def restore(self, last: TrainingState | None) -> None:
        """Restore rank 0's training state on all workers.

        Args:
            last: The state to continue from, on rank 0; None to train from the start,
                and on other workers.

        Raises:
            XenonError: The state is damaged, or of another net.
        """
        state = last and [last.epoch, last.steps, last.handlers, last.done]
        state = self._group.broadcast(state)
        net = last.net if last else network.lazy_state_dict(self._net)
        network.load_state_dict(self._net, self._broadcast_arrays("weight", net))
        if not state:
            return
        self._epoch, steps, handlers, self._done = state
        try:
            self._lr_schedule.load_state_dict(handlers["plateau"])
            self._top_epochs.load_state_dict(handlers["best"])
            if self._loss_scale:
                self._loss_scale.load_state_dict(handlers["loss_scale"])
        except (KeyError, TypeError, ValueError) as error:
            raise XenonError(
                f"{self._config.run}: damaged: the state of its learning rate "
                f"schedule, best epochs or loss scale is not as xenon-train wrote it"
            ) from error
        if self._is_frozen and self._epoch > self._config.freeze_epochs:
            self._unfreeze()
        moments = last.trainer if last else self._optimizer.zero_state()
        moments = self._broadcast_arrays("moment", moments)
        self._optimizer.load_state(moments, steps)

    def _broadcast_arrays(
        self, prefix: str, arrays: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return rank 0's arrays: their sum with zeros of all other workers."""
        factor = 1.0 if self._group.rank == 0 else 0.0
        return {
            key: self._group.all_reduce(f"{prefix} {key}", factor * array)
            for key, array in sorted(arrays.items())
        }

    def _state(self) -> TrainingState:
        """Return the state after the last finished epoch, for `restore`."""
        trainer, steps = self._optimizer.state()
        handlers = {
            "plateau": self._lr_schedule.state_dict(),
            "best": self._top_epochs.state_dict(),
        }
        if self._loss_scale:
            handlers["loss_scale"] = self._loss_scale.state_dict()
        return TrainingState(
            epoch=self._epoch,
            net=network.lazy_state_dict(self._net),
            trainer=trainer,
            steps=steps,
            handlers=handlers,
            done=self._done,
        )

    def run(self, run: run_folder.Run | None) -> None:
        """Train the remaining epochs.

        Args:
            run: Where rank 0 saves each epoch; None on other workers.
        """
        for epoch in range(self._epoch + 1, self._config.epochs + 1):
            if self._done:
                break
            record = self.train_epoch(epoch, self._lr_schedule.lr)
            self._epoch = epoch
            self._top_epochs.step(epoch, record.val_loss)
            # A plateau while most of the net is frozen does not count: the other
            # layers have yet to be trained at this learning rate.
            if epoch > self._config.freeze_epochs:
                self._done = not self._lr_schedule.step(record.val_loss)
            if run:
                run.save(record, self._state(), self._top_epochs.ranked)
                ranked = [kept.epoch for kept in self._top_epochs.ranked]
                _log.info(epoch_lines.finished(record, self._config.epochs, ranked))
        if self._done and run:
            _log.info("training ended: the loss reached a plateau at the lowest rate")

    def _unfreeze(self) -> None:
        self._is_frozen = False
        self._optimizer = self._new_optimizer()

    def train_epoch(self, epoch: int, lr: float) -> EpochRecord:
        """Train on each image once, then validate.

        Args:
            epoch: Number of the epoch, from 1.
            lr: The learning rate.

        Raises:
            XenonError: The training loss is not finite.
        """
        start = time.perf_counter()
        mxnet.seed(record_iter.epoch_seed(self._config.seed, epoch, self._group.rank))
        if self._is_frozen and epoch > self._config.freeze_epochs:
            _log.info("from epoch %d on, all layers are trained", epoch)
            self._unfreeze()
        self._optimizer.lr = lr
        timer = timing.WaitTimer()
        train_loss, images = self._train(epoch, timer)
        train_seconds, wait_share = time.perf_counter() - start, timer.share
        if wait_share > _MAX_WAIT_SHARE and train_seconds > _MIN_WARN_S:
            _log.warning(epoch_lines.waiting(wait_share, self._config.threads))
        # Only rank 0 validates: losses that differ by rounding could give the workers
        # different learning rates, and their weights would diverge.
        scores = None
        if self._group.rank == 0:
            label = f"validating {epoch}/{self._config.epochs}"
            scores = [*map(json_numbers.to_json, self._validator.validate(label))]
        scores = self._group.broadcast(scores)
        val_loss, kappa, auroc = map(json_numbers.from_json, scores)
        return EpochRecord(
            epoch=epoch,
            train_loss=train_loss,
            val_loss=val_loss,
            kappa=kappa,
            auroc=auroc,
            lr=lr,
            images_per_s=images / train_seconds,
            wait_share=wait_share,
            seconds=time.perf_counter() - start,
            finished=round(time.time(), 3),
        )

    def _train(self, epoch: int, timer: timing.WaitTimer) -> tuple[float, int]:
        """Train on every batch of an epoch; return the mean loss and image count."""
        config, split = self._config, self._data.train
        part = record_iter.Part(self._group.rank, self._group.num_workers)
        batches = record_iter.training_batches(
            split,
            config.batch_size,
            seed=config.seed,
            epoch=epoch,
            threads=config.threads,
            part=part,
        )
        steps = record_iter.steps_per_epoch(
            split, config.batch_size, part.workers, config.threads
        )
        total = steps * min(config.batch_size, split.records)
        loss_sum, images = 0.0, 0
        self._run_timer.start_epoch(epoch, total)
        label = f"epoch {epoch}/{config.epochs}"
        with self._bar(total=total, unit="img", desc=label) as progress_bar:
            for step, batch in enumerate(timer.iterate(batches), 1):
                loss = self.train_step(batch)
                if not math.isfinite(loss):
                    raise XenonError(
                        f"the loss is {loss} at step {step} of epoch {epoch}: try a "
                        f"lower --lr than {self._optimizer.lr:g}; the epochs before "
                        f"this one are in {config.run}"
                    )
                loss_sum += loss * len(batch.pixels)
                images += len(batch.pixels)
                # Steps that train the last layer alone tell nothing of later ones, and
                # other workers would say the same.
                if self._group.rank == 0 and not self._is_frozen:
                    self._run_timer.step(len(batch.pixels))
                mean, share = f"{loss_sum / images:.4f}", f"{timer.share:.0%}"
                progress_bar.set_postfix(loss=mean, wait=share, refresh=False)
                progress_bar.update(len(batch.pixels))
        batch_norm.average_running_statistics(self._net, self._group)
        sums = self._group.all_reduce("loss", np.array([loss_sum, images]))
        return float(sums[0] / sums[1]), int(sums[1])

    def train_step(self, batch: record_iter.Batch) -> float:
        """Update the weights on one batch; return its mean loss.

        A loss that is not finite leaves the weights as they are.
        """
        labels = batch.labels[:, 0]
        weights = self._loss.weights(labels, batch.labels[:, 1])
        device_arrays = [
            forward.split_to_devices(array, self._ctxs)
            for array in (batch.pixels, labels.reshape(-1, 1), weights.reshape(-1, 1))
        ]
        device_losses = []
        with autograd.record():
            for pixels, label, weight in zip(*device_arrays):
                logits = self._forward(network.normalise(pixels))
                device_losses.append(self._loss(logits, label, weight))
            scaled = self._scaled(device_losses)
        autograd.backward(scaled)
        # Reading the loss waits for it: before the update, so that the weights stay
        # finite, and at every step, so that MXNet's queue stays short.
        loss = float(
            np.concatenate([array.asnumpy() for array in device_losses]).mean()
        )
        if math.isfinite(loss):
            self._optimizer.step(len(batch.pixels))
        return loss

    def _scaled(self, device_losses: list[Any]) -> list[Any]:
        """Multiply losses by the loss scale, if there is one."""
        if self._loss_scale is None:
            return device_losses
        scale = self._loss_scale.value
        return [device_loss * scale for device_loss in device_losses]

    def _forward(self, images: Any) -> Any:
        """Run the net in training mode, its frozen layers in prediction mode.

        In prediction mode, BatchNorm uses the pretrained statistics and leaves them
        unchanged, and Dropout is off.
        """
        if not self._is_frozen:
            return self._trained_net(images)
        with autograd.pause(train_mode=False):
            features = self._trained_net.features(images)
        return self._net.output(features)
