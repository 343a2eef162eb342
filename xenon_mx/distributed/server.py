"""The process of MXNet's scheduler or of a parameter server.

    DMLC_ROLE=server python -m xenon_mx.distributed.server

Owns the checks before MXNet starts, and errors of one line. `runtime.mxnet.serve` runs
the scheduler or server, and unpickles nothing that a client sends. Must not know what
the workers compute.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # the working directory: a json.py there would shadow Python's

import os  # noqa: E402
import signal  # noqa: E402
from typing import NoReturn  # noqa: E402

from xenon_mx.distributed import cluster  # noqa: E402
from xenon_mx.errors import XenonError  # noqa: E402


def main() -> NoReturn:
    """Run the role in DMLC_ROLE until the workers are done, then exit."""
    # Python's handler would run only after MXNet's loop.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        _run()
    except XenonError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)


def _run() -> NoReturn:
    role = os.environ.get("DMLC_ROLE")
    if role not in ("scheduler", "server"):
        raise XenonError(
            f"DMLC_ROLE is {role or 'not set'}: set it to scheduler or server; a "
            f"worker is xenon-train with --kvstore"
        )
    missing = cluster.missing_variables()
    if missing:
        raise XenonError(f"set {', '.join(missing)}, the same in all processes")
    cluster.check_machine(role)
    from xenon_mx.runtime import mxnet

    mxnet.serve()


if __name__ == "__main__":
    main()
