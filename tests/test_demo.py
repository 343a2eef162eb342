"""The demo as a newcomer runs it."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_demo_predicts_studies_it_has_not_seen():
    """Writes data/demo of this checkout anew."""
    done = subprocess.run([sys.executable, "tools/demo"], cwd=ROOT, check=False)
    assert done.returncode == 0
    with open(ROOT / "data" / "demo" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 100
    labels = [int(row["label"]) for row in rows]
    assert roc_auc_score(labels, [float(row["probability"]) for row in rows]) > 0.9
