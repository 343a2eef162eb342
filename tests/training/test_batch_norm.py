"""BatchNorm's running statistics are averaged over devices and workers."""

from __future__ import annotations

import numpy as np
import pytest

from xenon_mx.distributed.process_group import ProcessGroup
from xenon_mx.models import network
from xenon_mx.runtime.mxnet import mx, nn
from xenon_mx.training import batch_norm


class Group(ProcessGroup):
    """Several workers, of which the others all have statistics of 10."""

    def __init__(self, num_workers):
        self.num_workers = num_workers

    def all_reduce(self, name, values):
        """Add the values of the other workers."""
        return values + 10.0 * (self.num_workers - 1)


@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("devices", [1, 2])
def test_each_device_gets_the_mean_over_devices_and_workers(num_workers, devices):
    ctxs = [mx.cpu(number) for number in range(devices)]
    net = network.Net([nn.BatchNorm(in_channels=2)])
    net.infer_shape(mx.nd.zeros((1, 2, 4, 4)))
    net.initialize(ctx=ctxs)
    norm = net.features[0]
    before = network.state_dict(net)
    values = np.array([[1.0, 2.0], [5.0, 4.0]])[:devices]
    for param in (norm.running_mean, norm.running_var):
        for copy, value in zip(param.list_data(), values):
            copy[:] = mx.nd.array(value)
    batch_norm.average_running_statistics(net, Group(num_workers))
    expected = (values.mean(axis=0) + 10 * (num_workers - 1)) / num_workers
    for param in (norm.running_mean, norm.running_var):
        for copy in param.list_data():
            np.testing.assert_allclose(copy.asnumpy(), expected, rtol=1e-6)
    after = network.state_dict(net)
    for key in before:
        assert "running" in key or (before[key] == after[key]).all()
