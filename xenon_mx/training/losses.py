"""The paper's weighted binary cross entropy. Knows no data and no nets.

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
        table: (T, 2) weights: of a normal and of an abnormal image of each of the T
            study types. All ones gives the plain loss.
    """

    def __init__(self, table: np.ndarray) -> None:
        self._table = np.asarray(table, dtype=np.float32)

    def weights(self, labels: np.ndarray, study_types: np.ndarray) -> np.ndarray:
        """Look up each image's weight: (N,) float32."""
        return self._table[study_types.astype(int), labels.astype(int)]

    def __call__(self, logits: Any, labels: Any, weights: Any) -> Any:
        """Give each image's loss.

        Args:
            logits: (N, 1) NDArray.
            labels: (N, 1) NDArray of 0 and 1.
            weights: (N, 1) NDArray. As (N,), Gluon would broadcast them to N x N and
                give every image the mean weight.

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
        """Average over all N images of a split: the validation loss.

        Args:
            logits: (N,).
            labels: (N,) of 0 and 1.
            study_types: (N,) indices into the table.
        """
        # In float64, so that nearly perfect nets still differ from one another. As
        # Gluon's loss does: max(x, 0) - x y + log(1 + e^-|x|) cannot overflow.
        x = np.asarray(logits, np.float64)
        losses = np.maximum(x, 0) - x * labels + np.log1p(np.exp(-np.abs(x)))
        return float((losses * self.weights(labels, study_types)).mean())
