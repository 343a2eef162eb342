"""The commands: each reads its flags, calls one function, and prints what it returns.

Owns the table of commands; each has a module of its own with its arguments and help.
Standard output holds results only; progress and logs go to standard error. MXNet,
pandas and scikit-learn are imported only after the flags are read, so that `--help` is
quick.
"""

from __future__ import annotations

from functools import partial
from typing import NoReturn

import click

from xenon_mx import exit_status, options
from xenon_mx.cli.decide_command import decide_command
from xenon_mx.cli.doctor_command import doctor_command
from xenon_mx.cli.export_command import export_command
from xenon_mx.cli.launch_command import launch_command
from xenon_mx.cli.pack_command import pack_command
from xenon_mx.cli.predict_command import predict_command
from xenon_mx.cli.report_command import report_command
from xenon_mx.cli.train_command import train_command


@click.command(
    cls=options.Group, context_settings=options.HELP, invoke_without_command=True
)
@click.pass_context
@options.VERSION
def xenon_command(context: click.Context) -> None:
    """Predict from bone radiographs whether a study is abnormal.

    By the recipe of the MURA paper. `xenon pack` is the same as `xenon-pack`, and so
    on. Not for medical use.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


# In the order in which `xenon --help` lists them.
for _command in (
    pack_command,
    train_command,
    predict_command,
    decide_command,
    export_command,
    report_command,
    launch_command,
    doctor_command,
):
    xenon_command.add_command(_command)

# Every command by its name, which is also the name of its entry point.
COMMANDS = xenon_command.commands


def _run(name: str) -> NoReturn:
    """Run a command, such as `pack` as xenon-pack, and exit with its status."""
    exit_status.run(COMMANDS[name], f"xenon-{name}")


pack = partial(_run, "pack")
train = partial(_run, "train")
predict = partial(_run, "predict")
decide = partial(_run, "decide")
export = partial(_run, "export")
report = partial(_run, "report")
launch = partial(_run, "launch")
doctor = partial(_run, "doctor")


def xenon() -> NoReturn:
    """Run xenon, the group of all commands, and exit with the command's status."""
    exit_status.run(xenon_command, "xenon")
