"""The question whether MXNet computes on a device, in a process of its own.

The device is the CPU of the real MXNet, or a GPU of a stand-in that fails in the ways
in which an MXNet fails on a GPU that it has no code for. No GPU was ever asked.
"""

from __future__ import annotations

import ast

import numpy as np
import pytest
from support.cuda_mxnet import CUDA_MXNET
from support.fresh_python import install, output

from xenon_mx.runtime import gpu_probe
from xenon_mx.runtime.mxnet import mx, nd

ASK = """
from xenon_mx.runtime import gpu_probe
answer = gpu_probe.ask("gpu", 0, {limit})
print([answer.fault.name if answer.fault else None, answer.detail])
"""


def test_the_cpu_answers_right():
    answer = gpu_probe.ask("cpu", 1)
    assert answer[:2] == (None, "")
    assert 0 < answer.seconds < 60


def test_every_operator_is_right_on_the_cpu():
    assert gpu_probe.wrong_operators(mx.cpu()) == []


@pytest.mark.parametrize("value", [2, np.nan])
@pytest.mark.parametrize(
    ("operator", "name"), [("dot", "matrix product"), ("Convolution", "convolution")]
)
def test_an_operator_that_is_wrong_in_one_value_is_named(
    monkeypatch, operator, name, value
):
    right = getattr(nd, operator)

    def wrong(*arguments, **options):
        array = right(*arguments, **options).asnumpy()
        array.flat[-1] += value
        return mx.nd.array(array)

    monkeypatch.setattr(nd, operator, wrong)
    assert gpu_probe.wrong_operators(mx.cpu()) == [name]


@pytest.fixture
def answer(site):
    """A function that asks a stand-in with a fault, and returns fault and detail."""
    install(site, "mxnet", CUDA_MXNET)

    def ask(fault, limit=60):
        code = ASK.format(limit=limit)
        return ast.literal_eval(output(code, site, CUDA_MXNET_FAULT=fault))

    return ask


def test_a_gpu_that_computes_right_has_no_fault(answer):
    assert answer("") == [None, ""]


@pytest.mark.parametrize("fault", ["wrong", "nan"])
def test_a_gpu_that_computes_something_else_is_wrong(answer, fault):
    assert answer(fault) == ["WRONG", "matrix product"]


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (
            "Name: mxnet_generic_kernel ErrStr:no kernel image is available for",
            "NO_CODE",
        ),
        ("CUBLAS_STATUS_ARCH_MISMATCH", "NO_CODE"),
        ("CUDA driver version is insufficient for CUDA runtime version", "OLD_DRIVER"),
        (
            "the provided PTX was compiled with an unsupported toolchain.",
            "OLD_DRIVER",
        ),
        ("cudaMalloc retry failed: out of memory", "FULL"),
    ],
)
def test_the_messages_of_cuda_tell_the_fault(answer, message, fault):
    name, detail = answer(message)
    assert name == fault
    assert message in detail


def test_another_error_is_its_line_without_the_trace_of_cpp(answer):
    name, detail = answer("an illegal memory access was encountered")
    assert name == "FAILED"
    assert detail.startswith("exit status 1: ")
    assert detail.endswith("an illegal memory access was encountered")


def test_a_process_that_aborts_is_a_fault_of_the_device(answer):
    assert answer("abort") == ["FAILED", "SIGABRT: terminate called after throwing"]


def test_a_device_without_an_answer_is_given_up(answer):
    assert answer("hang", limit=2) == ["SILENT", "no answer in 2 s"]
