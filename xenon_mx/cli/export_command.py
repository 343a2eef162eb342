"""xenon-export: an ensemble for programs without MXNet.

Owns its arguments, its help and what it prints. Must not know how it does its work.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from xenon_mx import console, options
from xenon_mx.config import ExportConfig
from xenon_mx.runtime import memory, progress, text


@options.command("export", short_help="Write an ensemble for ONNX or PyTorch.")
@options.several("runs", "RUN...", before="OUT")
@click.argument("out", metavar="OUT", type=options.PATH)
@options.from_config(ExportConfig)
@options.VERSION
def export_command(**flags: Any) -> None:
    """Write the ensemble of RUN for programs without MXNet.

    OUT is an ONNX file, such as ensemble.onnx. Its input is gray 8-bit pixels at the
    run's size; its outputs are the mean probability and that of each member.
    xenon-predict --run accepts the file, as does any program with ONNX Runtime.

    With --to torch, OUT is a folder: the weights of each member with torchvision's
    names, timm's config.json and a model card, to be uploaded to the Hugging Face hub
    as it is. xenon-train --pretrained takes it back.

    Not for medical use.
    """
    config = ExportConfig(**flags)
    memory.check(memory.MXNET)
    from xenon_mx.commands import export

    members = export.export(config, progress.for_stream(sys.stderr))
    console.print_line(f"{text.counted(members, 'member')} in {config.out}")
    if config.to == "onnx":
        out = text.shell_quote(config.out)
        console.print_line(f"next: xenon-predict INPUT OUT.csv --run {out}")
