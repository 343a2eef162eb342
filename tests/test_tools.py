"""The tools of the checkout: what they answer before they install anything."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from support import paths

TOOLS = ["demo", "test", "bench", "seeds", "soak", "environment.py"]
TOOLS += ["docker/repl.py", "docker/install.sh"]


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("name", TOOLS)
def test_help_installs_nothing_and_needs_no_package(tmp_path, name, flag):
    shutil.copytree(paths.TOOLS, tmp_path / "tools")  # its environment would be here
    program = [sys.executable, "-I", "-S", "-B", "-c", RUN]
    if name.endswith(".sh"):
        program = [shutil.which("bash")]
    done = subprocess.run(
        [*program, tmp_path / "tools" / name, flag],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) > 3
    assert [path.name for path in tmp_path.iterdir()] == ["tools"]


# Without packages, and with the tool's own folder in their place.
RUN = """
import runpy, sys
del sys.argv[0]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""
