"""Where the parts of the checkout are."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
TOOLS = ROOT / "tools"
SUPPORT = TESTS / "support"
FIXTURES = TESTS / "fixtures"
GOLDENS = TESTS / "goldens"

# For a Python of a test's own, which is to import what tests do.
PYTHONPATH = f"{TESTS}:{TOOLS}"
