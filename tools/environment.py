#!/usr/bin/env python3
"""Make the checkout's virtual environment: `python tools/environment.py cpu test`.

Needs nothing but a Python. The arguments are xenon's extras. What is installed already
is not installed again, until setup.py changes.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
SUPPORTED = [(3, minor) for minor in range(8, 13)]


def ensure(*extras: str) -> Path:
    """Make the environment hold xenon with some extras.

    Args:
        extras: Names of setup.py's extras, such as `cpu`.

    Returns:
        The folder of its programs.
    """
    programs = VENV / "bin"
    wanted = hashlib.sha256((ROOT / "setup.py").read_bytes()).hexdigest()
    stamps = [VENV / f"installed-{extra}" for extra in extras]
    if all(stamp.is_file() and stamp.read_text() == wanted for stamp in stamps):
        return programs
    if not (programs / "python").exists():
        make_venv(VENV)
    say("installing xenon (about a minute) ...")
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet"]
    pip += ["--disable-pip-version-check", "-e", f"{ROOT}[{','.join(extras)}]"]
    if subprocess.call(pip):
        sys.exit("error: pip could not install xenon; see its message above")
    for stamp in stamps:
        stamp.write_text(wanted)
    return programs


def make_venv(folder: Path) -> None:
    """Make an empty environment with a Python that MXNet runs on."""
    python = supported_python()
    say(f"making {folder.relative_to(ROOT)} with {python} ...")
    if subprocess.call([python, "-m", "venv", str(folder)]):
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit(
            "error: python -m venv failed; on Debian: apt-get install python3-venv"
        )


def supported_python() -> str:
    """Find a Python that xenon supports: this one, else one on the PATH."""
    if sys.version_info[:2] in SUPPORTED:
        return sys.executable
    for major, minor in reversed(SUPPORTED):
        found = shutil.which(f"python{major}.{minor}")
        # A version manager's shim may be there without the version it stands for.
        if found and not subprocess.call([found, "-c", ""], stderr=subprocess.DEVNULL):
            return found
    names = ", ".join(f"{major}.{minor}" for major, minor in SUPPORTED)
    sys.exit(f"error: Python {sys.version.split()[0]}: xenon needs one of {names}")


def say(line: str) -> None:
    """Tell the user what goes on, at once."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    ensure(*(sys.argv[1:] or ["cpu"]))
