"""The demo, run in this checkout."""

from __future__ import annotations

import csv
import re
import subprocess
import sys

import pytest
from sklearn.metrics import roc_auc_score
from support import paths

DEMO = paths.ROOT / "data" / "demo"


def read(name):
    with open(DEMO / name, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_demo_predicts_unseen_studies_and_draws_maps():
    """Replace data/demo of this checkout."""
    done = subprocess.run([sys.executable, "tools/demo"], cwd=paths.ROOT, check=False)
    assert done.returncode == 0
    rows = read("predictions.csv")
    assert len(rows) > 100
    labels = [int(row["label"]) for row in rows]
    assert roc_auc_score(labels, [float(row["probability"]) for row in rows]) > 0.9
    names = [row["image"] for row in read("images.csv")]
    assert len(names) > len(rows)
    assert (DEMO / "maps" / "maps.json").is_file()
    overlays = (DEMO / "maps").rglob("*.cam.png")
    assert {str(each.relative_to(DEMO / "maps")) for each in overlays} == {
        f"{name}.cam.png" for name in names
    }
    page = (DEMO / "report.html").read_text(encoding="utf-8")
    alts = re.findall(r'<img[^>]* alt="([^"]+)"', page)
    radiographs = [alt for alt in alts if alt.startswith("Radiograph, ")]
    maps = [alt for alt in alts if alt.startswith("Activation map, ")]
    assert len(maps) == len(radiographs) > 0
