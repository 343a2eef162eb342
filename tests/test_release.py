"""What is released: a wheel and an sdist that work far from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile

import pytest
from support import paths

import xenon_mx

pytestmark = pytest.mark.slow

DEMO = [
    "python {tools}/phantoms.py . --train-patients 80 --valid-patients 20"
    " --long-side 96",
    "xenon-pack MURA-v1.1 packed --size 64",
    "xenon train packed run --model mobilenet0.25 --no-pretrained --epochs 2"
    " --lr 1e-3 --ctx cpu()",
    "xenon-predict MURA-v1.1/valid_image_paths.csv out.csv --run run"
    " --images images.csv --cam maps",
    "xenon-report run out.csv -o report.html --images images.csv --cam maps"
    " --model-card card.md",
    "xenon-export run ensemble.onnx",
    "python -m xenon_mx predict MURA-v1.1/valid again.csv --run ensemble.onnx",
]


def run(*command, **options):
    """Run a command that must succeed."""
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The wheel and the sdist, made from what git has of this checkout."""
    folder = tmp_path_factory.mktemp("release")
    source = folder / "source"
    source.mkdir()
    listed = run(
        "git",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
        cwd=paths.ROOT,
    )
    for name in filter(None, listed.stdout.split("\0")):
        copy = source / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if (paths.ROOT / name).is_file():
            copy.write_bytes((paths.ROOT / name).read_bytes())
    run(sys.executable, "setup.py", "-q", "sdist", "-d", folder, cwd=source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "-q", "--no-deps", "-w", folder, source)
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def installed(released, tmp_path_factory):
    """The programs of a clean environment that has the wheel."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", folder / "venv")
    programs = folder / "venv" / "bin"
    pip = (programs / "python", "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "-q", f"{released[0]}[cpu,test]")
    return programs


def test_the_wheel_holds_every_file_of_the_package(released):
    package = paths.ROOT / "xenon_mx"
    wanted = {
        str(file.relative_to(paths.ROOT))
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(released[0]) as wheel:
        held = set(wheel.namelist())
        (metadata,) = (name for name in held if name.endswith("/METADATA"))
        text = wheel.read(metadata).decode()
    assert wanted <= held
    assert {name for name in held if name.startswith("xenon_mx/")} == wanted
    assert f"Version: {xenon_mx.__version__}" in text
    for field in ("Author:", "Project-URL:", "Classifier:", "License"):
        assert field in text


def test_the_demo_runs_from_the_wheel(installed, tmp_path):
    path = f"{installed}{os.pathsep}{os.environ['PATH']}"
    for line in DEMO:
        words = line.format(tools=paths.TOOLS).split()
        words[0] = installed / words[0]
        run(*words, cwd=tmp_path, env={**os.environ, "PATH": path})
    assert (tmp_path / "report.html").stat().st_size > 100_000
    first, again = (tmp_path / name for name in ("out.csv", "again.csv"))
    assert len(first.read_text()) > 0
    assert len(again.read_text().splitlines()) == len(first.read_text().splitlines())


def test_the_sdist_runs_its_own_tests(released, installed, tmp_path):
    with tarfile.open(released[1]) as sdist:
        sdist.extractall(tmp_path)
    (source,) = tmp_path.iterdir()
    done = subprocess.run(
        [installed / "python", "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"],
        cwd=source,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
