"""Fixtures of the tests that run a new interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.paths import ROOT


@pytest.fixture
def site(tmp_path):
    """A site-packages with NumPy and xenon, and no MXNet."""
    folder = tmp_path / "site"
    folder.mkdir()
    numpy = Path(np.__file__).parent
    for place in (numpy, numpy.with_name("numpy.libs"), ROOT / "xenon_mx"):
        if place.exists():
            (folder / place.name).symlink_to(place)
    return folder
