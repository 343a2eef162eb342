"""The members of an ensemble: which checkpoints of which runs.

Owns the choice, and whether runs may be averaged. Must not know nets, image files or
CSVs.

Of runs on the same data, the checkpoints with the lowest validation losses are chosen,
whichever runs they are of. The losses of folds are of different patients and are not
compared: each fold has as many members as any other, its own best.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Sequence

from xenon_mx.config import MEAN, MEMBERS, STD
from xenon_mx.errors import XenonError
from xenon_mx.evaluation.provenance import TrainingData
from xenon_mx.evaluation.seen import ELSEWHERE
from xenon_mx.runs import folds_folder
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.folds_folder import FoldsMeta
from xenon_mx.runs.run_folder import FOLDS_JSON, Run
from xenon_mx.runs.run_meta import (
    ARCHITECTURE,
    NOT_TRAINED_HERE,
    RunMeta,
    SplitSize,
)
from xenon_mx.runs.seen_studies import STUDIES_JSON, SeenByAny, SeenStudies
from xenon_mx.runtime import text

# What runs must share, so that the same pixels suit all of their nets and their
# validation losses are comparable; and what is left of it for folds.
_SHARED_KEYS = ("data", "preprocessing", "study_types", "weights")
_SHARED_BY_FOLDS = ("preprocessing", "study_types")


@dataclass(frozen=True)
class Members:
    """Checkpoints to be averaged, and their runs.

    Attributes:
        runs: The runs.
        ranked: The checkpoints, each with its run: the lowest validation losses first;
            of folds, the best of each fold, then the second of each, and so on.
        meta: What the runs agree in; of folds, as if a run had all of their data.
        asked: The number of members that was asked for.
        limit_reason: Why there are no more.
        folds: The content of folds.json, of folds.
        folder: The folder of folds.
    """

    runs: list[Run]
    ranked: list[tuple[Checkpoint, Run]]
    meta: RunMeta
    asked: int
    limit_reason: str
    folds: FoldsMeta | None = None
    folder: Path | None = None

    def files(self) -> list[Path]:
        """Return every file that is read."""
        files = [file for run in self.runs for file in run.contents()]
        return files if self.folder is None else [*files, self.folder / FOLDS_JSON]

    def training_data(self) -> TrainingData:
        """Return the data that trained the members."""
        began = any(run.meta.began_elsewhere for _, run in self.ranked)
        pretrained_on = ELSEWHERE if began else None
        if self.folds is not None:
            return replace(self.folds.training_data, pretrained_on=pretrained_on)
        trained, validated = self.meta.trained_on, self.meta.validated_on
        return TrainingData(
            fingerprint=self.meta.data,
            study_types=self.meta.study_types,
            trained_on=trained.split if trained else None,
            validated_on=validated.split if validated else None,
            pretrained_on=pretrained_on,
        )

    def seen_studies(self) -> SeenStudies | SeenByAny | None:
        """Return which studies any member has seen; None if that is not recorded.

        All runs on the same data saw the same; of folds, each saw other patients. What
        a net saw that was not trained here is not known.

        Raises:
            XenonError: The run of a fold lacks the file.
        """
        if self.meta.is_from_elsewhere:
            return None
        found = [run.seen_studies() for run in self.runs]
        if self.folds is None:
            return next((seen for seen in found if seen is not None), None)
        for run, seen in zip(self.runs, found):
            if seen is None:
                raise XenonError(
                    f"{run.folder / STUDIES_JSON}: is missing, so that it is not known "
                    f"which studies trained the folds: resume them with --resume"
                )
        return SeenByAny(tuple(seen for seen in found if seen is not None))


def choose(folders: Sequence[Path], members: int | None) -> Members:
    """Choose the members of runs, or of folds.

    Args:
        folders: Run folders, or one folder of folds.
        members: The largest number of members; None is 5. Of folds, the number of each
            fold; None is 1.

    Raises:
        XenonError: A folder is not a run, has no finished epoch, or the runs were
            trained on different data or with different preprocessing; or folds are not
            complete, or not alone.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise XenonError("--run names the same run twice")
    around = {folder.resolve().parent for folder in folders}
    if len(folders) > 1 and len(around) == 1 and folds_folder.is_folds(*around):
        parent = text.shell_quote(folders[0].parent)
        raise XenonError(f"for the average of folds, name their folder: --run {parent}")
    of_folds = [folder for folder in folders if folds_folder.is_folds(folder)]
    if not of_folds:
        return _of_runs(folders, MEMBERS if members is None else members)
    if len(folders) > 1:
        raise XenonError(
            f"{text.folder_name(of_folds[0])}: folds are a whole ensemble: give no "
            f"other --run"
        )
    return _of_folds(of_folds[0], 1 if members is None else members)


def _of_runs(folders: Sequence[Path], members: int) -> Members:
    runs = [Run.open(folder) for folder in folders]
    _check_agreement(runs, _SHARED_KEYS)
    ranked = sorted(
        ((member, run) for run in runs for member in run.members()),
        key=lambda pair: pair[0][:2],  # loss, then epoch
    )
    if not ranked:
        names = ", ".join(str(folder) for folder in folders)
        raise XenonError(f"{names}: no finished epoch to predict with")
    chosen = ranked[:members]
    plural = "s" * (len(folders) > 1)
    epochs = text.counted(len(chosen), "epoch")
    reason = f"the run{plural} finished only {epochs}"
    meta = chosen[0][1].meta
    if any(run.meta.is_from_elsewhere for _, run in chosen):
        meta = replace(meta, trained_on=NOT_TRAINED_HERE)
    return Members(runs, chosen, meta, members, reason)


def _of_folds(folder: Path, members: int) -> Members:
    folds, runs = folds_folder.open_runs(folder)
    _check_agreement(runs, _SHARED_BY_FOLDS)
    of_each = [run.members() for run in runs]
    # As many of each: the mean over all members is then the mean over the folds.
    count = min(members, *map(len, of_each))
    ranked = [
        (best[rank], run) for rank in range(count) for best, run in zip(of_each, runs)
    ]
    if not ranked:
        raise XenonError(f"{folder}: no finished epoch to predict with")
    shared, first = folds.shared, runs[0].meta
    meta = replace(
        first,
        data=shared.data,
        study_types=shared.study_types,
        weights=shared.weights,
        trained_on=SplitSize("train", folds.images),
        validated_on=first.validated_on,
    )
    epochs = text.counted(count, "epoch")
    reason = f"a fold finished only {epochs}"
    asked = members * len(runs)
    return Members(runs, ranked, meta, asked, reason, folds, folder)


def _check_agreement(runs: Sequence[Run], keys: Sequence[str]) -> None:
    """Raise an error unless the members of all runs can be averaged."""
    first, *others = runs
    for run in runs:
        _check_compatible(run)
    for run in others:
        for key in keys:
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
