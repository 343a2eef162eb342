"""The CUDA wheel of MXNet as `pip install '.[gpu]'` installs it, on a stub driver.

Downloads 2.5 GB, and needs 5 GB of disk while the tests run. Without a GPU the tests
show that all CUDA libraries are found and loaded, that the CPU works, and which errors
unusable GPUs cause; only the last test needs a GPU.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import paths
from support.cuda_stub import build_driver

from xenon_mx.runtime.mxnet import _CUDA_LIBRARIES

pytestmark = pytest.mark.cuda

INSTALLED = ("setup.py", "pyproject.toml", "README.md", "xenon_mx")
IMPORT = "from xenon_mx.runtime.mxnet import mx"
TO_GPU = "from xenon_mx.runtime import devices; devices.contexts('gpu(0)')"
NEW_VENV = [sys.executable, "-m", "venv"]

# Five training steps on one batch.
TRAIN = """
from xenon_mx.models import network
from xenon_mx.runtime import devices, mxnet
from xenon_mx.runtime.mxnet import autograd, gluon, mx
ctx = devices.contexts("{ctx}")
mxnet.seed(1)
net = network.build("resnet18_v1b", None, ctx)
trainer = gluon.Trainer(
    net.collect_params(), "adam", {{"learning_rate": 1e-4}}, update_on_kvstore=False
)
images = mx.nd.random.normal(shape=(8, 3, 64, 64), ctx=ctx[0])
labels = mx.nd.array([[0], [1]] * 4, ctx=ctx[0])
for _ in range(5):
    with autograd.record():
        loss = gluon.loss.SigmoidBCELoss()(net(images), labels)
    loss.backward()
    trainer.step(8)
    print(loss.mean().asscalar())
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a new virtual environment with xenon's `[gpu]`."""
    folder = tmp_path_factory.mktemp("cuda_wheel")
    for name in INSTALLED:  # a copy: pip builds in the source folder
        source, copy = paths.ROOT / name, folder / "source" / name
        copy.parent.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
    subprocess.run([*NEW_VENV, str(folder / "venv")], check=True)
    interpreter = folder / "venv" / "bin" / "python"
    package = f"{folder / 'source'}[gpu]"
    subprocess.run([interpreter, "-m", "pip", "install", "-q", package], check=True)
    yield interpreter
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def packages(python):
    """The site-packages of that environment."""
    return next(python.parents[1].glob("lib/python3.*/site-packages"))


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The folder of a stub of NVIDIA's driver."""
    return build_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def run(python, driver, tmp_path):
    """A function that runs code in the environment, by default on the stub driver."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "LD_LIBRARY_PATH")
    }

    def run_code(code, **variables):
        return subprocess.run(
            [python, "-c", code],
            cwd=tmp_path,
            env={**environment, "LD_LIBRARY_PATH": str(driver), **variables},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run_code


@pytest.fixture
def output(run):
    """A function that runs code that must succeed, and returns the printed lines."""

    def lines(code, **variables):
        result = run(code, **variables)
        assert result.returncode == 0, result.stderr
        return result.stdout.split("\n")[:-1]

    return lines


@pytest.fixture
def refusal(run):
    """A function that runs code and returns the XenonError that it must raise."""

    def message_of(code, **variables):
        result = run(code, **variables)
        # The stub reports on stderr each call that would use a GPU.
        assert "stub:" not in result.stderr
        error_name, _, message = result.stderr.strip().split("\n")[-1].partition(": ")
        assert error_name == "xenon_mx.errors.XenonError", result.stderr
        return message

    return message_of


def has_driver():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


# The wheels


def test_nvidias_wheels_hold_every_library_by_its_name(packages):
    absent = [
        name for name in _CUDA_LIBRARIES if not (packages / "nvidia" / name).is_file()
    ]
    assert absent == []


def test_mxnet_needs_no_cuda_library_but_those_and_the_driver(packages):
    if shutil.which("readelf") is None:
        pytest.skip("there is no readelf")
    dynamic = subprocess.run(
        ["readelf", "-d", str(packages / "mxnet" / "libmxnet.so")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    needed = set(re.findall(r"NEEDED.*\[(lib(?:cu|nccl|nv)\S+)\]", dynamic))
    assert "libcudnn.so.8" in needed
    assert needed - {Path(name).name for name in _CUDA_LIBRARIES} == {"libcuda.so.1"}


def test_cuda_libraries_are_those_of_the_environment(output, packages):
    code = f"{IMPORT}\nprint(open('/proc/self/maps').read())"
    maps = "\n".join(output(code))
    for name in _CUDA_LIBRARIES:
        assert str(packages.resolve() / "nvidia" / name) in maps


def test_cudnn_finds_all_of_its_parts(output):
    # libcudnn.so.8 opens each of the six on first use, and aborts if that fails.
    code = f"""{IMPORT}
import ctypes
cudnn = ctypes.CDLL("libcudnn.so.8")
for part in ("Ops", "Cnn", "Adv"):
    for use in ("Infer", "Train"):
        print(getattr(cudnn, f"cudnn{{part}}{{use}}VersionCheck")())
"""
    assert output(code) == ["0"] * 6


def test_nvrtc_compiles_a_kernel(output):
    # MXNet uses NVRTC to fuse operators; NVRTC finds libnvrtc-builtins by itself.
    code = f"""{IMPORT}
