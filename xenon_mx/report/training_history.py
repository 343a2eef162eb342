"""How a run was trained, in words, tables and drawings.

Owns what a report says of run.json, log.csv and best.json. Knows no predictions and no
page.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from xenon_mx.report import plots
from xenon_mx.report.plots import Curve, Plot, Table, format_number
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.epoch_log import EpochRecord
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import RunMeta, SplitSize


@dataclass(frozen=True)
class TrainingHistory:
    """What a report shows of a run's training.

    Attributes:
        facts: Names and values of what was trained on what.
        weights: The loss weights, a row a study type.
        note: One sentence above the curves.
        curves: Loss, agreement and learning rate; empty before the first epoch.
        best: The epochs that were kept, a row each.
    """

    facts: list[tuple[str, str]]
    weights: Table
    note: str
    curves: list[Plot]
    best: Table


def summarize(run: Run) -> TrainingHistory:
    """Tell how a run was trained.

    Raises:
        XenonError: log.csv or best.json is damaged.
    """
    epochs, members = run.log(), run.members()
    return TrainingHistory(
        _facts(run.meta, epochs),
        _weights(run.meta),
        f"Ringed: the {len(members)} epoch{'s' * (len(members) > 1)} with the lowest "
        f"validation loss, whose weights were kept to be averaged. Kappa and AUROC are "
        f"of the set that these epochs were chosen on: neither is a result.",
        _curves(epochs, members) if epochs else [],
        _best(epochs, members),
    )


def _facts(meta: RunMeta, epochs: Sequence[EpochRecord]) -> list[tuple[str, str]]:
    config, versions = meta.settings, meta.versions or {}
    size, fit = meta.preprocessing.size, meta.preprocessing.fit
    start = meta.pretrained
    seconds = sum(epoch.seconds for epoch in epochs)
    return [
        ("Net", f"{config['model']}, one logit, global average pooling"),
        (
            "First weights",
            f"{start.origin} (SHA-256 {start.sha256})" if start else "random",
        ),
        ("Trained on", _split(meta.trained_on)),
        ("Checkpoints chosen on", _split(meta.validated_on)),
        ("Data", f"{config.get('packed', 'unknown')} (SHA-256 {meta.data})"),
        ("Pixels", f"gray, {size}x{size}, fitted by {fit}"),
        ("Loss", _loss(config)),
        ("Recipe", _recipe(config)),
        ("Epochs", f"{len(epochs)}, in {_time(seconds)}"),
        ("Versions", ", ".join(f"{name} {v}" for name, v in versions.items())),
    ]


def _recipe(config: Mapping[str, Any]) -> str:
    patience = config.get("patience")
    waited = "an epoch" if patience == 1 else f"{patience} epochs"
    shared = str(config.get("kvstore") or "").startswith("dist")
    frozen = config.get("freeze_epochs")
    first = f"the last layer alone for the first {frozen} epochs; " if frozen else ""
    return (
        f"Adam, batches of {config.get('batch_size')}{' a worker' if shared else ''}, "
        f"learning rate {config.get('lr')}, divided by 10 after {waited} without a new "
        f"best, down to {config.get('min_lr')}; {first}seed {config.get('seed')}"
    )


def _split(split: SplitSize | None) -> str:
    return f"{split.images:,} images of {split.split}" if split else "unknown"


def _loss(config: Mapping[str, Any]) -> str:
    if config.get("loss") == "plain":
        return "binary cross entropy, not weighted"
    pooled = config.get("pooled_weights")
    whose = "one pair for all study types" if pooled else "a pair for each study type"
    return f"binary cross entropy, with weights: {whose}"


def _time(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "an unknown time"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if hours:
        return f"{hours} h {rest} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _weights(meta: RunMeta) -> Table:
    rows = [
        (name, f"{normal:.4f}", f"{abnormal:.4f}")
        for name, (normal, abnormal) in zip(meta.study_types, meta.weights)
    ]
    header = ("study type", "normal image", "abnormal image")
    return Table("Weights of the loss", header, rows)


def _curves(epochs: Sequence[EpochRecord], members: Sequence[Checkpoint]) -> list[Plot]:
    numbers = [epoch.epoch for epoch in epochs]
    kept = [member.epoch for member in members]
    ends = f"from epoch {numbers[0]} to {numbers[-1]}"
    losses = [
        Curve("training", [epoch.train_loss for epoch in epochs], False),
        Curve("validation", [epoch.val_loss for epoch in epochs], True),
    ]
    agreement = [
        Curve("AUROC", [epoch.auroc for epoch in epochs], False),
        Curve("kappa", [epoch.kappa for epoch in epochs], True),
    ]
    rates = [Curve("learning rate", [epoch.lr for epoch in epochs], True)]
    best = f"kept: epochs {_listed(kept)}"
    return [
        Plot(
            plots.curves(numbers, losses, kept, "loss"),
            f"Line chart of the loss {ends}: training "
            f"{_ends(losses[0])}, validation {_ends(losses[1])}; {best}.",
            "Loss. Training: the mean over the epoch's images as they were trained on. "
            "Validation: after the epoch.",
        ),
        Plot(
            plots.curves(numbers, agreement, kept, "kappa, AUROC"),
            f"Line chart of Cohen's kappa and AUROC {ends}: kappa "
            f"{_ends(agreement[1])}, AUROC {_ends(agreement[0])}; {best}.",
            "Cohen's kappa at 0.5 and AUROC over the validation studies.",
        ),
        Plot(
            plots.curves(numbers, rates, kept, "learning rate", logarithmic=True),
            f"Line chart of the learning rate {ends}, on a logarithmic axis: "
            f"{epochs[0].lr:g} to {epochs[-1].lr:g}; {best}.",
            "Learning rate: divided by 10 on a plateau of the validation loss.",
        ),
    ]


def _listed(kept: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(kept))) or "none"


def _ends(line: Curve) -> str:
    return f"{format_number(line.values[0])} to {format_number(line.values[-1])}"


def _best(epochs: Sequence[EpochRecord], members: Sequence[Checkpoint]) -> Table:
    by_number = {epoch.epoch: epoch for epoch in epochs}
    rows = []
    for member in members:
        row = by_number.get(member.epoch)
        scores = (row.kappa, row.auroc) if row else (math.nan, math.nan)
        rows.append(
            (str(member.epoch), f"{member.loss:.4f}", *map(format_number, scores))
        )
    header = ("epoch", "validation loss", "kappa", "AUROC")
    return Table("The epochs that were kept, the best first", header, rows)
