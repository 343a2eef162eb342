"""Code in a new Python process, on a site-packages with a stub of MXNet if needed."""

from __future__ import annotations

import os
import subprocess
import sys

from support.paths import ROOT

IMPORT = "from xenon_mx.runtime.mxnet import mx"


def run(code, site=None, flags=(), **variables):
    """Run a fresh interpreter, on a site-packages of its own if there is one."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if name not in ("OMP_NUM_THREADS", "LD_LIBRARY_PATH")
    }
    if site:
        flags = ["-S", *flags]
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=site or ROOT,
        env={**ours, "PYTHONPATH": str(site or ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


def output(code, site=None, **options):
    """What the code prints, and nothing beside it."""
    result = run(code, site, **options)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.strip()


def refusal(site, code=IMPORT, **variables):
    """The one sentence of the XenonError that ends the code."""
    result = run(code, site, **variables)
    assert result.returncode == 1, result.stdout
    kind, _, message = result.stderr.strip().split("\n")[-1].partition(": ")
    assert kind == "xenon_mx.errors.XenonError", result.stderr
    return message


def install(site, wheel, code=""):
    """Put a stub of an MXNet wheel into a site-packages."""
    (site / "mxnet").mkdir(exist_ok=True)
    (site / "mxnet" / "__init__.py").write_text(code)
    info = site / f"{wheel.replace('-', '_')}-1.9.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {wheel}\nVersion: 1.9.1\n"
    )
