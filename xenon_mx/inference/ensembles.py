"""The interface of an ensemble, and the choice between Gluon and ONNX Runtime.

Owns what an ensemble offers to its users, and which engine opens what --run names.
Must not know how an engine works, image files or CSVs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, Iterator, Protocol, Sequence

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.evaluation.decision import Decision
from xenon_mx.evaluation.provenance import EnsembleSource, TrainingData
from xenon_mx.inference.gluon_ensemble import GluonEnsemble
from xenon_mx.inference.onnx_ensemble import OnnxEnsemble
from xenon_mx.inference.onnx_metadata import is_onnx_file
from xenon_mx.models.cam_average import CamBatch
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.run_meta import DataMeta
from xenon_mx.runs.seen_studies import SeenByAny, SeenStudies


class Ensemble(Protocol):
    """Members whose probabilities are averaged, whichever engine runs them."""

    @property
    def uses_mxnet(self) -> bool:
        """Whether MXNet runs the members; if not, nothing else may import it."""

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

    def versions(self) -> dict[str, str]:
        """Return the version of what runs the members, once it has run."""

    @property
    def limit_reason(self) -> str:
        """Why there are no more members."""

    def logits(
        self,
        batches: Iterable[np.ndarray],
        ctx: str | None = None,
        reference: bool = False,
    ) -> np.ndarray:
        """Compute the logits of all M members in one pass over the images.

        Args:
            batches: (n, S, S) uint8 each, N images in total.
            ctx: Devices, as `devices.parse_ctx` reads them; None is gpu(0) if the
                engine can use it, else cpu().
            reference: Compute without the engine's optimizations.

        Returns:
            (N, M) float32.
        """

    def cams(
        self,
        batches: Iterable[np.ndarray],
        ctx: str | None = None,
        reference: bool = False,
    ) -> tuple[list[float], Iterator[CamBatch]]:
        """Compute the logits and the class activation maps of all members.

        Args:
            batches: As for `logits`.
            ctx: As for `logits`.
            reference: As for `logits`.

        Returns:
            The mean `cam_block.cam_extent` of the members, and logits and maps, a few
            images at a time. Maps of different nets are averaged cell by cell, whatever
            their extents: a cell is then up to half a cell off.
        """


def open_ensemble(paths: Sequence[Path], members: int | None) -> Ensemble:
    """Open what --run names, in Gluon or in ONNX Runtime.

    Args:
        paths: Run folders, one folder of folds, or one ONNX file.
        members: The largest number of members, the lowest validation losses first; None
            is 5. Of folds, the number of each fold; None is 1, or all in an ONNX file.

    Raises:
        XenonError: As the two classes raise it, or an ONNX file is not the only path.
    """
    onnx_files = [path for path in paths if is_onnx_file(path)]
    if not onnx_files:
        return GluonEnsemble(paths, members)
    if len(paths) > 1:
        raise XenonError(
            f"{onnx_files[0]}: an ONNX file is a whole ensemble: give no other --run, "
            f"or export all of the runs into one file"
        )
    return OnnxEnsemble.open(onnx_files[0], members)
