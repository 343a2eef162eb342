"""What is installed, and which devices are usable: on a stub of NVIDIA's driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support.checks import Told
from support.cuda_stub import build_driver
from support.paths import ROOT

from xenon_mx.diagnosis import libraries
from xenon_mx.diagnosis.finding import Finding
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.runtime import mxnet_build, nvidia_driver
from xenon_mx.runtime.mxnet import mx
from xenon_mx.runtime.nvidia_driver import Gpu

GB = 10**9
A10 = Gpu("NVIDIA A10", (8, 6), 24 * GB)
H100 = Gpu("NVIDIA H100", (9, 0), 80 * GB)


def subject(model="mobilenet0.25"):
    return Subject(model, 32, 8, (), "/nowhere")


def check(ctx=None):
    told = Told()
    return told, libraries.check(subject(), told, ctx)["devices"]


@pytest.fixture
def gpus(monkeypatch):
    """Patch MXNet to be the CUDA wheel, and the driver to report the given GPUs."""

    def patch(*reported, cuda=11, newest=(12, 4), counted=None):
        class Features(dict):
            def is_enabled(self, name):
                return name == "CUDA"

        build = mxnet_build.Build("mxnet-cu112", "1.9.1")
        count = len(reported) if counted is None else counted
        monkeypatch.setattr(mx.runtime, "Features", lambda: Features(CUDA=1))
        monkeypatch.setattr(mx.context, "num_gpus", lambda: count)
        monkeypatch.setattr(mxnet_build, "installed", lambda: build)
        for name, value in (
            *(("gpus", list(reported)), ("newest_cuda", newest)),
            *(("loaded_cuda_major", cuda), ("release", "550.54.15")),
        ):
            monkeypatch.setattr(nvidia_driver, name, lambda value=value: value)

    return patch


def test_without_a_gpu_the_cpu_is_checked():
    told, usable = check()
    assert usable == ["cpu(0)"]
    assert told.wrong() == []
    lines = [finding.line for finding in told.findings]
    assert lines[-1] == "device cpu(0): MXNet can use it: ok"
    assert any(line.startswith("MXNet: mxnet 1.9.1, with MKLDNN") for line in lines)


def test_devices_that_are_named_are_checked():
    told, usable = check("cpu(0),cpu(1)")
    assert usable == ["cpu(0)", "cpu(1)"]
    assert told.wrong() == []


def test_every_gpu_is_checked_by_default(gpus):
    gpus(A10, A10)
    told, usable = check()
    assert usable == ["gpu(0)", "gpu(1)"]
    assert told.wrong() == []
    lines = [finding.line for finding in told.findings]
    assert "gpu(1): NVIDIA A10, compute capability 8.6, 24.0 GB" in lines
    assert "NVIDIA's driver: 550.54.15, for CUDA up to 12.4" in lines


def test_a_gpu_that_is_too_new_is_wrong_and_the_others_are_used(gpus):
    gpus(H100, A10)
    told, usable = check()
    assert usable == ["gpu(1)"]
    assert told.wrong() == ["device gpu(0)"]
    (line,) = [finding.line for finding in told.findings if finding.wrong]
    assert line.startswith(
        "device gpu(0): WRONG: mxnet-cu112 1.9.1 has no machine code for NVIDIA H100 "
        "(compute capability 9.0), only for 5.0 to 8.9: "
    )


def test_a_driver_that_is_too_old_is_wrong_and_the_cpu_is_used(gpus):
    gpus(A10, newest=(10, 2), counted=0)
    told, usable = check()
    assert usable == ["cpu(0)"]
    assert told.wrong() == ["device gpu(0)"]
    (line,) = [finding.line for finding in told.findings if finding.wrong]
    assert "with this driver (up to CUDA 10.2): update NVIDIA's driver" in line


def test_a_gpu_that_was_asked_for_is_not_replaced_by_the_cpu(gpus):
    gpus(H100)
    told, usable = check("gpu(0)")
    assert usable == []
    assert told.wrong() == ["device gpu(0)"]


def test_a_cuda_wheel_without_a_gpu_is_wrong(gpus):
    gpus()
    told, usable = check()
    assert usable == ["cpu(0)"]
    assert told.wrong() == ["device gpu(0)"]


ON_STUB = """
import json
from support.checks import Told
from xenon_mx.diagnosis import libraries
from xenon_mx.diagnosis.subject import Subject
told = Told()
usable = libraries.check(Subject("mobilenet0.25", 32, 8, (), ""), told, None)
print(json.dumps([usable["devices"], told.findings]))
"""


def test_the_cpu_wheel_beside_a_gpu_is_wrong_on_the_stub_driver(tmp_path):
    """What the driver reports is read by ctypes, as on a computer with a GPU."""
    driver = build_driver(tmp_path)
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(driver),
        "CUDA_STUB_GPUS": "NVIDIA A10:8.6,NVIDIA H100:9.0",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    }
    done = subprocess.run(
        [sys.executable, "-c", ON_STUB],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    usable, found = json.loads(done.stdout)
    findings = [Finding(*each) for each in found]
    assert usable == ["cpu(0)"]
    lines = [finding.line for finding in findings]
    assert "gpu(1): NVIDIA H100, compute capability 9.0, 24.0 GB" in lines
    assert any(line.endswith("for CUDA up to 12.4") for line in lines)
    wrong = [finding for finding in findings if finding.wrong]
    assert [finding.name for finding in wrong] == ["device gpu(0)", "device gpu(1)"]
    assert all("is built without CUDA" in finding.wrong for finding in wrong)
    assert "stub:" not in done.stderr  # nothing has computed on a GPU
