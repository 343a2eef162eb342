"""What is known of an ensemble, whichever engine runs it.

Owns the interface of an ensemble, and whether --run names runs or an ONNX
file. Must not know engines, image files or CSVs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Sequence, Union

from xenon_mx.errors import XenonError
from xenon_mx.evaluation.decision import Decision
from xenon_mx.evaluation.provenance import EnsembleSource, TrainingData
from xenon_mx.inference.onnx_ensemble import OnnxEnsemble
from xenon_mx.inference.onnx_metadata import is_onnx_file
from xenon_mx.inference.run_ensemble import RunEnsemble
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.run_meta import DataMeta
from xenon_mx.runs.seen_studies import SeenByAny, SeenStudies

AnyEnsemble = Union[RunEnsemble, OnnxEnsemble]


class Ensemble(Protocol):
    """Members whose probabilities are averaged."""

    @property
    def meta(self) -> DataMeta:
        """The part of run.json in which the runs of all members agree."""

    @property
    def identities(self) -> list[str]:
        """What identifies the runs that the members come from."""

    @property
    def members(self) -> list[Checkpoint]:
        """The checkpoints, the best first: see `members.Members`."""

    @property
    def asked(self) -> int:
        """The number of members that was asked for."""

    @property
    def folds(self) -> int:
        """The number of folds that the members are of; 0 if they are of none."""

    @property
    def limit_reason(self) -> str:
        """Why there are no more members."""

    def files(self) -> list[Path]:
        """Return every file that is read."""

    def source(self) -> EnsembleSource:
        """Return what a table records of the members and their runs."""

    def training_data(self) -> TrainingData:
        """Return what a table records of the data that the members were trained on."""

    def seen_studies(self) -> SeenStudies | SeenByAny | None:
        """Return which studies the members have seen; None if that is not recorded."""

    def decisions(self) -> dict[str, Decision]:
        """Return the decisions about the runs, whatever members they are about.

        Each by the file that holds it, as messages name it.
        """


def open_ensemble(paths: Sequence[Path], members: int | None) -> AnyEnsemble:
    """Open what --run names: runs or an ONNX file.

    Args:
        paths: Run folders, one folder of folds, or one ONNX file.
        members: The largest number of members, the lowest validation losses first; None
            is 5. Of folds, the number of each fold; None is 1, or all in an ONNX file.

    Raises:
        XenonError: As the two classes raise it, or an ONNX file is not the only path.
    """
    onnx_files = [path for path in paths if is_onnx_file(path)]
    if not onnx_files:
        return RunEnsemble(paths, members)
    if len(paths) > 1:
        raise XenonError(
            f"{onnx_files[0]}: an ONNX file is a whole ensemble: give no other --run, "
            f"or export all of the runs into one file"
        )
    return OnnxEnsemble(onnx_files[0], members)
