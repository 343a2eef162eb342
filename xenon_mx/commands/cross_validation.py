"""xenon-train --folds: one run per fold, and what each predicts of the part left out.

Owns the order of the work, what is left when it is stopped, and RUN/out-of-fold.csv.
Must not know how a run is trained, or the command line.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Sequence

from xenon_mx.commands import train, train_checks, train_settings, validation
from xenon_mx.config import MEAN, STD, TrainConfig
from xenon_mx.data import (
    fold_packing,
    folds,
    mura,
    output_records,
    outputs,
    packed_folder,
)
from xenon_mx.data.fold_packing import Pool
from xenon_mx.data.folds import Fold
from xenon_mx.errors import XenonError
from xenon_mx.evaluation import out_of_fold, provenance
from xenon_mx.evaluation.provenance import Provenance
from xenon_mx.evaluation.study_type_metrics import StudyTypeMetrics
from xenon_mx.runs import finished_run, folds_folder
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.folds_folder import OUT_OF_FOLD_CSV, FoldsFolder, FoldsMeta
from xenon_mx.runs.run_folder import LEFT_OUT_CSV, VALIDATION_CSV, Run
from xenon_mx.runs.run_meta import RUN_JSON, DataMeta, Preprocessing
from xenon_mx.runtime import disk_space, progress, text
from xenon_mx.training import class_weights

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CrossValidation:
    """What a cross-validation comes to.

    Attributes:
        table: RUN/out-of-fold.csv.
        metrics: One entry per fold, and one over all studies.
        best: The best epoch of each fold.
    """

    table: Path
    metrics: list[StudyTypeMetrics]
    best: list[Checkpoint]


def cross_validate(
    config: TrainConfig, bar: progress.Bar = progress.silent
) -> CrossValidation:
    """Train a run per fold, or those that are missing, and join their predictions.

    Args:
        config: The settings of `xenon-train`, with `folds`.
        bar: Shows the steps of each epoch.

    Raises:
        XenonError: A setting or an input is not valid. What was finished is kept.
    """
    assert config.folds is not None, "a single run is trained by train.train"
    table = config.run / OUT_OF_FOLD_CSV
    train_checks.check_arguments(config)
    if config.resume:
        _check_unchanged(config)
        validation.check_own(table)
    else:
        folds_folder.check_new(config.run)
    pool = Pool.open(packed_folder.open_packed(config.packed))
    parts = folds.assign(pool.images, config.folds, config.seed)
    meta = _describe(config, pool, parts)
    with folds_folder.hold(config.run, meta, not config.resume) as held:
        try:
            _log_start(config, pool, len(parts))
            for fold in parts:
                _complete(config, held, pool, fold, bar)
        except BaseException:
            if not any(config.run.glob(f"*/{RUN_JSON}")):  # nothing to resume
                fold_packing.remove(config.run / folds_folder.packed_name(1))
                held.undo()
            raise
        _join(config, held, pool)
    runs = [Run.open(config.run / each.run) for each in held.meta.runs]
    return CrossValidation(
        table=table,
        metrics=out_of_fold.metrics_by_fold(table, config.folds),
        best=[run.members()[0] for run in runs],
    )


def _describe(config: TrainConfig, pool: Pool, parts: Sequence[Fold]) -> FoldsMeta:
    """Return folds.json, after a check that every fold can be trained and predicted."""
    packed = pool.packed
    if any(out_of_fold.FOLD in each.image.extra for each in pool.images):
        raise XenonError(
            f"{config.packed}: its images have a column {out_of_fold.FOLD!r} already, "
            f"which --folds adds to the table: rename the column, and pack again"
        )
    for fold in parts:
        _weights(
            config,
            packed.study_types,
            [each.image for each in fold.train],
            [each.image for each in fold.tuning],
            f"{config.packed}: without fold {fold.number}",
        )
    images = [each.image for each in pool.images]
    weights = _weights(config, packed.study_types, images, [], str(config.packed))
    runs = [folds_folder.FoldRun(folds_folder.run_name(part.number)) for part in parts]
    if config.resume:
        runs = list(folds_folder.read(config.run).runs)
    return FoldsMeta(
        shared=DataMeta(
            data=packed.fingerprint,
            study_types=packed.study_types,
            weights=weights,
            preprocessing=Preprocessing(**packed.preprocessing, mean=MEAN, std=STD),
        ),
        images=len(images),
        seed=config.seed,
        settings=train_settings.recorded(config),
        runs=tuple(runs),
    )


def _weights(
    config: TrainConfig,
    types: Sequence[str],
    trained: Sequence[mura.Image],
    validated: Sequence[mura.Image],
    name: str,
) -> tuple[tuple[float, ...], ...]:
    """Return the loss weights that a training on these images has."""
    weights = class_weights.loss_weights(
        config,
        types,
        {image.study_type for image in (*trained, *validated)},
        {key: counts.weights for key, counts in mura.count(trained).items()},
        mura.count_all(trained).weights,
        name,
    )
    return tuple(map(tuple, weights.tolist()))


def _check_unchanged(config: TrainConfig) -> None:
    """Check that folds are resumed with their own settings and data."""
    meta = folds_folder.read(config.run)
    changed = train_settings.changes(config, meta.settings)
    if packed_folder.open_packed(config.packed).fingerprint != meta.shared.data:
        changed.append(
            f"{config.packed} holds other data than {meta.settings['packed']} did, by "
            f"the SHA-256 of {packed_folder.PACK_JSON}"
        )
    if changed:
        raise XenonError(
            f"{config.run}: cannot be resumed with other settings or data: "
            f"{changed[0]}",
            changed[1:],
        )


def _log_start(config: TrainConfig, pool: Pool, count: int) -> None:
    patients = len({each.image.patient_or_study for each in pool.images})
    _log.info(
        "%s of %s of %s; a copy of the records of one fold at a time takes %s of disk "
        "(%s free)",
        text.counted(count, "fold"),
        text.counted(patients, "patient"),
        " and ".join(pool.splits),
        text.format_bytes(pool.bytes),
        text.format_bytes(disk_space.free(config.run)),
    )


def _complete(
    config: TrainConfig,
    held: FoldsFolder,
    pool: Pool,
    fold: Fold,
    bar: progress.Bar,
) -> None:
    """Train and predict a fold, as far as that has not been done."""
    folder = config.run / folds_folder.run_name(fold.number)
    packed = config.run / folds_folder.packed_name(fold.number)
    name = f"fold {fold.number} of {config.folds}"
    if _is_complete(folder, config.epochs):
        _log.info("%s is finished", name)
    else:
        _log.info("%s: %s", name, _sizes(fold))
        if fold_packing.open_if_whole(packed) is None:
            disk_space.check(config.run, pool.bytes)
            fold_packing.write(pool, fold, packed, bar)
        is_begun = (folder / RUN_JSON).is_file()
        own = replace(config, packed=packed, run=folder, folds=None, resume=is_begun)
        train.train(own, bar)
        validation.predict_if_due(own, progress.silent, again=config)
        validation.predict_if_due(own, bar, LEFT_OUT_CSV, again=config)
    held.complete(fold.number, Run.open(folder))
    fold_packing.remove(packed)


def _sizes(fold: Fold) -> str:
    """Return how many patients a fold trains on, and so on."""
    parts = {
        "to train on": fold.train,
        "to tune": fold.tuning,
        "left out": fold.left_out,
    }
    counts = {
        what: len({each.image.patient_or_study for each in listed})
        for what, listed in parts.items()
    }
    words = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    return f"patients: {words}"


def _is_complete(folder: Path, epochs: int) -> bool:
    """Return whether nothing of a fold remains to be trained or predicted."""
    if not (folder / RUN_JSON).is_file():
        return False
    if finished_run.ending(Run.open(folder), epochs) is None:
        return False
    tables = (VALIDATION_CSV, LEFT_OUT_CSV)
    return not any(validation.is_due(folder, table) for table in tables)


def _join(config: TrainConfig, held: FoldsFolder, pool: Pool) -> None:
    """Write RUN/out-of-fold.csv from the tables of the folds."""
    out = config.run / OUT_OF_FOLD_CSV
    runs = [config.run / each.run for each in held.meta.runs]
    tables = [run / LEFT_OUT_CSV for run in runs]
    described = out_of_fold.describe(
        [_recorded(table) for table in tables],
        runs,
        held.meta.training_data,
        [*pool.splits],
        {"name": "xenon-train", "folds": config.folds, "seed": config.seed},
    )
    written = outputs.Outputs(
        "xenon-train",
        [outputs.Output(out, "RUN", (".csv",), output_records.BesideRecord())],
        overwrite=False,
    )
    identities = [each.identity for each in held.meta.runs]
    origin = outputs.made_from({"runs": identities, "data": pool.packed.fingerprint})
    written.claim(origin, tables)
    notes = {provenance.KEY: described.beside(out).to_json()}
    written.write({out: out_of_fold.join(tables)}, {out: notes})


def _recorded(table: Path) -> Provenance:
    found = provenance.read(table)
    if found.provenance is None:
        raise XenonError(
            f"{table}: cannot be joined with those of the other folds: {found.reason}: "
            f"remove it, and resume with --resume"
        )
    return found.provenance
