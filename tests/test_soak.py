"""A long run keeps its size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_memory_and_open_files_stay_flat_over_two_thousand_steps():
    done = subprocess.run([sys.executable, "tools/soak"], cwd=ROOT, check=False)
    assert done.returncode == 0
