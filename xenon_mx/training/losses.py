"""The paper's weighted binary cross entropy.

Owns the loss of training and of validation. Must not know data or nets.

L = -w(T, 1) y log p - w(T, 0) (1 - y) log(1 - p), for an image of study type T with
label y and p the sigmoid of the net's logit (Rajpurkar et al., arXiv 1712.06957v4,
section 3). The weights come from the training images, also for the validation loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xenon_mx.runtime import mxnet


class WeightedBCE:
    """Binary cross entropy on logits, weighted by study type and label.

    Args:
        table: (T, 2) weights of a normal and an abnormal image, per study type. All
            ones is the loss without weights.
    """

    def __init__(self, table: np.ndarray) -> None:
        self._table = np.asarray(table, dtype=np.float32)

    def weights(self, labels: np.ndarray, study_types: np.ndarray) -> np.ndarray:
        """Return the weight of each image, (N,) float32.

        Args:
            labels: (N,) of 0 and 1.
            study_types: (N,) indices into the table.
        """
        return self._table[study_types.astype(int), labels.astype(int)]

    def __call__(self, logits: Any, labels: Any, weights: Any) -> Any:
        """Compute the loss of each image.

        Args:
            logits: (N, 1) NDArray.
            labels: (N, 1) NDArray of 0 and 1.
            weights: (N, 1) NDArray. Gluon would broadcast (N,) to (N, N), which weighs
                every image by the mean weight.

        Returns:
            (N,) NDArray.
        """
        if not logits.shape == labels.shape == weights.shape == (len(logits), 1):
            raise ValueError(
                f"expected three (N, 1) arrays, got {logits.shape}, {labels.shape}, "
                f"{weights.shape}"
            )
        bce = mxnet.gluon.loss.SigmoidBinaryCrossEntropyLoss(from_sigmoid=False)
        return bce(logits, labels, weights)

    def mean(
        self, logits: np.ndarray, labels: np.ndarray, study_types: np.ndarray
    ) -> float:
        """Compute the mean loss over N images: the validation loss.

        Args:
            logits: (N,).
            labels: (N,) of 0 and 1.
            study_types: (N,) indices into the table.
        """
        # In float64, so that nearly perfect nets still differ. As in Gluon's loss,
        # max(x, 0) - x y + log(1 + e^-|x|) cannot overflow.
        x = np.asarray(logits, np.float64)
        losses = np.maximum(x, 0) - x * labels + np.log1p(np.exp(-np.abs(x)))
        return float((losses * self.weights(labels, study_types)).mean())
