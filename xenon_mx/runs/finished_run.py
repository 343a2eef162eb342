"""Whether a run has nothing left to train, and why its training ended.

Owns the comparison of a run's files with its last state. Writes nothing. Must not know
the training loop.
"""

from __future__ import annotations

from xenon_mx.runs import checkpoints, epoch_log, tensorboard, training_state
from xenon_mx.runs.epoch_log import LOG_CSV
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.seen_studies import STUDIES_JSON
from xenon_mx.runs.training_state import StateMeta
from xenon_mx.runtime import text


def ending(run: Run, epochs: int, line: str = "resume it with") -> str | None:
    """Return why a run is finished, in words.

    Args:
        run: The run, which no process trains.
        epochs: The largest number of epochs.
        line: The command line that resumes it.

    Returns:
        None if an epoch remains to be trained, if no epoch is kept, or if a process was
        killed before it had written all files of the last epoch.

    Raises:
        XenonError: A file is damaged.
    """
    if not run.is_begun:
        return None
    state = training_state.read_meta(run.folder)
    is_over = state.done or state.epoch >= epochs
    if not is_over or not state.best or not _is_whole(run, state):
        return None
    for member in state.best:
        member.check()
    if run.meta.is_from_elsewhere:
        return "its net was not trained here, and was validated"
    best = ", ".join(str(member.epoch) for member in state.best)
    trained = f"{text.counted(state.epoch, 'epoch')} trained, the best first: {best}"
    if state.done:
        return (
            f"{trained}; the validation loss reached a plateau at the lowest learning "
            f"rate: to train longer, start a new run with a lower --min-lr or a higher "
            f"--patience"
        )
    return (
        f"{trained}; these were all of --epochs; to train longer: {line} --epochs "
        f"{2 * state.epoch}"
    )


def _is_whole(run: Run, state: StateMeta) -> bool:
    """Return whether the files that follow from a state are there and agree with it."""
    folder = run.folder
    log = folder / LOG_CSV
    has_studies = (folder / STUDIES_JSON).is_file() or run.meta.is_from_elsewhere
    return (
        log.is_file()
        and log.read_bytes() == epoch_log.encode(state.log)
        and checkpoints.read(folder) == list(state.best)
        and has_studies
        and tensorboard.has_step(folder, state.epoch)
    )
