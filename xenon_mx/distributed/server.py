"""The process of a scheduler or of a parameter server, started by hand or launched.

    DMLC_ROLE=server python -m xenon_mx.distributed.server

MXNet plays both; `mxnet.serve` lets it, without what would run other people's code.
Owns what is refused before, and that a failure is one line.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # the working folder: a json.py there is not Python's

import os  # noqa: E402
import signal  # noqa: E402
from typing import NoReturn  # noqa: E402

from xenon_mx.distributed import cluster  # noqa: E402
from xenon_mx.errors import XenonError  # noqa: E402


def main() -> NoReturn:
    """Play the role that DMLC_ROLE names until the workers are done, then exit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's waits for MXNet's loop
    try:
        _play()
    except XenonError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)


def _play() -> NoReturn:
    role = os.environ.get("DMLC_ROLE")
    if role not in ("scheduler", "server"):
        raise XenonError(
            f"DMLC_ROLE is {role or 'not set'}: say scheduler or server; a worker is "
            f"xenon-train with --kvstore"
        )
    missing = cluster.missing_variables()
    if missing:
        raise XenonError(f"set {', '.join(missing)}, alike in all processes")
    cluster.refuse_unfit_machine(role)
    from xenon_mx.runtime import mxnet

    mxnet.serve()


if __name__ == "__main__":
    main()
