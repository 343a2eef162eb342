"""The disk that a run needs.

Owns the estimate and the comparison with what is free. Must not know nets.
"""

from __future__ import annotations

from pathlib import Path

from xenon_mx.config import MEMBERS
from xenon_mx.errors import XenonError
from xenon_mx.runs.checkpoints import PARAMS
from xenon_mx.runs.training_state import LAST
from xenon_mx.runtime import disk_space, text

# run.json, studies.json (20 bytes per study of MURA's 13,000), and 1 KB per epoch of
# log and TensorBoard's events, rounded up.
_SMALL_FILES = 2**20


def needed(net: int, trainer: int, epochs: int) -> int:
    """Return the bytes that a run needs, at the moment when it needs most.

    That is while an epoch is saved: its checkpoint and its state are written before
    those that they replace are removed.

    Args:
        net: Bytes of all arrays of the net.
        trainer: Bytes of the optimizer's state.
        epochs: The largest number of epochs.
    """
    checkpoints, states = min(epochs, MEMBERS + 1), min(epochs, 2)
    return checkpoints * net + states * (net + trainer) + _SMALL_FILES


def check(folder: Path, bytes_needed: int) -> str:
    """Check that the disk of a run folder has what the run needs.

    Args:
        folder: The run folder, which may not exist yet.
        bytes_needed: By `needed`.

    Returns:
        What is needed and what is free, in words.

    Raises:
        XenonError: The disk has too little.
    """
    free = disk_space.free(folder)
    present = sum(
        path.stat().st_size
        for name in (PARAMS, LAST)
        for path in (folder / name).glob("*")
    )
    missing = max(0, bytes_needed - present)
    if missing > free:
        raise XenonError(
            f"{text.folder_name(folder)}: the disk has {text.format_bytes(free)} free, "
            f"but checkpoints and state of the run need up to "
            f"{text.format_bytes(missing)}: free some, or name a RUN on another disk"
        )
    return (
        f"up to {text.format_bytes(bytes_needed)} of disk ({text.format_bytes(free)} "
        f"free)"
    )
