"""Memory does not grow with the number of images."""

from __future__ import annotations

import subprocess
import sys

import cv2
import pytest
import synthetic
from support import mura_tree

from xenon_mx.commands import train
from xenon_mx.config import TrainConfig

SIZE = 32
FEW, MANY = 40, 400
MAX_GROWTH = 1.1


def draw(root, count):
    """Write a data set of `count` studies with one image each."""
    pixels, labels = synthetic.labelled(count, 256)
    studies = [
        mura_tree.Study(
            "valid" if number % 10 < 2 else "train", "XR_HAND", number, label
        )
        for number, label in enumerate(labels)
    ]
    mura_tree.write_images(root, studies, lambda f, n: cv2.imwrite(str(f), pixels[n]))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    base = tmp_path_factory.mktemp("growth")
    return {count: draw(base / str(count), count) for count in (FEW, MANY)}


def peak_mb(*arguments):
    """Run a command and return its peak resident memory in MB."""
    # Not getrusage, whose maximum includes the process before exec.
    command, *others = map(str, arguments)
    code = f"""
import sys
from xenon_mx import cli
sys.argv = [{command!r}, *{others!r}]
try:
    cli.{command}()
except SystemExit as stop:
    assert stop.code == 0, stop.code
status = open("/proc/self/status").read()
print(status.partition("VmHWM:")[2].split()[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]) / 1000


@pytest.mark.slow
def test_packing_ten_times_the_images_takes_no_more_memory(data, tmp_path):
    few, many = (peak_mb("pack", data[n], tmp_path / str(n)) for n in (FEW, MANY))
    assert many < MAX_GROWTH * few


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_predicting_ten_times_the_images_takes_no_more_memory(data, tmp_path, packed):
    run = tmp_path / "run"
    splits = {
        "train": synthetic.labelled(16, SIZE),
        "valid": synthetic.labelled(8, SIZE),
    }
    config = TrainConfig(
        synthetic.pack(tmp_path / "small", splits).folder,
        run,
        model="mobilenet0.25",
        no_pretrained=True,
        ctx="cpu()",
        epochs=2,
    )
    train.train(config)
    peaks = []
    for count in (FEW, MANY):
        images = data[count]
        if packed:
            many = {"valid": synthetic.labelled(count, SIZE)}
            images = synthetic.pack(tmp_path / str(count), many).folder / "valid.rec"
        out = tmp_path / f"{count}.csv"
        peaks.append(peak_mb("predict", images, out, "--run", run, "--ctx", "cpu()"))
    assert peaks[1] < MAX_GROWTH * peaks[0]
