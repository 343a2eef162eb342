"""The loss weights of a training, from the counts of its images and its settings.

Owns which weights a setting asks for, and when there are none. Must not know files or
nets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Container, Mapping, Sequence

import numpy as np

from xenon_mx.config import TrainConfig
from xenon_mx.data import mura, single_classes
from xenon_mx.data.mura import ClassWeights
from xenon_mx.errors import XenonError


def loss_weights(
    config: TrainConfig,
    types: Sequence[str],
    present: Container[str],
    weights: Mapping[str, ClassWeights],
    pooled: ClassWeights | None,
    name: str | Path = "",
) -> np.ndarray:
    """Return the loss weights, (T, 2), after a check that none of the paper's is 0.

    Args:
        config: The settings of `xenon-train`.
        types: The study types, by the number that records carry.
        present: Those that images train or validate on.
        weights: By study type, from the training images.
        pooled: Those of all types together; None without training images, for which
            only --loss plain has weights.
        name: What errors call the images; by default the packed folder.

    Raises:
        XenonError: The training images of a study type are all of one class.
    """
    name = name or config.packed
    if config.loss == "plain":
        return np.ones((len(types), 2))
    assert pooled is not None, "the weights are of training images"
    if config.pooled_weights:
        if 0 in pooled:
            raise XenonError(
                f"{name}: the training images are all of one class: "
                f"{single_classes.remedy_of_weights(pooled)}"
            )
        return np.array([pooled] * len(types))
    one_class = mura.single_class_types((t for t in types if t in present), weights)
    if one_class:
        raise XenonError(
            f"{name}: {', '.join(one_class)}: the training images are all of one "
            f"class, and the paper's formula gives a weight of 0: "
            f"{single_classes.remedy_of_weights(pooled)}"
        )
    return np.array([weights.get(t, (1.0, 1.0)) for t in types])
