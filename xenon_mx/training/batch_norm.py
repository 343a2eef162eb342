"""BatchNorm's running statistics over several devices and workers."""

from __future__ import annotations

import numpy as np

from xenon_mx.distributed.process_group import ProcessGroup
from xenon_mx.models.network import Net
from xenon_mx.runtime.mxnet import mx


def average_running_statistics(net: Net, group: ProcessGroup) -> None:
    """Give all devices of all workers the mean of BatchNorm's running statistics.

    Each device keeps those of the images that it saw; the weights are the same on all.
    """
    # MXNet updates the statistics on the way back through the net, and does not let
    # whoever reads them wait for it: without this, the last batch would be missing, or
    # overwrite what is shared here.
    mx.nd.waitall()
    for key, param in net._collect_params_with_prefix().items():
        copies = param.list_data()
        if param.grad_req == "null" and len(copies) * group.num_workers > 1:
            mean = np.mean([copy.asnumpy() for copy in copies], axis=0)
            mean = group.all_reduce(key, mean) / group.num_workers
            param.set_data(mx.nd.array(mean))
