"""How to install what a feature needs.

Owns the command that messages give. xenon is on no package index, so the command is one
for its checkout. Must not know the features.
"""

from __future__ import annotations


def install(extra: str) -> str:
    """Return the command that installs an extra of setup.py, such as `report`."""
    return f"pip install '.[{extra}]' in a checkout of xenon"
