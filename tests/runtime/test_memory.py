"""Too little memory ends in a one-line error, whatever a library raises."""

from __future__ import annotations

import errno
import re
import subprocess
import sys

import pytest

from xenon_mx import cli, exit_status
from xenon_mx.runtime import memory, mxnet
from xenon_mx.runtime.mxnet_build import Build

COMMANDS = {
    "pack": ["MURA-v1.1", "out"],
    "train": ["packed", "out", "--no-pretrained"],
    "predict": ["MURA-v1.1/valid", "out.csv", "--run", "run"],
    "decide": ["run", "table.csv"],
    "export": ["run", "out.onnx"],
    "report": ["run", "-o", "out.html"],
    "launch": ["-n", "2", "--", "xenon-train", "packed", "out"],
}


def run(command, *args, megabytes, cwd):
    """Run a command with a limited address space; return (status, stderr)."""
    script = f'ulimit -v {megabytes << 10} && exec "$@"'
    code = f"from xenon_mx import cli; cli.{command}()"
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-c", code, *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("megabytes", [100, 400])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_limit_that_is_too_low_is_named_before_anything_is_imported(
    command, megabytes, tmp_path
):
    status, err = run(command, *COMMANDS[command], megabytes=megabytes, cwd=tmp_path)
    assert status == 1
    assert err.startswith("error: too little memory: ")
    assert f"the limit is {megabytes} (ulimit -v)" in err
    assert err.count("\n") == 1


def test_checking_a_packed_folder_is_refused_alike(tmp_path):
    status, err = run("pack", "--check", "packed", megabytes=100, cwd=tmp_path)
    assert status == 1
    assert err.startswith("error: too little memory: ")


def test_fewer_threads_take_less(monkeypatch):
    monkeypatch.setattr(memory, "usable_cores", lambda: 8)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    requirement = memory.Requirement(100, 10)
    assert requirement.total() == 180
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert requirement.total() == 120
    monkeypatch.setenv("OMP_NUM_THREADS", "100")  # OpenBLAS starts no more than cores
    assert requirement.total() == 180


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError("/lib/libmxnet.so: failed to map segment from shared object"),
        ImportError("libQt5.so: cannot map: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        RuntimeError("MXNetError: std::bad_alloc"),
    ],
)
def test_what_libraries_raise_is_an_out_of_memory_error(error, monkeypatch, capsys):
    def fail(**flags):
        raise error

    monkeypatch.setattr(cli.COMMANDS["pack"], "callback", fail)
    monkeypatch.setattr(sys, "argv", ["xenon-pack", "a", "b"])
    assert exit_status.status_of(cli.COMMANDS["pack"], "xenon-pack") == 1
    assert capsys.readouterr().err == f"error: {memory.out_of_memory_message()}\n"


@pytest.mark.parametrize("error", [ValueError("x"), OSError(errno.ENOSPC, "full")])
def test_other_errors_are_not_out_of_memory(error):
    assert not memory.is_out_of_memory(error)


def test_mxnet_that_does_not_fit_is_no_reason_to_reinstall_it():
    error = OSError("libmxnet.so: failed to map segment from shared object")
    assert (
        mxnet._why_no_import(error, Build("mxnet", None))
        == memory.out_of_memory_message()
    )


# Allocates 4 GB, under a limit of 2 GB.
TOO_LARGE = """
from xenon_mx.runtime import mxnet
from xenon_mx.errors import XenonError

try:
    with mxnet.failures():
        mxnet.mx.nd.zeros((1 << 30,)).wait_to_read()
except XenonError as error:
    print(error)
"""


def test_mxnets_out_of_memory_error_is_one_line():
    words = [sys.executable, "-c", TOO_LARGE]
    done = subprocess.run(
        ["sh", "-c", f'ulimit -v {2 << 20} && exec "$@"', "sh", *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"out of memory: the limit is 2,048 MB \(ulimit -v\): raise it; a smaller "
        r"--batch-size needs less\n",
        done.stdout,
    )
