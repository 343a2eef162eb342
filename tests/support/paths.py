"""Paths of the checkout."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
TOOLS = ROOT / "tools"
SUPPORT = TESTS / "support"
FIXTURES = TESTS / "fixtures"
GOLDENS = TESTS / "goldens"

# For child processes that import what tests import.
PYTHONPATH = f"{ROOT}:{TESTS}:{TOOLS}"
