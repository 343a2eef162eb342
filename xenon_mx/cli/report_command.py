"""xenon-report: the page of a run and its predictions.

Owns its arguments, its help and what it prints. Must not know how it does its work.
"""

from __future__ import annotations

from typing import Any

import click

from xenon_mx import console, options
from xenon_mx.config import ReportConfig
from xenon_mx.runtime import memory


@options.command("report", short_help="Report on a run in one HTML page.")
@click.argument("run", metavar="RUN|PREDICTIONS", type=options.PATH)
@click.argument(
    "predictions", metavar="[PREDICTIONS]", required=False, type=options.PATH
)
@options.from_config(ReportConfig)
@options.VERSION
def report_command(**flags: Any) -> None:
    """Report on a run and its predictions in one HTML page, for any browser, offline.

    PREDICTIONS is a table that xenon-predict wrote. With it, the page has metrics with
    95% confidence intervals, an ROC curve, calibration and a gallery. The file beside
    it (PREDICTIONS.json) tells which runs predicted, and where they are; RUN is needed
    only if they were moved. A table of another program is taken, too: it needs the
    columns study and probability, and label for metrics.

    With --against and --readers, the page compares PREDICTIONS with those of another
    ensemble, and with readers.

    Not for medical use.
    """
    config = ReportConfig(**flags)
    memory.check(memory.REPORT)
    from xenon_mx.commands import report

    for path in report.report(config, console.print_differences, console.print_line):
        console.print_line(f"written: {path}")
