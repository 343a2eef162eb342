"""xenon-pack: a data set to a packed folder; and --check, which verifies some.

Owns its arguments, its help and what it prints. Must not know how it does its work.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from xenon_mx import console, options
from xenon_mx.config import PackConfig
from xenon_mx.errors import XenonError
from xenon_mx.runtime import memory, progress, text


def _check_packed(
    context: click.Context, _: click.Parameter, folders: tuple[Path, ...]
) -> None:
    """Verify packed folders, and print the splits of each; one error names all."""
    if not folders:
        return
    memory.check(memory.PACK)
    errors = []
    for folder in dict.fromkeys(folders):
        try:
            _check_folder(folder)
        except XenonError as error:
            errors.append(error)
    if len(errors) > 1:
        counted = text.counted(len(errors), "folder")
        raise XenonError(f"{counted} cannot be used", [str(each) for each in errors])
    if errors:
        raise errors[0]
    context.exit()


def _check_folder(folder: Path) -> None:
    from xenon_mx.data import packed_folder

    packed = packed_folder.open_packed(folder)
    name = text.folder_name(folder)
    for split in packed.splits:
        packed.split(split)
        records = text.counted(packed.meta.splits[split].records, "record")
        click.echo(text.one_line(f"{name}: {split}: {records}, whole"))


@options.command("pack", short_help="Pack radiographs into record files.")
@click.argument("source", type=options.PATH)
@click.argument("out", type=options.PATH)
@options.from_config(PackConfig)
@click.option(
    "--check",
    cls=options.TakesAll,
    type=options.PATH,
    multiple=True,
    metavar="OUT...",
    is_eager=True,
    expose_value=False,
    callback=_check_packed,
    help="Verify every byte of the packed folders OUT, and exit. Training and "
    "prediction verify theirs, too, before they begin.",
)
@options.VERSION
def pack_command(**flags: Any) -> None:
    """Pack the radiographs of SOURCE into record files in the folder OUT.

    SOURCE is the root of MURA-v1.1, or of any data set with the same layout:
    {train,valid}/XR_*/patient*/study*_{positive,negative}/. Where a split has MURA's
    CSV files, they list its images and labels. Or SOURCE is a manifest: a CSV whose
    first line names columns: image, and any of study, patient, study_type, label, split
    and others. Or it is a folder of DICOM files as an archive exports them.
    """
    config = PackConfig(**flags)
    memory.check(memory.PACK)
    from xenon_mx.commands import pack

    console.print_packed(pack.pack(config, progress.for_stream(sys.stderr)))
