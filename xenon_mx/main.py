"""Entry points of the commands: set up streams and signals, then import `cli`.

Ctrl-C during the import, which is slow, is then one line, too. Owns the order of these
steps; must not know flags.
"""

from __future__ import annotations

from functools import partial
from typing import NoReturn

from xenon_mx.runtime import signals, streams


def _start(name: str) -> NoReturn:
    """Run the function of `cli` with this name."""
    streams.guard()
    try:
        signals.install()
        from xenon_mx import cli

        getattr(cli, name)()
        raise AssertionError("a command must exit")
    except BaseException:
        if signals.received():
            signals.exit_process()
        raise


pack = partial(_start, "pack")
train = partial(_start, "train")
predict = partial(_start, "predict")
decide = partial(_start, "decide")
export = partial(_start, "export")
report = partial(_start, "report")
launch = partial(_start, "launch")
doctor = partial(_start, "doctor")
xenon = partial(_start, "xenon")  # all of them, as subcommands
