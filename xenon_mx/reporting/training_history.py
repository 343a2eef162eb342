"""How a run was trained, in words, tables and plots.

Owns what a report shows of run.json, log.csv and best.json; must not know predictions
or the page.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Sequence

from xenon_mx.reporting import plots
from xenon_mx.reporting.plot_style import Plot
from xenon_mx.reporting.plots import Curve
from xenon_mx.reporting.run_progress import unfinished
from xenon_mx.reporting.tables import Table
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.epoch_log import EpochRecord
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import RunMeta, SplitSize
from xenon_mx.runtime.text import counted, format_number, one_line


@dataclass(frozen=True)
class TrainingHistory:
    """What a report shows of a run's training.

    Attributes:
        name: The name of the run's folder.
        facts: Names and values: net, data, settings.
        weights: The loss weights, one row per study type.
        note: What the rings in the curves mean, or why there are no curves.
        unfinished: A sentence if training is not finished, else empty.
        curves: Loss, metrics and learning rate; empty before the first epoch, and of a
            net that was not trained here.
        checkpoints: The checkpoints of the ensemble, one per row.
    """

    name: str
    facts: list[tuple[str, str]]
    weights: Table
    note: str
    unfinished: str
    curves: list[Plot]
    checkpoints: Table


def summarize(run: Run) -> TrainingHistory:
    """Summarize how a run was trained.

    Raises:
        XenonError: log.csv or best.json is damaged.
    """
    epochs, members = run.log(), run.members()
    return TrainingHistory(
        name=one_line(run.folder.resolve().name),
        facts=_facts(run.meta, epochs),
        weights=_weights_table(run.meta),
        note=_note(run.meta, epochs, len(members)),
        unfinished=unfinished(run, epochs),
        curves=list(_curves(epochs, members)) if _has_curves(run.meta, epochs) else [],
        checkpoints=_checkpoints_table(run.meta, epochs, members),
    )


def _has_curves(meta: RunMeta, epochs: Sequence[EpochRecord]) -> bool:
    """Return whether epochs were trained."""
    return bool(epochs) and not meta.is_from_elsewhere


def _note(meta: RunMeta, epochs: Sequence[EpochRecord], members: int) -> str:
    """Return what the rings in the curves mean, and what kappa and AUROC are."""
    if meta.is_from_elsewhere:
        return (
            "This net was not trained here, so that there are no curves. The table is "
            "what it reached on the split that it was validated on; whether that split "
            "trained it is not known."
        )
    if not epochs:
        return "No epoch is finished yet."
    rings = (
        f"Rings mark the {members} epochs with the lowest validation loss: the members "
        f"of the ensemble, whose probabilities are averaged."
    )
    if members == 1:
        rings = (
            "A ring marks the epoch with the lowest validation loss: the only member "
            "of the ensemble."
        )
    if not _has_metrics(epochs):
        return (
            f"{rings} Kappa and AUROC are undefined, since all validation studies have "
            f"the same label, and are not drawn."
        )
    chosen = "this epoch" if members == 1 else "these epochs"
    return (
        f"{rings} Kappa and AUROC are measured on the data that chose {chosen}: they "
        f"are not results."
    )


def _has_metrics(epochs: Sequence[EpochRecord]) -> bool:
    """Return whether kappa or AUROC is defined after any epoch."""
    return any(math.isfinite(x) for each in epochs for x in (each.kappa, each.auroc))


def _facts(meta: RunMeta, epochs: Sequence[EpochRecord]) -> list[tuple[str, str]]:
    config, versions = meta.settings, meta.versions or {}
    size, fit = meta.preprocessing.size, meta.preprocessing.fit
    start = meta.pretrained
    return [
        ("Net", f"{meta.model}, one logit, global average pooling"),
        (
            "Weights" if meta.is_from_elsewhere else "Initial weights",
            f"{start.words} (SHA-256 {start.sha256})" if start else "random",
        ),
        *_splits(meta),
        ("Data", f"{config.get('packed', 'unknown')} (SHA-256 {meta.data})"),
        ("Input", f"gray, {size}x{size} pixels, fitted by {fit}"),
        ("Validation loss" if meta.is_from_elsewhere else "Loss", _loss(config)),
        *([] if meta.is_from_elsewhere else _training(config, epochs)),
        ("Versions", ", ".join(f"{name} {v}" for name, v in versions.items())),
    ]


def _splits(meta: RunMeta) -> list[tuple[str, str]]:
    """Return what trained the net, and what chose its checkpoints."""
    if meta.is_from_elsewhere:
        return [
            ("Trained on", "not trained here: on what is not known"),
            ("Validated on", _split_size(meta.validated_on)),
        ]
    return [
        ("Trained on", _split_size(meta.trained_on)),
        ("Checkpoints chosen on", _split_size(meta.validated_on)),
    ]


def _training(
    config: Mapping[str, Any], epochs: Sequence[EpochRecord]
) -> list[tuple[str, str]]:
    """Return how the net was trained, and for how long."""
    duration = _duration(sum(epoch.seconds for epoch in epochs))
    return [
        ("Optimizer", _optimizer(config)),
        ("Epochs", f"{len(epochs)} in {duration}"),
    ]


def _optimizer(config: Mapping[str, Any]) -> str:
    patience = config.get("patience")
    epochs = "1 epoch" if patience == 1 else f"{patience} epochs"
    is_distributed = str(config.get("kvstore") or "").startswith("dist")
    per_worker = " per worker" if is_distributed else ""
    frozen = config.get("freeze_epochs")
    freezing = f"the last layer only for the first {frozen} epochs; " if frozen else ""
    return (
        f"Adam, batches of {config.get('batch_size')}{per_worker}, learning rate "
        f"{config.get('lr')}, divided by 10 after {epochs} without a new lowest "
        f"validation loss, down to {config.get('min_lr')}; {freezing}seed "
        f"{config.get('seed')}"
    )


def _split_size(split: SplitSize | None) -> str:
    return f"{counted(split.images, 'image')} of {split.split}" if split else "unknown"


def _loss(config: Mapping[str, Any]) -> str:
    if config.get("loss") == "plain":
        return "binary cross entropy, unweighted"
    pooled = config.get("pooled_weights")
    pairs = "one pair for all study types" if pooled else "one pair per study type"
    return f"binary cross entropy, weighted: {pairs}"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "an unknown time"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if hours:
        return f"{hours} h {rest} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _weights_table(meta: RunMeta) -> Table:
    rows = [
        (name, f"{normal:.4f}", f"{abnormal:.4f}")
        for name, (normal, abnormal) in zip(meta.study_types, meta.weights)
    ]
    header = ("study type", "normal image", "abnormal image")
    return Table("Loss weights", header, rows)


def _curves(
    epochs: Sequence[EpochRecord], members: Sequence[Checkpoint]
) -> Iterator[Plot]:
    """Yield the loss, kappa with AUROC if they are defined, and the learning rate."""
    numbers = [epoch.epoch for epoch in epochs]
    kept = [member.epoch for member in members]
    span = f"from epoch {numbers[0]} to {numbers[-1]}"
    plural = "s" * (len(kept) != 1)
    kept_epochs = f"kept: epoch{plural} {', '.join(map(str, sorted(kept))) or 'none'}"
    train = Curve("training", [epoch.train_loss for epoch in epochs], False)
    valid = Curve("validation", [epoch.val_loss for epoch in epochs], True)
    auroc = Curve("AUROC", [epoch.auroc for epoch in epochs], False)
    kappa = Curve("kappa", [epoch.kappa for epoch in epochs], True)
    rate = Curve("learning rate", [epoch.lr for epoch in epochs], True)
    draw = plots.draw_training_curves
    yield Plot(
        draw(numbers, [train, valid], kept, "loss"),
        f"Line chart of the loss {span}: training {_first_to_last(train)}, "
        f"validation {_first_to_last(valid)}; {kept_epochs}.",
        "Loss. Training: mean over the images of the epoch, computed during the "
        "epoch. Validation: computed after the epoch.",
    )
    if _has_metrics(epochs):
        yield Plot(
            draw(numbers, [auroc, kappa], kept, "kappa, AUROC"),
            f"Line chart of Cohen's kappa and AUROC {span}: kappa "
            f"{_first_to_last(kappa)}, AUROC {_first_to_last(auroc)}; {kept_epochs}.",
            "Cohen's kappa at a threshold of 0.5 and AUROC, on the validation studies.",
        )
    yield Plot(
        draw(numbers, [rate], kept, "learning rate", logarithmic=True),
        f"Line chart of the learning rate {span}, on a logarithmic axis: "
        f"{epochs[0].lr:g} to {epochs[-1].lr:g}; {kept_epochs}.",
        "Learning rate, divided by 10 on each plateau of the validation loss.",
    )


def _first_to_last(curve: Curve) -> str:
    return f"{format_number(curve.values[0])} to {format_number(curve.values[-1])}"


def _checkpoints_table(
    meta: RunMeta, epochs: Sequence[EpochRecord], members: Sequence[Checkpoint]
) -> Table:
    by_number = {epoch.epoch: epoch for epoch in epochs}
    rows = []
    for member in members:
        epoch = by_number.get(member.epoch)
        scores = (epoch.kappa, epoch.auroc) if epoch else (math.nan, math.nan)
        rows.append(
            (str(member.epoch), f"{member.loss:.4f}", *map(format_number, scores))
        )
    header = ("epoch", "validation loss", "kappa", "AUROC")
    if meta.is_from_elsewhere:
        rows = [("as it was given", *row[1:]) for row in rows]
        return Table("Validation of the net", ("net", *header[1:]), rows)
    return Table("Checkpoints of the ensemble, lowest loss first", header, rows)
