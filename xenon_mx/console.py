"""What the commands print: lines, tables, and the log on standard error.

Owns the layout of the tables and the log handler. Must not know flags, nets or files.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Callable, Sequence

import click
from tqdm import tqdm

from xenon_mx.runtime import text

if TYPE_CHECKING:  # these load NumPy, which `--help` must not wait for
    from xenon_mx.commands.predict import Predictions
    from xenon_mx.data.packed_folder import PackedFolder
    from xenon_mx.evaluation.decision import Decision
    from xenon_mx.evaluation.estimates import Estimate
    from xenon_mx.evaluation.sample_size import SampleSize
    from xenon_mx.evaluation.study_type_metrics import StudyTypeMetrics
    from xenon_mx.reporting.tables import Table


# The columns of what was packed, and the counts in them.
_COUNTS = {
    "images": "images",
    "abnormal images": "abnormal",
    "studies": "studies",
    "abnormal studies": "abnormal_studies",
    "left out": "missing",
}


class _LogHandler(logging.Handler):
    """A handler that writes log lines above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        warning = "warning: " if record.levelno >= logging.WARNING else ""
        tqdm.write(text.one_line(warning + record.getMessage()), file=sys.stderr)


def log_to_stderr() -> None:
    """Write xenon's log to standard error from now on."""
    log = logging.getLogger("xenon_mx")
    log.setLevel(logging.INFO)
    log.addHandler(_LogHandler())


def print_line(message: str) -> None:
    """Print a message on standard error as one line, with odd characters escaped."""
    print_unescaped(text.one_line(message))


def print_unescaped(line: str) -> None:
    """Print a line of another program on standard error, with its colours."""
    click.echo(line, err=True)


def print_table(
    rows: Sequence[tuple[str, ...]],
    left: int,
    write: Callable[[str], None] = print_line,
) -> None:
    """Print rows in aligned columns.

    Args:
        rows: The cells of each row, the header first.
        left: How many columns, from the first, are aligned left; the others are right.
        write: Prints one row.
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ]
        write("  ".join(cells).rstrip())


def print_differences(table: Table) -> None:
    """Print a table of differences, each value and its interval on one line."""
    rows = [tuple(map(_on_one_line, row)) for row in table.rows]
    print_line(f"{table.caption}:")
    print_table([tuple(table.header), *rows], left=1)


def print_packed(packed: PackedFolder) -> None:
    """Print what was packed: one row per split and study type, and one per split."""
    from xenon_mx.data import mura_release

    rows: list[tuple[str, ...]] = [("split", "study type", *_COUNTS)]
    for split in packed.splits:
        meta = packed.meta.splits[split]
        for name, counts in (*meta.counts.items(), ("overall", meta.total)):
            numbers = (getattr(counts, key) for key in _COUNTS.values())
            rows.append((split, name, *(f"{number:,}" for number in numbers)))
    print_table(rows, left=2)
    for line in mura_release.compare(packed.meta):
        print_line(line)
    print_line(_next_step(packed))


def _next_step(packed: PackedFolder) -> str:
    """Return where the data were packed, and what can be done with them."""
    folder = text.shell_quote(packed.folder)
    done = f"packed into {packed.folder}"
    if "train" not in packed.splits:
        rec = text.shell_quote(packed.folder / f"{packed.splits[0]}.rec")
        return (
            f"{done}; it has no train split, and xenon-train needs one; next: "
            f"xenon-predict {rec} OUT.csv --run RUN"
        )
    if packed.validation_split is None:
        return (
            f"{done}; it has no split to validate on, and xenon-train needs one: pack "
            f"again with --holdout 0.1 --overwrite, which sets a tenth of the training "
            f"patients aside"
        )
    return f"{done}; next: xenon-train {folder} RUN"


def print_metrics(
    metrics: Sequence[StudyTypeMetrics], heading: str = "study type"
) -> None:
    """Print kappa and AUROC with their 95% intervals: one row per study type or fold.

    Args:
        metrics: The rows.
        heading: What their names are.
    """
    if not metrics:
        return
    rows: list[tuple[str, ...]] = [
        (
            *(heading, "studies", "abnormal studies", "called abnormal"),
            *("kappa (95% interval)", "AUROC (95% interval)"),
        )
    ]
    for row in metrics:
        counts = (row.studies, row.abnormal, row.called_abnormal)
        estimates = (row.estimates[name] for name in ("kappa", "AUROC"))
        rows.append(
            (
                row.study_type or "none",
                *(f"{count:,}" for count in counts),
                *map(_format_estimate, estimates),
            )
        )
    print_table(rows, left=1)


def print_predictions(predictions: Predictions) -> None:
    """Print how many studies were called abnormal, and how often that is right."""
    called, total = predictions.count_called_abnormal()
    studies = text.counted(total, "study", "studies")
    decision = predictions.decision
    above = f"{predictions.threshold:.9g}"
    if decision and decision.threshold.decides(predictions.threshold):
        above += f", decided for {decision.threshold.purpose}"
    elif decision and predictions.threshold != decision.threshold.value:
        above += f", given instead of {decision.threshold.value:.9g}"
    print_line(f"called abnormal (probability above {above}): {called:,} of {studies}")
    counts = predictions.count_decisions()
    if counts:
        words = [f"{count:,} {name}" for name, count in counts.items()]
        print_line(f"decision, as xenon-decide made it: {', '.join(words)}")
    if not predictions.metrics:
        return
    overall = predictions.metrics[-1]
    words = [
        f"{name} {_format_estimate(overall.estimates[name])}"
        for name in ("sensitivity", "specificity")
    ]
    over = "studies, whose patients are unknown"
    if overall.patients is not None:
        over = text.counted(overall.patients, "patient")
    print_line(f"{', '.join(words)}; 95% intervals over {over}")


def print_decision(decision: Decision, sizes: Sequence[SampleSize]) -> None:
    """Print what was decided, what it promises, and what narrower intervals need."""
    from xenon_mx.evaluation import decision_words

    print_line(decision_words.subject(decision))
    print_table(decision_words.calibration_rows(decision), left=1)
    for line in (*decision_words.lines(decision), *decision_words.needed(sizes)):
        print_line(line)


def _format_estimate(estimate: Estimate) -> str:
    """Return a metric with its interval, such as `0.829 (0.74 to 0.91)`."""
    return text.format_with_interval(estimate.value, estimate.low, estimate.high)


def _on_one_line(cell: str) -> str:
    """Return a cell of a table with its interval beside its value."""
    return cell.replace("\n", " ")
