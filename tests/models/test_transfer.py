"""tools/transfer: the same settings from pretrained and from random weights."""

from __future__ import annotations

import subprocess
import sys

import pytest
import synthetic
from support import paths

from xenon_mx.models import network


@pytest.mark.slow
def test_every_start_and_seed_has_a_row(tmp_path):
    synthetic.pack(
        tmp_path / "p", {"train": synthetic.labelled(8), "valid": synthetic.labelled(4)}
    )
    network.build("squeezenet1.1").save_parameters(str(tmp_path / "x.params"))
    command = [sys.executable, "tools/transfer", tmp_path / "p", "--seeds", "2"]
    command += ["--model", "squeezenet1.1", "--pretrained", tmp_path / "x.params"]
    command += ["--", "--epochs", "1"]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:3] for line in done.stdout.splitlines()[2:]]
    assert [[cell.strip() for cell in row] for row in rows] == [
        [start, seed]
        for seeds in (("0", "1"), ("mean",))
        for start in ("pretrained", "random")
        for seed in seeds
    ]
