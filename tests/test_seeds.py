"""tools/seeds: the same seeds with two settings, and their differences."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import synthetic
from support import paths


def seeds(*arguments):
    command = [sys.executable, "tools/seeds", *map(str, arguments)]
    return subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_every_seed_is_trained_with_both_settings(tmp_path):
    splits = {"train": synthetic.labelled(12), "valid": synthetic.labelled(8, seed=9)}
    packed = synthetic.pack(tmp_path / "p", splits).folder
    both = ["--seeds", "2", "--", "--model", "mobilenet0.25", "--no-pretrained"]
    both += ["--epochs", "1", "--min-lr", "0"]
    # With a learning rate of nearly nothing, A and B of a seed are the same net.
    same = seeds(packed, tmp_path / "same", "--lr 1e-30", "--lr 2e-30", *both)
    assert same.returncode == 0, same.stderr
    rows = [re.findall(r"[\d.]+", line) for line in same.stdout.splitlines()[2:4]]
    assert [row[0] for row in rows] == ["0", "1"]
    for _, *values in rows:
        assert values[0::2] == values[1::2]  # kappa, AUROC and loss of A and of B
    assert "kappa: B - A +0.000 (+0.000 to +0.000)" in same.stdout
    assert len(list((tmp_path / "same").glob("*/run.json"))) == 4
    again = seeds(packed, tmp_path / "same", "--lr 1e-30", "--lr 2e-30", *both)
    assert again.stdout == same.stdout


def test_a_setting_that_xenon_train_refuses_is_shown(tmp_path):
    done = seeds(tmp_path, tmp_path / "out", "", "--amp", "--", "--lr", "7")
    assert done.returncode == 1
    assert "--lr" in done.stderr
