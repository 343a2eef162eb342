"""One graph of Gluon nets, whichever version of onnx writes it."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest

from xenon_mx.inference import onnx_graph
from xenon_mx.models import network
from xenon_mx.runtime.mxnet import mx

SIZE = 64
# Of the graph that onnx 1.14.1 wrote, which has the onnx.mapping that 1.17 removed.
WRITTEN_BY_1_14 = "91352eb1bdc0e386c5f751d0696dcf54661585f3e4cd526f0470d5004cace26c"


def graph():
    """Return the bytes of a graph whose weights depend on nothing but this line."""
    net = network.build("mobilenet0.25", reference=True)
    random = np.random.RandomState(0)
    for param in net._collect_params_with_prefix().values():
        param.set_data(mx.nd.array(random.uniform(0.1, 1, param.shape)))
    model = onnx_graph.merge([onnx_graph.convert(net, SIZE)], SIZE, {"key": "value"})
    return model.SerializeToString()


def test_every_onnx_writes_the_bytes_that_an_old_one_wrote():
    assert hashlib.sha256(graph()).hexdigest() == WRITTEN_BY_1_14


@pytest.mark.parametrize("has_mapping", [False, True])
def test_onnx_is_left_as_it_was(monkeypatch, has_mapping):
    """With the module that old versions have, and without it."""
    if has_mapping:
        monkeypatch.setattr(onnx, "mapping", "theirs", raising=False)
    else:
        monkeypatch.delattr(onnx, "mapping", raising=False)
    before = dict(vars(onnx))
    graph()
    assert vars(onnx) == before


def test_onnx_is_left_as_it_was_after_an_error(monkeypatch):
    monkeypatch.delattr(onnx, "mapping", raising=False)
    monkeypatch.setattr(onnx.helper, "make_graph", None)
    with pytest.raises(TypeError):
        graph()
    assert not hasattr(onnx, "mapping")
