"""Running of code in a new interpreter, with a stub of MXNet if needed."""

from __future__ import annotations

import os
import subprocess
import sys

from support.paths import ROOT

IMPORT = "from xenon_mx.runtime.mxnet import mx"


def run(code, site=None, flags=(), **variables):
    """Run code in a new interpreter, with `site` as its site-packages if given."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("OMP_NUM_THREADS", "LD_LIBRARY_PATH")
    }
    if site:
        flags = ["-S", *flags]
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        cwd=site or ROOT,
        env={**environment, "PYTHONPATH": str(site or ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


def output(code, site=None, **options):
    """Return the output of code that must succeed and print nothing to stderr."""
    result = run(code, site, **options)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.strip()


def refusal(site, code=IMPORT, **variables):
    """Return the message of the XenonError that code must raise."""
    result = run(code, site, **variables)
    assert result.returncode == 1, result.stdout
    error_name, _, message = result.stderr.strip().split("\n")[-1].partition(": ")
    assert error_name == "xenon_mx.errors.XenonError", result.stderr
    return message


def install(site, wheel, code=""):
    """Install a stub of an MXNet wheel into a site-packages folder."""
    (site / "mxnet").mkdir(exist_ok=True)
    (site / "mxnet" / "__init__.py").write_text(code)
    info = site / f"{wheel.replace('-', '_')}-1.9.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {wheel}\nVersion: 1.9.1\n"
    )
