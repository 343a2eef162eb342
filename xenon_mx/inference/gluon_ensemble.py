"""The best checkpoints of one run or several, as Gluon nets that MXNet runs.

Owns the choice of the members, whether their runs may be averaged, and loading them.
Must not know image files or CSVs. Imports MXNet only when the members are loaded: the
number of members decides how MXNet shares the cores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, Iterator, Sequence

import numpy as np

from xenon_mx.config import MEAN, STD
from xenon_mx.errors import XenonError
from xenon_mx.evaluation.provenance import (
    EnsembleSource,
    MemberSource,
    RunSource,
    TrainingData,
)
from xenon_mx.models.cam_average import CamBatch
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import ARCHITECTURE, RunMeta
from xenon_mx.runs.seen_studies import SeenStudies
from xenon_mx.runtime import devices, mxnet, text

# What runs must share, so that the same pixels suit all of their nets and their
# validation losses are comparable.
_SHARED_KEYS = ("data", "preprocessing", "study_types", "weights")


class GluonEnsemble:
    """The best checkpoints of one run or several.

    Args:
        folders: The run folders.
        members: The largest number of checkpoints, the lowest validation losses first.

    Attributes:
        meta: See `ensembles.Ensemble`, as for the other attributes.
        identities: The identity of each run, in alphabetical order.
        members: The checkpoints.
        limit_reason: Why there are no more members.

    Raises:
        XenonError: A folder is not a run, has no finished epoch, or the runs were
            trained on different data or with different preprocessing.
    """

    uses_mxnet = True

    def __init__(self, folders: Sequence[Path], members: int) -> None:
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise XenonError("--run names the same run twice")
        self._runs = [Run.open(folder) for folder in folders]
        _check_agreement(self._runs)
        ranked = sorted(
            ((member, run) for run in self._runs for member in run.members()),
            key=lambda pair: pair[0][:2],  # loss, then epoch
        )
        if not ranked:
            names = ", ".join(str(folder) for folder in folders)
            raise XenonError(f"{names}: no finished epoch to predict with")
        self._ranked = ranked[:members]
        self.meta: RunMeta = self._runs[0].meta
        self.identities = sorted(run.identity for run in self._runs)
        self.members: list[Checkpoint] = [member for member, _ in self._ranked]
        plural = "s" * (len(folders) > 1)
        epochs = text.counted(len(self._ranked), "epoch")
        self.limit_reason = f"the run{plural} finished only {epochs}"
        self._loaded: dict[tuple[str | None, bool], tuple[list[Any], list[Any]]] = {}

    def files(self) -> list[Path]:
        """Return every file that is read: all files of the runs."""
        return [file for run in self._runs for file in run.contents()]

    def describe_members(self) -> list[dict[str, Any]]:
        """Return what an export records of each member, lowest validation loss first.

        Each has the keys `model`, `epoch`, `loss`, `params` and `sha256`.
        """
        return [
            {
                "model": run.meta.model,
                "epoch": member.epoch,
                "loss": member.loss,
                "params": member.params.name,
                "sha256": member.sha256,
            }
            for member, run in self._ranked
        ]

    def source(self) -> EnsembleSource:
        """Return members and runs: see `ensembles.Ensemble.source`."""
        runs = [
            RunSource("run", run.folder.resolve().name, str(run.folder), run.identity)
            for run in self._runs
        ]
        members = [
            MemberSource(run=self._runs.index(run), **described)
            for (_, run), described in zip(self._ranked, self.describe_members())
        ]
        return EnsembleSource(tuple(runs), tuple(members))

    def training_data(self) -> TrainingData:
        """Return the data: see `ensembles.Ensemble.training_data`."""
        trained, validated = self.meta.trained_on, self.meta.validated_on
        return TrainingData(
            fingerprint=self.meta.data,
            study_types=self.meta.study_types,
            trained_on=trained.split if trained else None,
            validated_on=validated.split if validated else None,
        )

    def seen_studies(self) -> SeenStudies | None:
        """Return studies.json of the first run that has it: all saw the same data."""
        found = (run.seen_studies() for run in self._runs)
        return next((seen for seen in found if seen is not None), None)

    def versions(self) -> dict[str, str]:
        """Return the version of MXNet."""
        return {"mxnet": mxnet.mx.__version__}

    def logits(
        self,
        batches: Iterable[np.ndarray],
        ctx: str | None = None,
        reference: bool = False,
    ) -> np.ndarray:
        """Compute the members' logits: see `ensembles.Ensemble.logits`."""
        nets, ctxs = self._load_on(ctx, reference)
        from xenon_mx.models import forward

        with mxnet.failures():
            return forward.logits(nets, batches, ctxs, reference)

    def cams(
        self,
        batches: Iterable[np.ndarray],
        ctx: str | None = None,
        reference: bool = False,
    ) -> tuple[list[float], Iterator[CamBatch]]:
        """Compute the ensemble's maps: see `ensembles.Ensemble.cams`."""
        nets, ctxs = self._load_on(ctx, reference)
        from xenon_mx.models import cam_block, forward

        def cam_batches() -> Iterator[CamBatch]:
            with mxnet.failures():
                yield from forward.cams(nets, batches, ctxs, reference)

        size = self.meta.preprocessing.size
        # Maps of different nets are averaged cell by cell, whatever their extents.
        extents = [cam_block.cam_extent(net, size) for net in nets]
        return np.mean(extents, axis=0).tolist(), cam_batches()

    def _load_on(self, ctx: str | None, reference: bool) -> tuple[list[Any], list[Any]]:
        """Load the members, unless an earlier call has; return nets and devices."""
        if (ctx, reference) not in self._loaded:
            if not reference:  # before MXNet is imported
                mxnet.share_cores(len(self.members))
            ctxs = devices.contexts(ctx)
            with mxnet.failures():
                self._loaded[ctx, reference] = self.load(ctxs, reference), ctxs
        return self._loaded[ctx, reference]

    def load(self, ctxs: Sequence[Any], reference: bool = False) -> list[Any]:
        """Build the nets, after checking the SHA-256 that their runs recorded."""
        from xenon_mx.models import network

        nets = []
        for member, run in self._ranked:
            net = network.build(
                run.meta.model,
                member.params,
                list(ctxs),
                reference,
                sha256=member.sha256,
            )
            nets.append(net)
        return nets


def _check_agreement(runs: Sequence[Run]) -> None:
    """Raise an error unless the members of all runs can be averaged."""
    first, *others = runs
    for run in runs:
        _check_compatible(run)
    for run in others:
        for key in _SHARED_KEYS:
            if getattr(run.meta, key) != getattr(first.meta, key):
                raise XenonError(
                    f"{run.folder} and {first.folder} differ in {key}: their nets "
                    f"cannot be averaged"
                )


def _check_compatible(run: Run) -> None:
    """Raise an error if this xenon normalises pixels or builds nets differently."""
    preprocessing = run.meta.preprocessing
    if (preprocessing.mean, preprocessing.std) != (MEAN, STD):
        raise XenonError(f"{run.folder}: trained with another mean or std than xenon's")
    if run.meta.architecture != ARCHITECTURE:
        raise XenonError(
            f"{run.folder}: trained with another architecture than xenon's"
        )
