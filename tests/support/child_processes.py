"""Processes that a test starts and kills, and the end of what they have started."""

from __future__ import annotations

import os
import subprocess
import sys

from support.paths import ROOT
from support.processes import wait_for


def wait_for_end(pid):
    """Wait for the end of a process that was killed."""
    wait_for(lambda: not is_running(pid), seconds=10)


def is_running(pid):
    """Return whether a process runs; a zombie that waits for its parent does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def run_until_written(code, file, folder=None):
    """Start Python code, wait until it has written a file, and return its process."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        stdout=subprocess.DEVNULL,
    )
    wait_for(lambda: process.poll() or (file.exists() and file.read_text()), 60)
    return process
