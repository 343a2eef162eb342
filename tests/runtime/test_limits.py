"""Under a ulimit, each command works or ends with a one-line error, and never hangs."""

from __future__ import annotations

import subprocess
import sys

import cv2
import pytest
import synthetic

from xenon_mx.commands import export, train
from xenon_mx.config import ExportConfig, TrainConfig

TRAIN = ["--model", "mobilenet0.25", "--no-pretrained", "--ctx", "cpu", "--epochs", "1"]
COMMANDS = {
    "pack": ("pack", "MURA-v1.1", "{out}/packed", "--size", "32"),
    "train": ("train", "packed", "{out}/run", *TRAIN),
    "predict": ("predict", "packed/valid.rec", "{out}/table.csv", "--run", "run"),
    "predict by ONNX": (
        *("predict", "packed/valid.rec", "{out}/table.csv"),
        *("--run", "run.onnx"),
    ),
    "export": ("export", "run", "{out}/run.onnx"),
    "report": ("report", "run", "-o", "{out}/report.html"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Radiographs in MURA's layout, packed; a run, and its ONNX file."""
    base = tmp_path_factory.mktemp("limits")
    splits = {"train": synthetic.labelled(8), "valid": synthetic.labelled(4, seed=9)}
    packed = synthetic.pack(base / "packed", splits)
    for name, (pixels, _) in splits.items():
        for row, image in zip(packed.split(name).rows(), pixels):
            (base / row.path).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(base / row.path), image)
    options = {"model": TRAIN[1], "no_pretrained": True, "ctx": "cpu()", "epochs": 1}
    train.train(TrainConfig(base / "packed", base / "run", **options))
    export.export(ExportConfig((base / "run",), base / "run.onnx"))
    return base


def run(world, tmp_path, command, limit):
    """Run a command under bash's `ulimit LIMIT`; return (status, stderr)."""
    name, *args = (word.format(out=tmp_path) for word in COMMANDS[command])
    words = [sys.executable, "-c", f"from xenon_mx import cli; cli.{name}()", *args]
    done = subprocess.run(
        ["bash", "-c", f'ulimit {limit} && exec "$@"', "bash", *words],
        cwd=world,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_little_memory_is_enough_or_a_one_line_error(world, tmp_path, command):
    statuses = []
    for megabytes in range(100, 1500, 100):
        out = tmp_path / str(megabytes)
        out.mkdir()
        status, err = run(world, out, command, f"-v {megabytes << 10}")
        assert status in (0, 1), err
        last = err.splitlines()[-1]
        assert status == 0 or "memory" in last, err
        assert status == 0 or list(out.iterdir()) == []
        assert "Traceback" not in err
        statuses.append(status)
    assert statuses == sorted(statuses, reverse=True)  # more memory never fails later
    assert statuses[0] == 1
    assert statuses[-1] == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_sixteen_open_files_are_enough(world, tmp_path, command):
    status, err = run(world, tmp_path, command, "-n 16")
    assert status == 0, err


@pytest.mark.slow
def test_training_beyond_a_limit_of_files_can_go_on(world, tmp_path):
    status, err = run(world, tmp_path, "train", "-f 100")
    assert status == 1
    assert err.splitlines()[-1].endswith("fix the cause, and continue with --resume")
    assert "File too large" in err
    code = "from xenon_mx import cli; cli.train()"
    words = [sys.executable, "-c", code, "packed", str(tmp_path / "run"), "--resume"]
    subprocess.run(words, cwd=world, check=True, capture_output=True, timeout=240)