import ctypes
nvrtc, program = ctypes.CDLL("libnvrtc.so.11.2"), ctypes.c_void_p()
kernel = b'extern "C" __global__ void one(float *x) {{ x[0] = 1; }}'
print(nvrtc.nvrtcCreateProgram(ctypes.byref(program), kernel, b"one", 0, None, None))
options = (ctypes.c_char_p * 1)(b"--gpu-architecture=compute_86")
print(nvrtc.nvrtcCompileProgram(program, 1, options))
"""
    assert output(code) == ["0", "0"]


def test_failures_recognizes_the_messages_of_this_cuda(output):
    code = f"""{IMPORT}
import ctypes
from xenon_mx.runtime import mxnet
cudart, cudnn = ctypes.CDLL("libcudart.so.11.0"), ctypes.CDLL("libcudnn.so.8")
# cudaErrorMemoryAllocation, cudaErrorNoKernelImageForDevice, CUDNN_STATUS_ALLOC_FAILED
for error_string, number in (
    (cudart.cudaGetErrorString, 2),
    (cudart.cudaGetErrorString, 209),
    (cudnn.cudnnGetErrorString, 2),
):
    error_string.restype = ctypes.c_char_p
    try:
        with mxnet.failures():
            raise mx.base.MXNetError(error_string(number).decode())
    except mxnet.XenonError as error:
        print(str(error).split(":")[0])
"""
    full = "the GPU's memory is full"
    assert output(code) == [full, "this MXNet has no machine code for this GPU", full]


# No GPU


def test_cpu_computes_where_the_driver_has_no_gpu(output):
    code = f"""{IMPORT}
print(mx.runtime.Features().is_enabled("CUDA"), mx.context.num_gpus())
print((mx.nd.ones((2, 3)) * 3).sum().asscalar())
"""
    assert output(code) == ["True 0", "18.0"]


def test_cpu_trains_where_the_driver_has_no_gpu(output):
    losses = output(TRAIN.format(ctx="cpu()"))
    assert len(losses) == 5
    assert 0 < float(losses[-1]) < float(losses[0]) < 10


def test_gpu_is_refused_where_the_driver_has_none(refusal):
    assert refusal(TO_GPU) == (
        "--ctx gpu(0): NVIDIA's driver reports no GPU; check with nvidia-smi; or "
        "use --ctx 'cpu()'"
    )


def test_default_is_the_cpu_where_the_driver_has_no_gpu(run):
    code = """
import logging
from xenon_mx.runtime import devices
logging.basicConfig(level=logging.INFO, format="%(message)s")
print(devices.contexts(None))
"""
    result = run(code)
    assert result.stdout == "[cpu(0)]\n"
    assert result.stderr == (
        "ctx: cpu(0), not a GPU: NVIDIA's driver reports no GPU; check with "
        "nvidia-smi\n"
    )


def test_import_without_a_driver_says_that_it_needs_one(refusal):
    if has_driver():
        pytest.skip("this machine has NVIDIA's driver")
    assert refusal(IMPORT, LD_LIBRARY_PATH="").startswith(
        "mxnet-cu112 needs NVIDIA's driver (libcuda.so.1), which is not installed"
    )


def test_import_without_nvidias_wheels_says_how_to_get_them(refusal):
    assert refusal(f"import sys; sys.modules['nvidia'] = None\n{IMPORT}") == (
        "mxnet-cu112 lacks CUDA's libcudnn.so.8: pip install '.[gpu]' in "
        "a checkout of xenon"
    )


def test_import_without_one_of_nvidias_wheels_says_which(refusal, packages):
    cublas = packages / "nvidia" / "cublas"
    cublas.rename(packages / "hidden")
    try:
        # cuSOLVER needs it, and is loaded before MXNet is.
        assert refusal(IMPORT) == (
            "mxnet-cu112 lacks CUDA's libcublas.so.11: pip install '.[gpu]' in "
            "a checkout of xenon"
        )
    finally:
        (packages / "hidden").rename(cublas)


# GPUs that cannot be used


@pytest.mark.parametrize("listed", ["NVIDIA H100:9.0", "Tesla K80:3.7"])
def test_gpu_without_code_is_refused_before_mxnet_touches_it(refusal, listed):
    name, capability = listed.split(":")
    assert refusal(TO_GPU, CUDA_STUB_GPUS=listed).startswith(
        f"--ctx gpu(0): mxnet-cu112 1.9.1 has no machine code for {name} (compute "
        f"capability {capability}), only for 5.0 to 8.9"
    )


def test_gpu_under_a_driver_older_than_cuda_11_wants_a_newer_one(refusal):
    assert refusal(
        TO_GPU, CUDA_STUB_GPUS="NVIDIA A10:8.6", CUDA_STUB_VERSION="10020"
    ).startswith("--ctx gpu(0): MXNet's CUDA 11 cannot use NVIDIA A10 with this driver")


# A real GPU


def test_gpu_trains(output):
    if not has_driver():
        pytest.skip("this machine has no NVIDIA driver")
    real = os.environ.get("LD_LIBRARY_PATH", "")
    losses = output(TRAIN.format(ctx="gpu(0)"), LD_LIBRARY_PATH=real)
    assert len(losses) == 5
    assert 0 < float(losses[-1]) < float(losses[0]) < 10
