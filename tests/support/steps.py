"""A worker that trains a small net on records in file order: see test_process_group.py.

    python steps.py PACKED OUT.params MODEL BATCH EPOCHS

Without shuffling and augmentation; each worker has its own part of the records.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from xenon_mx.commands import train as training
from xenon_mx.config import TrainConfig
from xenon_mx.data import record_iter
from xenon_mx.data.packed_folder import open_packed
from xenon_mx.distributed import process_group
from xenon_mx.models import network, weight_files
from xenon_mx.runtime import progress
from xenon_mx.runtime.mxnet import mx, nn
from xenon_mx.training import loop as loops


def plain_net() -> network.Net:
    """A net without BatchNorm and Dropout."""
    net = network.Net([nn.Conv2D(4, 3, in_channels=3), nn.Activation("relu")])
    net.infer_shape(mx.nd.zeros((1, 3, 32, 32)))
    net.initialize(mx.init.Xavier())
    return net


def consecutive(split, batch_size, seed, epoch, threads, part):
    """Yield the batches of a worker's part of the records, in order, unaugmented."""
    iterator = record_iter._iterator(
        split,
        batch_size=batch_size,
        preprocess_threads=1,
        shuffle=False,
        num_parts=part.workers,
        part_index=part.rank,
    )
    for _ in range(record_iter.steps_per_epoch(split, batch_size, part.workers)):
        yield record_iter._copy(next(iterator))


def main(packed: str, out: str, model: str, batch: str, epochs: str) -> None:
    """Train, and write rank 0's final weights and learning rate."""
    config = TrainConfig(
        Path(packed),
        Path("unused"),
        no_pretrained=True,
        batch_size=int(batch),
        epochs=int(epochs),
        lr=1e-3,
        min_delta=1e9,  # no epoch improves on the first: the rate falls
        kvstore="dist_sync",
    )
    record_iter.training_batches = consecutive
    with process_group.join("dist_sync") as group:
        train(config, group, model, Path(out))


def train(
    config: TrainConfig, group: process_group.ProcessGroup, model: str, out: Path
) -> None:
    """Train as one worker."""
    mx.random.seed(7 + group.rank)  # rank 0's weights must be broadcast
    net = plain_net() if model == "plain" else network.build(model)
    data = training._open_data(config, open_packed(config.packed))
    loop = loops.TrainingLoop(config, data, net, [mx.cpu()], group, progress.silent)
    loop.restore(None)
    loop.run(None)
    state = network.state_dict(net)
    for key, array in state.items():
        total = group.all_reduce(f"end {key}", array) / group.num_workers
        np.testing.assert_allclose(total, array, rtol=1e-6, atol=1e-9)
    rates = np.array([loop._adam.lr], np.float32)
    assert group.all_reduce("rate", rates) == group.num_workers * rates
    if group.rank == 0:
        out.write_bytes(weight_files.encode({**state, "rate": rates}))


if __name__ == "__main__":
    main(*sys.argv[1:])
