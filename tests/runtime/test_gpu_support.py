"""Whether MXNet can use a GPU, and the one sentence that says why not.

The GPUs, the builds and what they answer are made up: no GPU was at hand. The tests at
the end ask for real, with stand-ins of the driver and of MXNet.
"""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from support.cuda_mxnet import CUDA_MXNET
from support.cuda_stub import build_driver, build_library
from support.fresh_python import install, output, refusal

from xenon_mx.runtime import gpu_probe, gpu_support, mxnet_build, nvidia_driver
from xenon_mx.runtime.gpu_probe import Answer, Fault
from xenon_mx.runtime.mxnet import mx
from xenon_mx.runtime.mxnet_build import Build
from xenon_mx.runtime.nvidia_driver import Gpu

CPU_WHEEL = Build("mxnet", "1.9.1")
CUDA_WHEEL = Build("mxnet-cu112", "1.9.1")
OTHER = Build("mxnet", "1.9.1")  # the NGC image, for one, or built from source


def named(name, major, minor):
    return Gpu(name, (major, minor), 24_000_000_000)


A10 = named("NVIDIA A10", 8, 6)
L4 = named("NVIDIA L4", 8, 9)
H100 = named("NVIDIA H100", 9, 0)
B200 = named("NVIDIA B200", 10, 0)
K80 = named("Tesla K80", 3, 7)

USE_EXTRA = "pip uninstall mxnet, then pip install '.[gpu]' in a checkout of xenon"
FOR_HOPPER = (
    "use the MXNet of NVIDIA's container mxnet:24.06-py3 (docs/deploy.md), or predict "
    "from an .onnx of xenon-export"
)
FOR_NEWER = (
    "no MXNet 1 is known that can use it; train on another GPU, and predict here from "
    "an .onnx of xenon-export"
)


@pytest.fixture
def world(monkeypatch):
    """Make a computer: its build of MXNet, GPUs, CUDA, and what the probe answers."""

    def make(
        build, *gpus, counted=None, cuda=11, driver=(12, 4), fault=None, detail=""
    ):
        asked = []

        def ask(device_type, device_id):
            asked.append((device_type, device_id))
            return Answer(fault, detail, 4.2)

        features = SimpleNamespace(
            is_enabled=lambda name: bool(cuda) and name == "CUDA"
        )
        count = len(gpus) if counted is None else counted
        monkeypatch.setattr(mx.runtime, "Features", lambda: features)
        monkeypatch.setattr(mx.context, "num_gpus", lambda: count)
        monkeypatch.setattr(mxnet_build, "installed", lambda: build)
        monkeypatch.setattr(nvidia_driver, "gpus", lambda: list(gpus))
        monkeypatch.setattr(nvidia_driver, "loaded_cuda_major", lambda: cuda)
        monkeypatch.setattr(nvidia_driver, "newest_cuda", lambda: driver)
        monkeypatch.setattr(gpu_probe, "ask", ask)
        gpu_support._ask.cache_clear()
        return asked

    yield make
    gpu_support._ask.cache_clear()


# Without CUDA, without a GPU


@pytest.mark.parametrize("gpus", [(), (A10,)])
def test_an_mxnet_without_cuda_is_told_the_one_with_it(world, gpus):
    world(CPU_WHEEL, *gpus, cuda=None)
    assert gpu_support.why_unusable(0) == (
        f"mxnet 1.9.1 is built without CUDA; for a GPU: {USE_EXTRA}"
    )


def test_an_mxnet_without_cuda_beside_a_hopper_is_not_sent_in_vain(world):
    world(CPU_WHEEL, H100, cuda=None)
    assert gpu_support.why_unusable(0) == (
        "mxnet 1.9.1 is built without CUDA; for NVIDIA H100 (compute capability 9.0): "
        + FOR_HOPPER
    )


@pytest.mark.parametrize("build", [CUDA_WHEEL, OTHER])
def test_no_gpu_is_sent_to_nvidia_smi(world, build):
    world(build)
    assert gpu_support.why_unusable(0) == (
        "NVIDIA's driver reports no GPU; check with nvidia-smi"
    )


@pytest.mark.parametrize("build", [CUDA_WHEEL, OTHER])
def test_a_gpu_beyond_the_last_is_told_the_highest(world, build):
    world(build, A10, L4)
    assert gpu_support.why_unusable(2) == (
        "there is no such GPU: the highest is gpu(1)"
    )


# The known wheels


