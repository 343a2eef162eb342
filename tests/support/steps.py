"""A worker that trains a small net on records in their order.

    python steps.py PACKED OUT.params MODEL BATCH EPOCHS

For test_process_group.py: without shuffling and augmentation, each worker on its part
of the records.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from xenon_mx.commands import train_inputs
from xenon_mx.config import TrainConfig
from xenon_mx.data import record_iter
from xenon_mx.data.packed_folder import open_packed
from xenon_mx.distributed import process_group
from xenon_mx.models import network, weight_files
from xenon_mx.runtime import progress
from xenon_mx.runtime.mxnet import mx, nn
from xenon_mx.training.loop import TrainingLoop


def plain_net() -> network.Net:
    """A net without BatchNorm and Dropout."""
    net = network.Net([nn.Conv2D(4, 3, in_channels=3), nn.Activation("relu")])
    net.infer_shape(mx.nd.zeros((1, 3, 32, 32)))
    net.initialize(mx.init.Xavier())
    return net


def consecutive(split, batch_size, seed, epoch, threads, part):
    """Yield a worker's training batches in record order, without augmentation."""
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
    """Train; rank 0 writes the params and the learning rate at the end."""
    config = TrainConfig(
        Path(packed),
        Path("unused"),
        no_pretrained=True,
        batch_size=int(batch),
        epochs=int(epochs),
        lr=1e-3,
        min_delta=1e9,  # no epoch is better than the first: the rate falls
        kvstore="dist_sync",
    )
    record_iter.training_batches = consecutive
    with process_group.join("dist_sync") as group:
        train_net(config, group, model, Path(out))


def train_net(
    config: TrainConfig, group: process_group.ProcessGroup, model: str, out: Path
) -> None:
    """Train as one of the workers."""
    mx.random.seed(7 + group.rank)  # rank 0's weights are broadcast
    net = plain_net() if model == "plain" else network.build(model)
    data = train_inputs.open_data(config, open_packed(config.packed))
    silent = progress.silent
    loop = TrainingLoop(config, data, net, [mx.cpu()], group=group, bar=silent)
    loop.restore(None)
    loop.run(None)
    state = network.state_dict(net)
    for key, array in state.items():
        total = group.all_reduce(f"end {key}", array) / group.num_workers
        np.testing.assert_allclose(total, array, rtol=1e-6, atol=1e-9)
    rates = np.array([loop._optimizer.lr], np.float32)
    assert group.all_reduce("rate", rates) == group.num_workers * rates
    if group.rank == 0:
        out.write_bytes(weight_files.encode({**state, "rate": rates}))


if __name__ == "__main__":
    main(*sys.argv[1:])
