"""What is printed of an epoch.

Owns the line of a finished epoch, and the warning of a slow one; must not know the loop
or nets.
"""

from __future__ import annotations

from typing import Sequence

from xenon_mx.runs.epoch_log import EpochRecord
from xenon_mx.runtime.text import format_number


def finished(record: EpochRecord, epochs: int, ranked: Sequence[int]) -> str:
    """Return the line of a finished epoch.

    Args:
        record: What the epoch came to. kappa and AUROC may be NaN, as over studies of
            one class.
        epochs: The largest number of epochs.
        ranked: The best epochs so far, the best first.
    """
    parts = [
        f"epoch {record.epoch}/{epochs}",
        f"train {record.train_loss:.4f}",
        f"valid {record.val_loss:.4f}",
        f"kappa {format_number(record.kappa)}",
        f"AUROC {format_number(record.auroc)}",
        f"lr {record.lr:.0e}",
        f"{record.images_per_s:.1f} img/s",
        _duration(record.seconds),
    ]
    if record.epoch in ranked:
        parts.append(f"rank {ranked.index(record.epoch) + 1}")
    return "  ".join(parts)


def waiting(wait_share: float, threads: int) -> str:
    """Return the warning of an epoch that mostly waited for images.

    Args:
        wait_share: The share of the time spent waiting, 0 to 1.
        threads: The number of decoding threads.
    """
    return (
        f"{wait_share:.0%} of the time was spent waiting for images: use more decoding "
        f"threads, such as --threads {2 * threads}"
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
