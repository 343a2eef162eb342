"""Whether the training of a run is finished, in words.

Owns how that is known of a run folder; must not know what else a report shows of it.
"""

from __future__ import annotations

from typing import Sequence

from xenon_mx.runs import training_state
from xenon_mx.runs.epoch_log import EpochRecord
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.training_state import LAST, STATE_JSON
from xenon_mx.runtime.text import counted


def unfinished(run: Run, epochs: Sequence[EpochRecord]) -> str:
    """Return sentences if the training of a run is not finished, else an empty string.

    It is finished after the last epoch of its settings, or when the loss has reached a
    plateau at the lowest learning rate.

    Args:
        run: The run.
        epochs: The content of its log.

    Raises:
        XenonError: last/state.json is damaged.
    """
    most, is_done = run.meta.settings.get("epochs"), False
    if run.is_begun:
        is_done = training_state.read_meta(run.folder).done
    if is_done or not isinstance(most, int) or len(epochs) >= most:
        return ""
    count = f"{len(epochs)} of at most {counted(most, 'epoch')}"
    if epochs and not run.is_begun:
        return (
            f"Whether training is finished is not known: {count} are done, and "
            f"{LAST}/{STATE_JSON} is missing."
        )
    return (
        f"Training is not finished: {count} are done. It is still running or was "
        f"interrupted (xenon-train --resume continues it). All numbers may change."
    )
