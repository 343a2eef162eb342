"""xenon-launch: several workers, and the line that continues their run.

Owns its arguments, its help and what it prints. Must not know how it does its work.
"""

from __future__ import annotations

from typing import Any

import click

from xenon_mx import console, options
from xenon_mx.cli.train_command import KEPT, train_command
from xenon_mx.config import LaunchConfig
from xenon_mx.runtime import memory, signals

_SIGNAL_STATUS = 128  # a higher exit status tells of a signal, or of a lost connection


@options.command(
    "launch",
    context_settings={"allow_interspersed_args": False},
    short_help="Train with several workers.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@options.from_config(LaunchConfig)
@options.VERSION
def launch_command(**flags: Any) -> None:
    """Run COMMAND as several workers that train one net together.

    For example: xenon-launch -n 2 -- xenon-train PACKED RUN --kvstore dist_sync

    Starts MXNet's scheduler and parameter servers beside the workers, prints their
    output, and exits with the worst exit status of all; no process is left running.
    MXNet's servers accept any connection: use a private network.
    """
    memory.check(memory.MXNET)  # the processes it starts have the same limit
    from xenon_mx.commands import launch

    config = LaunchConfig(**flags)
    try:
        status = launch.launch(config, console.print_unescaped)
    except BaseException:
        if signals.received():
            _print_resume_line(config)
        raise
    if status > _SIGNAL_STATUS:
        _print_resume_line(config)
    if status:
        raise click.exceptions.Exit(status)


def _print_resume_line(config: LaunchConfig) -> None:
    """Print how to continue the run that several workers trained."""
    from xenon_mx.commands import resume_line
    from xenon_mx.runs.run_meta import RUN_JSON

    found = resume_line.split_command(config.command)
    if not found:  # another program, which may run xenon-train or not
        if not signals.received():
            console.print_line("to continue a run, start again with --resume")
        return
    program, arguments = found
    context = train_command.make_context(
        "xenon-train", arguments, resilient_parsing=True
    )
    packed, run = context.params["packed"], context.params["run"]
    if not run or not (run / RUN_JSON).exists():
        return
    launcher = click.get_current_context().command_path
    words = [*resume_line.launch_words(launcher, config), *program]
    line = resume_line.resume_line(words, packed, run)
    console.print_line(f"{KEPT}; continue with: {line}")
