"""xenon-doctor: the lines of its report, and its exit status.

Owns its arguments, its help and what it prints. Must not know how it does its work.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from xenon_mx import console, options
from xenon_mx.config import DoctorConfig
from xenon_mx.runtime import memory, progress


@options.command("doctor", short_help="Check what this computer can do.")
@options.from_config(DoctorConfig)
@options.VERSION
def doctor_command(**flags: Any) -> None:
    """Check what this computer can do with xenon, by doing it, in some minutes.

    Prints what is installed. Then compares every device with the CPU, trains some
    steps, measures decoding and the disk, and kills and resumes a training. Each line
    ends in ok, or in what is wrong and what to do; the exit status is 1 if anything is
    wrong. All lines are also written as one file, without names, to paste into a
    report.
    """
    config = DoctorConfig(**flags)
    memory.check(memory.MXNET)  # the processes it starts have the same limit
    from xenon_mx.commands import doctor

    report = doctor.doctor(config, progress.for_stream(sys.stderr), click.echo)
    console.print_line(f"written: {config.out}")
    if not report.is_well:
        raise click.exceptions.Exit(1)
