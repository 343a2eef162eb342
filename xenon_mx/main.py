"""Where the commands begin: streams and signals first, then all that takes its time.

Ctrl-C while Python imports `cli` is then one line, too. Knows no flags.
"""

from __future__ import annotations

from functools import partial
from typing import NoReturn

from xenon_mx.runtime import signals, streams


def _start(name: str) -> NoReturn:
    """Run one of the commands of `cli`, by the name that it has there."""
    streams.guard()
    try:
        signals.catch()
        from xenon_mx import cli

        getattr(cli, name)()
        raise AssertionError("a command exits")
    except BaseException:
        if signals.arrived():
            signals.leave()
        raise


pack = partial(_start, "pack")
train = partial(_start, "train")
predict = partial(_start, "predict")
export = partial(_start, "export")
report = partial(_start, "report")
launch = partial(_start, "launch")
