"""What the processes that train together need of the machine that they run on.

Owns the names of MXNet's variables, and what is refused before MXNet is asked: it
would answer with pages, or wait for ever.
"""

from __future__ import annotations

import os
import resource
import socket

from xenon_mx.errors import XenonError

# What MXNet reads its place among the others from; xenon-launch sets it.
VARIABLES = (
    "DMLC_ROLE",
    "DMLC_PS_ROOT_URI",
    "DMLC_PS_ROOT_PORT",
    "DMLC_NUM_WORKER",
    "DMLC_NUM_SERVER",
)
# Counted here: a process holds some 20 files, and two or three for each of the others.
_FILES, _FILES_EACH = 32, 4


def missing_variables() -> list[str]:
    """Name the variables that MXNet needs and that are not set."""
    return [name for name in VARIABLES if not os.environ.get(name)]


def refuse_few_files(workers: int, servers: int) -> None:
    """Stop if a process may hold fewer open files than it has connections.

    Raises:
        XenonError: The limit is too low: MXNet would wait for ever.
    """
    needed = _FILES + _FILES_EACH * (workers + servers)
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        raise XenonError(
            f"{workers} workers and {servers} servers may need {needed} open files "
            f"each, and {allowed} are allowed: ulimit -n {needed}"
        )


def refuse_unknown_interface(name: str, said: str) -> None:
    """Stop if this computer has no such network interface.

    Args:
        name: Such as `eth0`.
        said: Where the user said it: a flag or a variable.

    Raises:
        XenonError: There is none of that name.
    """
    names = [interface for _, interface in socket.if_nameindex()]
    if name not in names:
        raise XenonError(
            f"{said} {name}: this computer has no such network interface, but "
            f"{', '.join(names)}"
        )


def refuse_unfit_machine(role: str) -> None:
    """Stop a process that could not reach the others from here.

    Args:
        role: What the process is to be: scheduler, server or worker.

    Raises:
        XenonError: The network interface that it is told to use is not here, or a
            process may hold too few open files.
    """
    interface = os.environ.get("DMLC_INTERFACE")
    if interface and role != "scheduler":  # whose address is DMLC_PS_ROOT_URI
        refuse_unknown_interface(interface, "DMLC_INTERFACE")
    try:
        count = [int(os.environ[f"DMLC_NUM_{name}"]) for name in ("WORKER", "SERVER")]
    except ValueError as error:
        raise XenonError(
            "DMLC_NUM_WORKER and DMLC_NUM_SERVER must be numbers, alike everywhere"
        ) from error
    refuse_few_files(*count)
