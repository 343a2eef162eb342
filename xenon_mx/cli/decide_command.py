"""xenon-decide: the decision of a run, and what it promises.

Owns its arguments, its help and what it prints. Must not know how it does its work.
"""

from __future__ import annotations

from typing import Any

import click

from xenon_mx import console, options
from xenon_mx.config import DecideConfig
from xenon_mx.runtime import memory, text


@options.command("decide", short_help="Decide calibration and threshold.")
@click.argument("run", type=options.PATH)
@click.argument("table", metavar="TABLE.csv", type=options.PATH)
@options.from_config(DecideConfig)
@options.VERSION
def decide_command(**flags: Any) -> None:
    """Decide how the probabilities of RUN become decisions, and write decision.json.

    TABLE.csv is what xenon-predict wrote with RUN about labelled studies that neither
    trained the nets nor chose their checkpoints. From then on, xenon-predict appends
    the columns calibrated and decision, and predicts by the threshold that was decided.
    Without a flag, probabilities are calibrated, and the threshold stays 0.5.

    Not for medical use.
    """
    config = DecideConfig(**flags)
    memory.check(memory.REPORT)
    from xenon_mx.commands import decide
    from xenon_mx.runs.decision_file import DECISION_JSON

    decision = decide.decide(config)
    console.print_decision(decision, decide.sample_sizes(config, decision))
    console.print_line(f"written: {config.run / DECISION_JSON}")
    run = text.shell_quote(config.run)
    console.print_line(f"next: xenon-predict INPUT OUT.csv --run {run}")
