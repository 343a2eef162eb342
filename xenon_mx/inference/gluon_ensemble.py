"""The best checkpoints of one run or several, as Gluon nets that MXNet runs.

Owns loading the members that `members` chooses. Must not know image files or CSVs.
Imports MXNet only when the members are loaded: the number of members decides how MXNet
shares the cores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, Iterator, Sequence

import numpy as np

from xenon_mx.evaluation.decision import Decision
from xenon_mx.evaluation.provenance import (
    EnsembleSource,
    MemberSource,
    RunSource,
    TrainingData,
)
from xenon_mx.inference.members import choose
from xenon_mx.models.cam_average import CamBatch
from xenon_mx.runs import decision_file
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.run_meta import RunMeta
from xenon_mx.runs.seen_studies import SeenByAny, SeenStudies
from xenon_mx.runtime import devices, mxnet


class GluonEnsemble:
    """The best checkpoints of one run or several, or of folds.

    Args:
        folders: The run folders, or one folder of folds.
        members: How many checkpoints: see `members.choose`.

    Attributes:
        meta: See `ensembles.Ensemble`, as for the other attributes.
        identities: The identity of each run, in alphabetical order.
        members: The checkpoints.
        asked: The number of members that was asked for.
        folds: The number of folds, or 0.
        limit_reason: Why there are no more members.

    Raises:
        XenonError: As `members.choose` raises it.
    """

    uses_mxnet = True

    def __init__(self, folders: Sequence[Path], members: int | None) -> None:
        self._chosen = choose(folders, members)
        self._runs, self._ranked = self._chosen.runs, self._chosen.ranked
        self.meta: RunMeta = self._chosen.meta
        self.identities = sorted(run.identity for run in self._runs)
        self.members: list[Checkpoint] = [member for member, _ in self._ranked]
        self.asked = self._chosen.asked
        self.folds = len(self._runs) if self._chosen.folds else 0
        self.limit_reason = self._chosen.limit_reason
        self._loaded: dict[tuple[str | None, bool], tuple[list[Any], list[Any]]] = {}

    def files(self) -> list[Path]:
        """Return every file that is read: all files of the runs."""
        return self._chosen.files()

    def describe_members(self) -> list[dict[str, Any]]:
        """Return what an export records of each member, in the order of the members.

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
        return self._chosen.training_data()

    def seen_studies(self) -> SeenStudies | SeenByAny | None:
        """Return what was seen: see `ensembles.Ensemble.seen_studies`."""
        return self._chosen.seen_studies()

    def decisions(self) -> dict[str, Decision]:
        """Return decision.json of each run that has it."""
        found = {run: decision_file.read(run.folder) for run in self._runs}
        return {
            str(run.folder / decision_file.DECISION_JSON): decision
            for run, decision in found.items()
            if decision is not None
        }

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
