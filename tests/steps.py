"""A worker that trains a small net on records in their order: see test_workers.py.

    python steps.py PACKED OUT.params MODEL BATCH EPOCHS

Without shuffling and augmentation, each worker on its own part of the records.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from xenon_mx import arrays, loops, models, pipeline, progress, training, workers
from xenon_mx.config import TrainConfig
from xenon_mx.engine import mx, nn
from xenon_mx.records import open_packed


def plain_net() -> models.Net:
    """A net without BatchNorm and Dropout."""
    net = models.Net([nn.Conv2D(4, 3, in_channels=3), nn.Activation("relu")])
    net.infer_shape(mx.nd.zeros((1, 3, 32, 32)))
    net.initialize(mx.init.Xavier())
    return net


def consecutive(split, batch_size, seed, epoch, threads, part):
    """The batches of a worker's part of the records, in their order, as they are."""
    iterator = pipeline._iterator(
        split,
        batch_size=batch_size,
        preprocess_threads=1,
        shuffle=False,
        num_parts=part.workers,
        part_index=part.rank,
    )
    for _ in range(pipeline.steps(split, batch_size, part.workers)):
        yield pipeline._copy(next(iterator))


def main(packed: str, out: str, model: str, batch: str, epochs: str) -> None:
    """Train, and write what the first worker ends with, and the learning rates."""
    config = TrainConfig(
        Path(packed),
        Path("unused"),
        no_pretrained=True,
        batch_size=int(batch),
        epochs=int(epochs),
        lr=1e-3,
        min_delta=1e9,  # nothing is better than the first epoch: the rate falls
        kvstore="dist_sync",
    )
    pipeline.training_batches = consecutive
    with workers.join("dist_sync") as group:
        train(config, group, model, Path(out))


def train(config: TrainConfig, group: workers.Alone, model: str, out: Path) -> None:
    """Train as one of the workers."""
    mx.random.seed(7 + group.rank)  # the first worker's weights are to count
    net = plain_net() if model == "plain" else models.build(model)
    data = training._open_data(config, open_packed(config.packed))
    loop = loops.Loop(config, data, net, [mx.cpu()], group, progress.silent)
    loop.begin(None)
    loop.run(None)
    state = models.state(net)
    for key, array in state.items():
        total = group.total(f"end {key}", array) / group.count
        np.testing.assert_allclose(total, array, rtol=1e-6, atol=1e-9)
    rates = np.array([loop._adam.lr], np.float32)
    assert group.total("rate", rates) == group.count * rates
    if group.rank == 0:
        out.write_bytes(arrays.encode({**state, "rate": rates}))


if __name__ == "__main__":
    main(*sys.argv[1:])
