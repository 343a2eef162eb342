"""Validation: the loss, and kappa and AUROC, of a net on a split.

Owns how a net is measured between epochs. Must not know what follows from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xenon_mx.config import THRESHOLD, TrainConfig
from xenon_mx.data import packed_folder, record_iter
from xenon_mx.evaluation import metrics
from xenon_mx.evaluation.studies import aggregate_studies, score
from xenon_mx.models import forward, network
from xenon_mx.runtime import progress
from xenon_mx.training import losses


@dataclass(frozen=True)
class ValidationData:
    """The split to validate on.

    Attributes:
        packed: Its packed folder.
        valid: The split.
        weights: (T, 2) loss weights of a normal and an abnormal image.
    """

    packed: packed_folder.PackedFolder
    valid: packed_folder.Split
    weights: np.ndarray


class Scores(NamedTuple):
    """What validation measures.

    Attributes:
        loss: Mean over all images.
        kappa: Cohen's kappa over the studies, at a threshold of 0.5.
        auroc: AUROC over the studies.
    """

    loss: float
    kappa: float
    auroc: float


class Validator:
    """Validation of a net, whose weights may change between two calls.

    Args:
        config: The settings of `xenon-train`.
        data: The split and the loss weights.
        net: Initialized on all devices.
        ctxs: The devices that share each batch.
        bar: Shows the progress.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: ValidationData,
        net: network.Net,
        ctxs: list[Any],
        bar: progress.Bar,
    ) -> None:
        self._config = config
        self._split = data.valid
        self._evaluator = network.validation_block(net, config.reference)
        self._ctxs = ctxs
        self._bar = bar
        self._loss = losses.WeightedBCE(data.weights)
        # Labels, study types and studies, which are the same in every epoch.
        columns = list(zip(*data.valid.rows()))[:3]
        self._columns = [np.array(column) for column in columns]

    def validate(self, label: str) -> Scores:
        """Measure the net.

        Args:
            label: What the progress bar is of.
        """
        config, split = self._config, self._split
        labels, types, studies = self._columns
        with self._bar(total=split.records, unit="img", desc=label) as progress_bar:
            batches = record_iter.evaluation_batches(split, config.batch_size)
            pixels = progress.track((batch.pixels for batch in batches), progress_bar)
            logits = forward.logits(
                [self._evaluator], pixels, self._ctxs, config.reference
            )[:, 0]
        prob = metrics.sigmoid(logits)
        by_study = aggregate_studies(studies.tolist(), types.tolist(), labels, prob)
        kappa, auroc = score(by_study.labels, by_study.prob, THRESHOLD)
        return Scores(self._loss.mean(logits, labels, types), kappa, auroc)
