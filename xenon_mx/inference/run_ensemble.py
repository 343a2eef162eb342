"""What is known of an ensemble from the runs of its members.

Owns what a run folder says of its members, after `members` has chosen them. Must not
know engines, nets, image files or CSVs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

from xenon_mx.evaluation.decision import Decision
from xenon_mx.evaluation.provenance import (
    EnsembleSource,
    MemberSource,
    RunSource,
    TrainingData,
)
from xenon_mx.inference.members import choose
from xenon_mx.runs import decision_file
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.run_meta import RunMeta
from xenon_mx.runs.seen_studies import SeenByAny, SeenStudies


class RunEnsemble:
    """The best checkpoints of one run or several, or of folds.

    Args:
        folders: The run folders, or one folder of folds.
        members: How many checkpoints: see `members.choose`.

    Attributes:
        meta: See `ensembles.Ensemble`, as for the other attributes.
        identities: The identity of each run, in alphabetical order.
        members: The checkpoints.
        models: The name of each member's net, one of `net_names.NAMES`.
        asked: The number of members that was asked for.
        folds: The number of folds, or 0.
        limit_reason: Why there are no more members.

    Raises:
        XenonError: As `members.choose` raises it.
    """

    def __init__(self, folders: Sequence[Path], members: int | None) -> None:
        self._chosen = choose(folders, members)
        self._runs, self._ranked = self._chosen.runs, self._chosen.ranked
        self.meta: RunMeta = self._chosen.meta
        self.identities = sorted(run.identity for run in self._runs)
        self.members: list[Checkpoint] = [member for member, _ in self._ranked]
        self.models = [run.meta.model for _, run in self._ranked]
        self.asked = self._chosen.asked
        self.folds = len(self._runs) if self._chosen.folds else 0
        self.limit_reason = self._chosen.limit_reason

    def files(self) -> list[Path]:
        """Return every file that is read: all files of the runs."""
        return self._chosen.files()

    def describe_members(self) -> list[dict[str, Any]]:
        """Return what an export records of each member, in the order of the members.

        Each has the keys `model`, `epoch`, `loss`, `params` and `sha256`.
        """
        return [
            {
                "model": model,
                "epoch": member.epoch,
                "loss": member.loss,
                "params": member.params.name,
                "sha256": member.sha256,
            }
            for member, model in zip(self.members, self.models)
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
