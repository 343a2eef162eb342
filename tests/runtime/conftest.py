"""Fixtures of the tests that run a new interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.paths import ROOT


@pytest.fixture
def site(tmp_path):
    """A site-packages folder with NumPy and xenon, without MXNet."""
    folder = tmp_path / "site"
    folder.mkdir()
    numpy = Path(np.__file__).parent
    for source in (numpy, numpy.with_name("numpy.libs"), ROOT / "xenon_mx"):
        if source.exists():
            (folder / source.name).symlink_to(source)
    return folder