@pytest.mark.parametrize("name", ["mxnet-cu112", "mxnet-cu117"])
@pytest.mark.parametrize("capability", [(5, 0), (6, 1), (7, 5), (8, 6), (8, 9)])
def test_a_known_wheel_runs_what_it_has_code_for_and_is_not_asked(
    world, name, capability
):
    asked = world(Build(name, "1.9.1"), named("NVIDIA X", *capability))
    assert gpu_support.why_unusable(0) is None
    assert asked == []


@pytest.mark.parametrize(
    ("gpu", "described", "remedy"),
    [
        (K80, "Tesla K80 (compute capability 3.7)", "use a newer GPU"),
        (H100, "NVIDIA H100 (compute capability 9.0)", FOR_HOPPER),
        (B200, "NVIDIA B200 (compute capability 10.0)", FOR_NEWER),
        (
            named("RTX 5090", 12, 0),
            "RTX 5090 (compute capability 12.0)",
            FOR_NEWER,
        ),
    ],
)
def test_a_known_wheel_refuses_what_it_has_no_code_for(world, gpu, described, remedy):
    asked = world(CUDA_WHEEL, A10, gpu)
    assert gpu_support.why_unusable(1) == (
        f"mxnet-cu112 1.9.1 has no machine code for {described}, only for 5.0 to 8.9: "
        f"{remedy}"
    )
    assert asked == []


@pytest.mark.parametrize(
    ("cuda", "driver", "sentence"),
    [
        (
            11,
            (10, 2),
            "MXNet's CUDA 11 cannot use NVIDIA A10 with this driver (up to CUDA "
            "10.2): update NVIDIA's driver, to 450.80 or newer",
        ),
        (
            12,
            (11, 4),
            "MXNet's CUDA 12 cannot use NVIDIA A10 with this driver (up to CUDA "
            "11.4): update NVIDIA's driver, to 525.60 or newer",
        ),
    ],
)
def test_a_driver_older_than_cuda_is_told_the_oldest_that_does(
    world, cuda, driver, sentence
):
    asked = world(OTHER, A10, cuda=cuda, driver=driver)
    assert gpu_support.why_unusable(0) == sentence
    assert asked == []


@pytest.mark.parametrize("driver", [(11, 0), (11, 4), (12, 4), (13, 0)])
def test_a_driver_of_the_same_major_version_or_newer_will_do(world, driver):
    world(CUDA_WHEEL, A10, cuda=11, driver=driver)
    assert gpu_support.why_unusable(0) is None


def test_a_gpu_that_mxnet_does_not_count_wants_a_newer_driver(world):
    world(CUDA_WHEEL, A10, counted=0)
    assert gpu_support.why_unusable(0).startswith(
        "MXNet's CUDA 11 cannot use NVIDIA A10 with this driver (up to CUDA 12.4): "
        "update NVIDIA's driver"
    )


def test_an_mxnet_that_cannot_count_has_no_gpu(world, monkeypatch):
    def fails():
        raise mx.base.MXNetError("CUDA driver version is insufficient")

    world(CUDA_WHEEL, A10)
    monkeypatch.setattr(mx.context, "num_gpus", fails)
    assert "update NVIDIA's driver" in gpu_support.why_unusable(0)


# Any other build


@pytest.mark.parametrize("gpu", [A10, H100, B200])
def test_another_build_that_computes_right_may_use_any_gpu(world, caplog, gpu):
    asked = world(OTHER, gpu, L4)
    with caplog.at_level(logging.INFO):
        assert gpu_support.why_unusable(0) is None
    assert gpu_support.why_unusable(0) is None  # is asked once
    assert gpu_support.why_unusable(1) is None
    assert asked == [("gpu", 0), ("gpu", 1)]
    assert caplog.messages == [
        f"gpu(0): asking mxnet 1.9.1 whether it can compute on {gpu.name}, which takes "
        "minutes if the driver has to compile its kernels",
        "gpu(0): it can (4 s)",
    ]


@pytest.mark.parametrize(
    ("gpu", "described", "remedy"),
    [
        (
            A10,
            "NVIDIA A10 (compute capability 8.6)",
            f"xenon's own MXNet can use it: {USE_EXTRA}",
        ),
        (H100, "NVIDIA H100 (compute capability 9.0)", FOR_HOPPER),
        (B200, "NVIDIA B200 (compute capability 10.0)", FOR_NEWER),
        (K80, "Tesla K80 (compute capability 3.7)", "use a newer GPU"),
    ],
)
@pytest.mark.parametrize(
    ("fault", "detail", "sentence"),
    [
        (Fault.NO_CODE, "...", "mxnet 1.9.1 has no machine code for {}: "),
        (
            Fault.WRONG,
            "convolution",
            "mxnet 1.9.1 computes a wrong convolution on {}: ",
        ),
        (
            Fault.FAILED,
            "SIGABRT: an illegal instruction",
            "mxnet 1.9.1 cannot compute on {} (SIGABRT: an illegal instruction): ",
        ),
        (
            Fault.SILENT,
            "no answer in 1200 s",
            "mxnet 1.9.1 cannot compute on {} (no answer in 1200 s): ",
        ),
    ],
)
def test_another_build_that_fails_is_told_what_can_use_the_gpu(
    world, gpu, described, remedy, fault, detail, sentence
):
    world(OTHER, gpu, fault=fault, detail=detail)
    assert gpu_support.why_unusable(0) == sentence.format(described) + remedy


