"""What NVIDIA's driver reports, read from stubs of its libraries."""

from __future__ import annotations

import pytest
from support.cuda_stub import build_driver, build_library
from support.fresh_python import output

from xenon_mx.runtime import nvidia_driver
from xenon_mx.runtime.nvidia_driver import Gpu

MEMORY = 24_000_000_000
ASK = "from xenon_mx.runtime import nvidia_driver as driver; print(driver.{})"


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The folder of a stub of NVIDIA's driver, for LD_LIBRARY_PATH."""
    return build_driver(tmp_path_factory.mktemp("driver"))


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("", []),
        ("NVIDIA A10:8.6", [Gpu("NVIDIA A10", (8, 6), MEMORY)]),
        (
            "NVIDIA L4:8.9,NVIDIA RTX PRO 6000:12.0",
            [
                Gpu("NVIDIA L4", (8, 9), MEMORY),
                Gpu("NVIDIA RTX PRO 6000", (12, 0), MEMORY),
            ],
        ),
    ],
)
def test_gpus_are_what_the_driver_reports(driver, listed, expected):
    variables = {"LD_LIBRARY_PATH": str(driver), "CUDA_STUB_GPUS": listed}
    assert output(ASK.format("gpus()"), **variables) == str(expected)


@pytest.mark.parametrize(
    ("number", "expected"), [("12040", (12, 4)), ("10020", (10, 2)), ("0", None)]
)
def test_the_newest_cuda_is_what_the_driver_supports(driver, number, expected):
    variables = {"LD_LIBRARY_PATH": str(driver), "CUDA_STUB_VERSION": number}
    assert output(ASK.format("newest_cuda()"), **variables) == str(expected)


def test_without_a_driver_there_is_nothing(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(nvidia_driver.ctypes, "CDLL", missing)
    assert nvidia_driver.gpus() == []
    assert nvidia_driver.newest_cuda() is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 "
            "19:39:15 UTC 2024\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n",
            "535.183.01",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  "
            "Release Build  (dvs-builder@U16)  Thu Jan 23 22:50:36 UTC 2025\n",
            "570.86.15",
        ),
        ("something else\n", None),
        ("", None),
        (None, None),
    ],
)
def test_the_release_is_that_of_the_kernel_module(
    monkeypatch, tmp_path, text, expected
):
    file = tmp_path / "version"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(nvidia_driver, "_MODULE_VERSION", file)
    assert nvidia_driver.release() == expected


@pytest.mark.parametrize(
    ("name", "major"), [("libcudart.so.11.0", 11), ("libcudart.so.12.4.127", 12)]
)
def test_the_loaded_cuda_is_that_of_the_process(tmp_path, name, major):
    library = tmp_path / "a b" / name
    build_library(library)
    ask = ASK.format("loaded_cuda_major()")
    assert output(ask) == "None"
    load = f"import ctypes; ctypes.CDLL({str(library)!r})"
    assert output(f"{load}; {ask}") == str(major)
