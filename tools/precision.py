"""Train with and without `--amp`, and show how the results differ.

    python tools/precision.py PACKED OUT [--seeds 5] -- FLAGS OF xenon-train

Trains each seed twice from the same first weights, predicts PACKED/valid.rec by both
ensembles, and prints kappa, AUROC and lowest validation loss of each, and the mean
differences with 95% intervals (t distribution, over seeds). After
`xenon-pack --holdout`, valid.rec is a test set. What OUT holds is not trained again.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from xenon_mx.evaluation import metrics

KINDS = {"f32": [], "amp": ["--amp"]}


class Result(NamedTuple):
    """What a training of one seed gave, on the studies of valid.rec."""

    kappa: float
    auroc: float
    loss: float


def main() -> int:
    """Train, predict and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("packed", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("flags", nargs="*", help="of xenon-train, after --")
    options = parser.parse_args()
    results: dict[str, list[Result]] = {kind: [] for kind in KINDS}
    for seed in range(options.seeds):
        for kind, flags in KINDS.items():
            sys.stderr.write(f"seed {seed}: {kind} ...\n")
            run = options.out / f"{kind}-{seed}"
            command = [options.packed, run, "--seed", seed, *options.flags, *flags]
            results[kind].append(measure(options.packed, run, command))
    sys.stdout.write(table(results))
    return 0


def measure(packed: Path, run: Path, train: list[object]) -> Result:
    """Train a run and predict valid.rec, unless that is done; return the result."""
    predictions = run.with_suffix(".csv")
    if not predictions.exists():
        call("xenon-train", *train)
        call("xenon-predict", packed / "valid.rec", predictions, "--run", run)
    with open(predictions, newline="") as stream:
        rows = list(csv.DictReader(stream))
    labels = np.array([int(row["label"]) for row in rows])
    prob = np.array([float(row["probability"]) for row in rows])
    with open(run / "log.csv", newline="") as stream:
        losses = [float(row["val_loss"]) for row in csv.DictReader(stream)]
    kappa = metrics.kappa(labels, prob > 0.5)
    return Result(kappa, metrics.auroc(labels, prob), min(losses))


def call(name: str, *arguments: object) -> None:
    """Run a program of this environment; exit with its output if it fails."""
    command = [str(Path(sys.executable).with_name(name)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {command}: exit status {done.returncode}\n{done.stderr}")


def table(results: dict[str, list[Result]]) -> str:
    """Return the results of each seed and their differences, as Markdown."""
    names = Result._fields
    columns = [f"{name}, {kind}" for name in names for kind in KINDS]
    lines = [f"| seed | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for seed, pair in enumerate(zip(*results.values())):
        cells = [f"{getattr(r, name):.3f}" for name in names for r in pair]
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    lines.append("")
    f32, amp = (np.array(results[kind]) for kind in KINDS)
    for name, difference, spread in zip(names, (amp - f32).T, f32.std(axis=0, ddof=1)):
        mean = difference.mean()
        margin = stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
        lines.append(
            f"{name}: with amp {mean:+.3f} ({mean - margin:+.3f} to "
            f"{mean + margin:+.3f}); standard deviation of f32 over seeds {spread:.3f}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