def test_a_gpu_without_free_memory_is_not_said_to_be_unsupported(world):
    world(OTHER, H100, fault=Fault.FULL)
    assert gpu_support.why_unusable(0) == (
        "the memory of NVIDIA H100 is full; check with nvidia-smi which programs use it"
    )


def test_an_old_driver_may_be_found_by_asking(world):
    world(OTHER, H100, cuda=12, driver=(12, 0), fault=Fault.OLD_DRIVER)
    assert gpu_support.why_unusable(0).startswith(
        "MXNet's CUDA 12 cannot use NVIDIA H100 with this driver (up to CUDA 12.0)"
    )


# Asked for real: a stub of the driver, and an MXNet that computes with NumPy

TAKE = "from xenon_mx.runtime import devices; print(devices.contexts({}))"
HOPPER = "NVIDIA H100 80GB HBM3:9.0"


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The folder of a stub of NVIDIA's driver, for LD_LIBRARY_PATH."""
    return build_driver(tmp_path_factory.mktemp("driver"))


def test_a_known_wheel_takes_what_the_driver_reports(site, driver):
    install(site, "mxnet-cu112", CUDA_MXNET)
    variables = {"LD_LIBRARY_PATH": str(driver), "CUDA_STUB_GPUS": "NVIDIA L4:8.9"}
    assert output(TAKE.format("None"), site, **variables) == "['gpu(0)']"


@pytest.mark.parametrize("listed", [HOPPER, "Tesla K80:3.7"])
def test_a_known_wheel_refuses_what_the_driver_reports(site, driver, listed):
    install(site, "mxnet-cu112", CUDA_MXNET)
    name, capability = listed.split(":")
    assert refusal(
        site,
        TAKE.format("'gpu(0)'"),
        LD_LIBRARY_PATH=str(driver),
        CUDA_STUB_GPUS=listed,
        CUDA_MXNET_FAULT="abort",  # it is not asked
    ).startswith(
        f"--ctx gpu(0): mxnet-cu112 1.9.1 has no machine code for {name} (compute "
        f"capability {capability}), only for 5.0 to 8.9: "
    )


def test_another_build_that_computes_right_takes_a_hopper(site, driver):
    install(site, "mxnet", CUDA_MXNET)
    variables = {"LD_LIBRARY_PATH": str(driver), "CUDA_STUB_GPUS": HOPPER}
    assert output(TAKE.format("None"), site, **variables) == "['gpu(0)']"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("no kernel image is available", "mxnet 1.9.1 has no machine code for"),
        ("wrong", "mxnet 1.9.1 computes a wrong matrix product on"),
        ("abort", "mxnet 1.9.1 cannot compute on"),
    ],
)
def test_another_build_that_fails_refuses_a_hopper(site, driver, fault, reason):
    install(site, "mxnet", CUDA_MXNET)
    assert refusal(
        site,
        TAKE.format("'gpu(0)'"),
        LD_LIBRARY_PATH=str(driver),
        CUDA_STUB_GPUS=HOPPER,
        CUDA_MXNET_FAULT=fault,
    ).startswith(
        f"--ctx gpu(0): {reason} NVIDIA H100 80GB HBM3 (compute capability 9.0)"
    )


def test_a_driver_that_is_older_than_the_cuda_that_was_loaded_is_refused(
    site, driver, tmp_path
):
    library = tmp_path / "libcudart.so.12"
    build_library(library)
    code = f"import ctypes\nctypes.CDLL({str(library)!r})\n{CUDA_MXNET}"
    install(site, "mxnet", code)
    assert refusal(
        site,
        TAKE.format("'gpu(0)'"),
        LD_LIBRARY_PATH=str(driver),
        CUDA_STUB_GPUS=HOPPER,
        CUDA_STUB_VERSION="11040",
    ) == (
        "--ctx gpu(0): MXNet's CUDA 12 cannot use NVIDIA H100 80GB HBM3 with this "
        "driver (up to CUDA 11.4): update NVIDIA's driver, to 525.60 or newer; or use "
        "--ctx 'cpu()'"
    )
