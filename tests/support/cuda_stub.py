"""Compilation of `cuda_stub.c` and of other stub libraries, for tests without a GPU."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Sequence

import pytest

_DRIVER = Path(__file__).with_name("cuda_stub.c")


def build_driver(folder: Path) -> Path:
    """Build libcuda.so.1 in a folder, and return the folder, for LD_LIBRARY_PATH."""
    build_library(folder / "libcuda.so.1", _DRIVER.read_text())
    return folder


def build_library(file: Path, source: str = "", needs: Sequence[Path] = ()) -> None:
    """Compile C source to a shared library with its file name as its soname."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc)")
    file.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-shared", "-fPIC", f"-Wl,-soname,{file.name},--no-as-needed"]
    dependencies = [str(path) for path in needs]
    subprocess.run(
        [compiler, "-xc", "-", "-xnone", *flags, *dependencies, "-o", str(file)],
        input=source,
        text=True,
        check=True,
    )
