#!/usr/bin/env python3
"""Create the checkout's virtual environment: `python tools/environment.py cpu test`.

Needs only Python. The arguments are xenon's extras. Installed extras are installed
again only when setup.py changes.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
SUPPORTED = [(3, minor) for minor in range(8, 13)]


def ensure(*extras: str) -> Path:
    """Install xenon with some extras into the checkout's environment.

    Args:
        extras: Extras of setup.py, such as `cpu`.

    Returns:
        The folder of the environment's programs.
    """
    programs = VENV / "bin"
    digest = hashlib.sha256((ROOT / "setup.py").read_bytes()).hexdigest()
    stamps = [VENV / f"installed-{extra}" for extra in extras]
    if all(stamp.is_file() and stamp.read_text() == digest for stamp in stamps):
        return programs
    if not (programs / "python").exists():
        make_venv(VENV)
    print_status("installing xenon (about a minute) ...")
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet"]
    pip += ["--disable-pip-version-check", "-e", f"{ROOT}[{','.join(extras)}]"]
    if subprocess.call(pip):
        sys.exit("error: pip could not install xenon; see its message above")
    for stamp in stamps:
        stamp.write_text(digest)
    return programs


def make_venv(folder: Path) -> None:
    """Create an empty environment with a Python that MXNet supports."""
    python = supported_python()
    print_status(f"creating {folder.relative_to(ROOT)} with {python} ...")
    if subprocess.call([python, "-m", "venv", str(folder)]):
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit(
            "error: python -m venv failed; on Debian: apt-get install python3-venv"
        )


def supported_python() -> str:
    """Return a Python that xenon supports: this one, else one on the PATH."""
    if sys.version_info[:2] in SUPPORTED:
        return sys.executable
    for major, minor in reversed(SUPPORTED):
        path = shutil.which(f"python{major}.{minor}")
        # A version manager's shim may exist for a version that is not installed.
        if path and not subprocess.call([path, "-c", ""], stderr=subprocess.DEVNULL):
            return path
    names = ", ".join(f"{major}.{minor}" for major, minor in SUPPORTED)
    sys.exit(f"error: Python {sys.version.split()[0]}: xenon needs one of {names}")


def print_status(line: str) -> None:
    """Print a line on standard error, unbuffered."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("extras", nargs="*", metavar="EXTRA", default=["cpu"])
    ensure(*parser.parse_args().extras)
