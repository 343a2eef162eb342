"""The lines by which a worker tells xenon-launch what its exit status does not.

Owns their words, and how they are recognised: MXNet assigns the ranks, and a worker
that ends because another one was lost is not the cause. Must not know processes.
"""

from __future__ import annotations

import os
import re

# The launcher sets a variable of this prefix, which its processes inherit.
LAUNCH_MARK = "XENON_LAUNCH_"

_RANK = re.compile(r"rank (\d+) of \d+")
_LOST = re.compile(r"error: the worker of rank \d+.* is lost\b")


def is_launched() -> bool:
    """Return whether this process was started by xenon-launch."""
    return any(name.startswith(LAUNCH_MARK) for name in os.environ)


def rank_line(rank: int, num_workers: int) -> str:
    """Return the line that names the worker's own rank."""
    return f"rank {rank} of {num_workers}"


def parse_rank(line: str) -> int | None:
    """Return the rank that a line of `rank_line` names, None for other lines."""
    match = _RANK.fullmatch(line)
    return int(match.group(1)) if match else None


def lost_line(rank: int, host: str | None = None) -> str:
    """Return the last line of a worker that ends because another one is lost.

    Args:
        rank: The rank of the lost worker.
        host: Its address, if known.
    """
    where = f", on {host}," if host else ""
    line = f"error: the worker of rank {rank}{where} is lost"
    if is_launched():  # the launcher says what it died of, and what to do
        return line
    return (
        f"{line}, and MXNet would wait for it for ever: start all workers again, with "
        f"--resume"
    )


def is_lost_line(line: str) -> bool:
    """Return whether a line is one of `lost_line`."""
    return bool(_LOST.match(line))


def signal_line(name: str) -> str:
    """Return the last line of a worker that a signal ended within MXNet.

    Args:
        name: The signal, such as `SIGTERM`.
    """
    remedy = "" if is_launched() else "; resume with --resume"
    return f"ended by {name} while MXNet was waiting for other processes{remedy}"
