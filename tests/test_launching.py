"""xenon-launch: what it refuses, and the statuses that it passes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from xenon_mx import launching
from xenon_mx.config import LaunchConfig
from xenon_mx.errors import XenonError


def test_hosts_are_read_without_comments(tmp_path):
    (tmp_path / "hosts").write_text("a\n# the old ones\n\nme@b  # the new one\n")
    assert launching._read_hosts(tmp_path / "hosts") == ["a", "me@b"]


@pytest.mark.parametrize("content", ["", "\n# none\n"])
def test_a_file_without_hosts_is_refused(tmp_path, content):
    (tmp_path / "hosts").write_text(content)
    with pytest.raises(XenonError, match="names no host"):
        launching._read_hosts(tmp_path / "hosts")


def test_a_missing_host_file_is_refused(tmp_path):
    with pytest.raises(XenonError, match="no such file"):
        launching._read_hosts(tmp_path / "hosts")


def test_a_program_that_is_not_there_is_refused():
    with pytest.raises(XenonError, match="xenon-trian: No such file"):
        launching.launch(LaunchConfig(("xenon-trian",)), print)


def test_lines_carry_their_worker_and_the_worst_status_is_passed_on():
    launch = Path(sys.executable).with_name("xenon-launch")
    script = "import os, sys; print('hello'); sys.exit(7)"
    done = subprocess.run(
        [launch, "-n", "1", "--", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 7
    assert "[worker 0] hello" in done.stderr.splitlines()
