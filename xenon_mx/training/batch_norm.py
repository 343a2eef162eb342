"""BatchNorm's running statistics over several devices and workers.

Owns how they are averaged. Must not know the training loop.
"""

from __future__ import annotations

import numpy as np

from xenon_mx.distributed.process_group import ProcessGroup
from xenon_mx.models.network import Net
from xenon_mx.runtime.mxnet import mx


def average_running_statistics(net: Net, group: ProcessGroup) -> None:
    """Replace BatchNorm's running statistics by their mean over devices and workers.

    Each device has the statistics of its own images; the weights are the same on all.
    """
    # MXNet updates the statistics in the backward pass, and a read does not wait for
    # that: without this line, the last batch would be missing, or overwrite the mean.
    mx.nd.waitall()
    for key, param in net._collect_params_with_prefix().items():
        copies = param.list_data()
        if param.grad_req == "null" and len(copies) * group.num_workers > 1:
            mean = np.mean([copy.asnumpy() for copy in copies], axis=0)
            mean = group.all_reduce(key, mean) / group.num_workers
            param.set_data(mx.nd.array(mean))
