"""Long runs do not grow, and random faults leave correct files."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support import paths


@pytest.mark.slow
def test_memory_and_open_files_stay_flat_over_two_thousand_steps():
    done = subprocess.run(
        [sys.executable, "tools/soak", "memory"], cwd=paths.ROOT, check=False
    )
    assert done.returncode == 0


@pytest.mark.slow
def test_two_minutes_of_trouble_end_without_a_finding():
    command = [sys.executable, "tools/soak", "trouble", "--minutes", "2"]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ", 0 findings" in done.stderr
