"""The command line that continues a training which was stopped.

Owns its words, quoted for a shell: xenon-train's own, and within the line of
xenon-launch, whose flags no run records. Must not know why a training stopped.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Sequence

from xenon_mx.config import LaunchConfig
from xenon_mx.runtime import text
from xenon_mx.settings import flag_name


def resume_line(program: Sequence[str], packed: Path, run: Path) -> str:
    """Return the line of xenon-train; the run records all other settings.

    Args:
        program: The words before the arguments, such as `xenon-train`.
        packed: The packed folder.
        run: The run folder.
    """
    return " ".join(map(text.shell_quote, [*program, packed, run, "--resume"]))


def launch_words(program: str, config: LaunchConfig) -> list[str]:
    """Return the words of xenon-launch up to its command, with the flags that it needs.

    Args:
        program: `xenon-launch`, or `xenon launch`.
        config: Its settings.
    """
    words = program.split()
    for field in fields(config):
        value = getattr(config, field.name)
        if field.metadata and (value != field.default or field.name == "workers"):
            words += [
                *(field.metadata["flags"] or [flag_name(field.name)])[:1],
                str(value),
            ]
    return [*words, "--"]


def split_command(command: Sequence[str]) -> tuple[list[str], list[str]] | None:
    """Split a command that runs xenon-train into its program and its arguments.

    Args:
        command: Such as `nice xenon-train PACKED RUN --kvstore dist_sync`, or
            `python -m xenon_mx train PACKED RUN`.

    Returns:
        The words up to `xenon-train`, and those after it; None for other commands.
    """
    names = [Path(word).name for word in command]
    for end in range(1, len(names) + 1):
        is_subcommand = (
            end > 1 and names[end - 1] == "train" and names[end - 2] in _PROGRAMS
        )
        if names[end - 1] == "xenon-train" or is_subcommand:
            return [*command[:end]], [*command[end:]]
    return None


_PROGRAMS = ("xenon", "xenon_mx")
