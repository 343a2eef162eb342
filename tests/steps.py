"""A worker that trains a small net on a given order of images: see test_workers.py.

    python steps.py PACKED OUT.params MODEL BATCH EPOCHS

Without shuffling and augmentation: step k of all the workers together sees the images
k * B to (k + 1) * B, B being the images of all the workers.
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
    """The batches of a worker: its share of each of the common ones."""
    batches = list(pipeline.evaluation_batches(split, batch_size * part.workers))
    for batch in batches:
        if len(batch.pixels) == batch_size * part.workers:
            own = slice(part.rank * batch_size, (part.rank + 1) * batch_size)
            yield pipeline.Batch(batch.pixels[own], batch.labels[own])


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
        arrays.write(out, {**state, "rate": rates})


if __name__ == "__main__":
    main(*sys.argv[1:])
