"""The question whether MXNet computes on a device, in a process of its own.

The device is the CPU of the real MXNet, or a GPU of a stand-in that fails in the ways
in which an MXNet fails on a GPU that it has no code for. No GPU was ever asked.
"""

from __future__ import annotations

import ast
import signal

import numpy as np
import pytest
from support.child_processes import run_until_written, wait_for_end
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


# Other output of the process. Its code is replaced: none of this needs an MXNet.

START = """
import atexit, os, subprocess, sys, time
sys.path[:] = {path!r}
from types import SimpleNamespace
from xenon_mx.runtime import child_process, gpu_probe
child_process.end_with_parent()
"""
ANSWER = """
gpu_probe.wrong_operators = lambda ctx: ["convolution"]
gpu_probe.mxnet = SimpleNamespace(mx=SimpleNamespace(Context=lambda *device: None))
gpu_probe.answer({device_type!r}, {device_id!r})
"""
# Writes the ids of two processes, and sleeps.
SLEEP = """
child = subprocess.Popen(["sleep", "600"])
with open(FILE, "w") as stream:
    print(os.getpid(), child.pid, file=stream)
time.sleep(600)
"""
CALLER = """
from xenon_mx.runtime import gpu_probe
gpu_probe._CHILD = CODE
gpu_probe.ask("gpu", 0)
"""


def ask(monkeypatch, *code, limit=60.0):
    """Ask a process that runs other code."""
    monkeypatch.setattr(gpu_probe, "_CHILD", "\n".join([START, *code]))
    return gpu_probe.ask("gpu", 0, limit)


def sleep(file):
    """Return the code that sleeps after it has written its processes to a file."""
    return SLEEP.replace("FILE", repr(str(file)))


def wait_for_ends(file):
    """Wait for the end of the processes whose ids are in a file."""
    for pid in file.read_text().split():
        wait_for_end(int(pid))


@pytest.mark.parametrize(
    "line",
    [
        "atexit.register(print, 'bye')",
        "os.write(1, bytes([0xff, 0xfe, 10]))",
        "print('[]')",
        "print('no end of a line', end='')",
    ],
)
def test_other_output_is_no_answer(monkeypatch, line):
    for code in ([line, ANSWER], [ANSWER, line]):
        expected = (gpu_probe.Fault.WRONG, "convolution")
        assert ask(monkeypatch, *code)[:2] == expected


def test_a_process_that_ends_without_an_answer_has_failed(monkeypatch):
    fault, detail, _ = ask(monkeypatch, "print('[]')")
    assert (fault, detail) == (gpu_probe.Fault.FAILED, "it ended without an answer")


def test_a_process_that_was_started_and_stays_is_not_waited_for(monkeypatch, tmp_path):
    file = tmp_path / "pids"
    code = sleep(file).replace("time.sleep(600)", "")
    answer = ask(monkeypatch, ANSWER, code)
    assert answer.fault == gpu_probe.Fault.WRONG
    assert answer.seconds < 30
    wait_for_ends(file)


def test_a_process_that_is_silent_is_killed_with_all_that_it_started(
    monkeypatch, tmp_path
):
    file = tmp_path / "pids"
    fault, detail, _ = ask(monkeypatch, sleep(file), limit=3.0)
    assert (fault, detail) == (gpu_probe.Fault.SILENT, "no answer in 3 s")
    wait_for_ends(file)


def test_ctrl_c_ends_the_question_at_once(monkeypatch, tmp_path):
    file = tmp_path / "pids"

    def interrupt(*_):
        if file.exists() and file.read_text():
            raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            ask(monkeypatch, sleep(file))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    wait_for_ends(file)


def test_a_caller_that_is_killed_leaves_no_process(tmp_path):
    file = tmp_path / "pids"
    code = CALLER.replace("CODE", repr(START + sleep(file)))
    caller = run_until_written(code, file)
    caller.kill()
    caller.wait()
    wait_for_ends(file)
