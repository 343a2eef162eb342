"""Requirements of distributed training on the machine of each process.

Owns the names of MXNet's environment variables, and the checks before MXNet starts: on
a wrong setting, MXNet prints a stack trace or waits for ever.
"""

from __future__ import annotations

import os
import resource
import socket

from xenon_mx.errors import XenonError

# Where MXNet reads its role and its peers from; xenon-launch sets them.
VARIABLES = (
    "DMLC_ROLE",
    "DMLC_PS_ROOT_URI",
    "DMLC_PS_ROOT_PORT",
    "DMLC_NUM_WORKER",
    "DMLC_NUM_SERVER",
)
# Measured: a process opens some 20 files, and two or three per other process.
_BASE_FILES, _FILES_PER_PROCESS = 32, 4


def missing_variables() -> list[str]:
    """Return the names of the variables that MXNet needs and that are not set."""
    return [name for name in VARIABLES if not os.environ.get(name)]


def check_open_files(num_workers: int, num_servers: int) -> None:
    """Check that a process may open as many files as it needs connections.

    Raises:
        XenonError: The limit is too low: MXNet would wait for ever.
    """
    needed = _BASE_FILES + _FILES_PER_PROCESS * (num_workers + num_servers)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise XenonError(
            f"{num_workers} workers and {num_servers} servers may need {needed} open "
            f"files each, and {limit} are allowed: ulimit -n {needed}"
        )


def check_interface(name: str, setting: str) -> None:
    """Check that this computer has a network interface.

    Args:
        name: Such as `eth0`.
        setting: The flag or variable that named it.

    Raises:
        XenonError: There is none of that name.
    """
    interfaces = [interface for _, interface in socket.if_nameindex()]
    if name not in interfaces:
        raise XenonError(
            f"{setting} {name}: this computer has no such network interface, only "
            f"{', '.join(interfaces)}"
        )


def check_machine(role: str) -> None:
    """Check that a process on this machine can reach the others.

    Args:
        role: The role of the process: scheduler, server or worker.

    Raises:
        XenonError: The network interface in DMLC_INTERFACE does not exist, or the
            limit of open files is too low.
    """
    interface = os.environ.get("DMLC_INTERFACE")
    if interface and role != "scheduler":  # whose address is DMLC_PS_ROOT_URI
        check_interface(interface, "DMLC_INTERFACE")
    try:
        num_workers = int(os.environ["DMLC_NUM_WORKER"])
        num_servers = int(os.environ["DMLC_NUM_SERVER"])
    except ValueError as error:
        raise XenonError(
            "DMLC_NUM_WORKER and DMLC_NUM_SERVER must be numbers, the same in all "
            "processes"
        ) from error
    check_open_files(num_workers, num_servers)


def own_address(host: str, port: int) -> str:
    """Return this computer's address on the interface that leads to another one.

    Args:
        host: Name or address of the other computer; nothing is sent to it.
        port: Any port.

    Raises:
        OSError: The name has no address, or no interface leads to it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))
        return str(probe.getsockname()[0])
