"""A run folder that one process holds while it trains the run.

Owns the lock and the rule which files may be replaced or removed. Must not know the
content of any file.

The folder is held by its descriptor: what another process creates at its path is a
different folder, into which nothing is written. Only regular files with a run's names
are ever replaced or removed.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import AbstractSet, Sequence

from xenon_mx.errors import XenonError, os_error
from xenon_mx.runs import checkpoints, training_state
from xenon_mx.runs.checkpoints import BEST_JSON, PARAMS
from xenon_mx.runs.epoch_log import LOG_CSV
from xenon_mx.runs.run_meta import RUN_JSON
from xenon_mx.runs.seen_studies import STUDIES_JSON
from xenon_mx.runs.training_state import LAST, STATE_JSON
from xenon_mx.runtime import files

_PARTIAL = ".partial"  # suffix of xenon 0.1.0 for a file that was being written


class LockedFolder:
    """A run folder, locked as long as this process lives.

    Args:
        path: The run folder.
        model: The name of the net, which the names of checkpoints begin with.

    Attributes:
        root: The run folder.
        params: Its folder params/, after `open_subfolders`.
        last: Its folder last/, after `open_subfolders`.

    Raises:
        XenonError: Another process has locked the folder, it cannot be opened, or a
            file of the run is a link.
    """

    params: files.Folder
    last: files.Folder

    def __init__(self, path: Path, model: str) -> None:
        self._path, self._model = path, model
        self._stack = ExitStack()
        try:
            self.root = files.Folder(path)
            self._stack.callback(self.root.close)
            if not self.root.lock():
                raise XenonError(f"{path}: another process trains it")
            names = (RUN_JSON, BEST_JSON, LOG_CSV, STUDIES_JSON)
            _check_regular(self.root, self.root.irregular(names))
        except OSError as error:
            self.close()
            raise os_error(path, error) from error
        except XenonError:
            self.close()
            raise

    def close(self) -> None:
        """Unlock the folder."""
        self._stack.close()

    def open_subfolders(self) -> None:
        """Open params/ and last/, or create them.

        Raises:
            XenonError: One of them, or a file of the run in them, is a link.
        """
        for name in (PARAMS, LAST):
            path = self._path / name
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                _check_regular(self.root, [name])
        self.params, self.last = (self.root.make(name) for name in (PARAMS, LAST))
        for folder in (self.params, self.last):
            self._stack.callback(folder.close)
            own = [name for name in folder.names() if self._is_own(folder, name)]
            _check_regular(folder, folder.irregular(own))

    def check_in_place(self) -> None:
        """Check that the path of the run still leads to this folder.

        Raises:
            XenonError: The folder was moved or removed.
        """
        if not self.root.is_in_place():
            raise self._moved()

    def write_error(self, error: OSError) -> XenonError:
        """Return the error to raise if a file could not be written."""
        if not self.root.is_in_place():  # since check_in_place
            return self._moved()
        reason = os_error(self._path, error).reason
        return XenonError(
            f"{self._path}: cannot be written: {reason}; the epochs finished before "
            f"are complete: fix the cause, and continue with --resume"
        )

    def _moved(self) -> XenonError:
        return XenonError(
            f"{self._path}: was moved or removed during training; its finished epochs "
            f"are complete in its new place: continue there, with --resume"
        )

    def remove_partial_files(self) -> None:
        """Remove the files that killed processes of xenon 0.1.0 left."""
        for folder in (self.root, self.params, self.last):
            for name in folder.names():
                whole = name[: -len(_PARTIAL)]
                if name.endswith(_PARTIAL) and self._is_own(folder, whole):
                    folder.remove(name)

    def remove_other_epochs(
        self, params: AbstractSet[str], last: AbstractSet[str]
    ) -> None:
        """Remove the files of other epochs from params/ and last/.

        Args:
            params: Names to keep in params/.
            last: Names to keep in last/, beside state.json.
        """
        for folder, keep in ((self.params, params), (self.last, {*last, STATE_JSON})):
            for name in {*folder.names()} - keep:
                if self._is_own(folder, name):
                    folder.remove(name)

    def _is_own(self, folder: files.Folder, name: str) -> bool:
        """Return whether a run has a file of this name in one of its folders."""
        if folder is self.root:
            return name in (RUN_JSON, BEST_JSON, LOG_CSV, STUDIES_JSON)
        if folder is self.last:
            return training_state.is_file_name(name)
        return checkpoints.is_file_name(self._model, name)


def _check_regular(folder: files.Folder, irregular: Sequence[str]) -> None:
    """Raise a XenonError if any names are those of links or the like."""
    if irregular:
        raise XenonError(
            f"{folder.path / irregular[0]}: is a link, or not a regular file: a run "
            f"writes only into its own folder; put the file or the folder itself there"
        )
