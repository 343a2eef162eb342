"""Sums of gradients: MXNet reads its variable once, so a process has one kind."""

from __future__ import annotations

import pytest
from support.fresh_python import output, refusal

# An array that six layers read; the operators that add its gradients up.
OPERATORS = """
import os
from xenon_mx.runtime import gradient_sums
from xenon_mx.runtime.mxnet import autograd, gluon, mx
profiler = mx.profiler

class Shared(gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        parts = F.exp, F.sigmoid, F.tanh, F.square, F.sin, F.cos
        return sum((part(x) for part in parts[1:]), parts[0](x))

def adds():
    block = Shared()
    block.hybridize(
        static_alloc=True, static_shape=True, forward_bulk_size=1, backward_bulk_size=1
    )
    x = mx.nd.ones((4,))
    x.attach_grad()
    options = {"profile_symbolic": True, "aggregate_stats": True}
    profiler.set_config(filename=os.environ["PROFILE"], **options)
    profiler.set_state("run")
    with autograd.record():
        y = block(x)
    y.backward()
    mx.nd.waitall()
    profiler.set_state("stop")
    return "add_n" in profiler.dumps(reset=True)
"""


def test_in_place_no_operator_adds_them_at_the_end(tmp_path):
    for in_place in (False, True):
        code = f"{OPERATORS}gradient_sums.choose({in_place}); print(adds())"
        assert output(code, PROFILE=str(tmp_path / "p.json")) == str(not in_place)


@pytest.mark.parametrize("first", [True, False])
def test_another_kind_in_the_same_process_is_refused(first):
    code = (
        "from xenon_mx.runtime import gradient_sums\n"
        f"for in_place in {(first, first, not first)}: gradient_sums.choose(in_place)"
    )
    said = refusal(None, code)
    words = ("with", "without") if first else ("without", "with")
    assert f"trained {words[0]} amp, and {words[1]} it" in said
    assert said.endswith("start a new process")


def test_a_variable_of_the_user_decides_for_both(monkeypatch):
    monkeypatch.setenv("MXNET_EXEC_INPLACE_GRAD_SUM_CAP", "3")
    code = (
        "import os\n"
        "from xenon_mx.runtime import gradient_sums\n"
        "for in_place in (True, False, True): gradient_sums.choose(in_place)\n"
        "print(os.environ['MXNET_EXEC_INPLACE_GRAD_SUM_CAP'])"
    )
    assert output(code) == "3"
