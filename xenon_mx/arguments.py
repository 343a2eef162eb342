"""Arguments of the functions for Python, converted to the settings of the commands.

Owns the conversion; every default is that of `config`. Must not know what a command
does.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, Container, Mapping, Sequence

from xenon_mx import settings as setting_types
from xenon_mx.errors import XenonError
from xenon_mx.runtime import progress
from xenon_mx.settings import AnyPath


def build_config(kind: Any, given: Mapping[str, Any]) -> Any:
    """Build the config of a command from the arguments of a function.

    Args:
        kind: A class of `config`.
        given: Name to value of every setting, as the class takes them.
    """
    settings = {each.name: given[each.name] for each in fields(kind)}
    for each in fields(kind):
        wanted = str(each.type)
        if wanted.startswith("tuple"):
            check = as_paths if "Path" in wanted else _as_words
            settings[each.name] = check(given[each.name])
    return kind(**settings)


def with_recorded(settings: Mapping[str, Any], given: Container[str]) -> dict[str, Any]:
    """Return settings of `xenon-train --resume`, the run's own where none was given.

    Args:
        settings: Name to value of every setting; `run` is the run, or folds.
        given: The names of those that the user gave.
    """
    from xenon_mx.commands import recognition
    from xenon_mx.runs import folds_folder
    from xenon_mx.runs.run_folder import Run

    run = Path(settings["run"])
    recognition.check_train(Path(settings["packed"]), run)
    if folds_folder.is_folds(run) or "folds" in given:
        recorded = folds_folder.read(run).settings
    else:
        recorded = Run.open(run).meta.settings
    return {
        name: value if name in given else recorded.get(name, value)
        for name, value in settings.items()
    }


def as_paths(value: AnyPath | Sequence[AnyPath]) -> tuple[Path, ...]:
    """Return one path or several as a tuple.

    Raises:
        XenonError: There is none.
    """
    paths = setting_types.as_paths("path", value)
    if not paths:
        raise XenonError("no path is given: name at least one file or folder")
    return paths


def _as_words(value: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a command line."""
    if isinstance(value, str) or not value:
        raise XenonError(
            "a command is a list of words, such as "
            "['xenon-train', 'data/packed', 'runs/a', '--kvstore', 'dist_sync']"
        )
    return tuple(value)


def bar(shown: bool) -> progress.Bar:
    """Return the factory of progress bars on standard error, or of disabled ones."""
    return progress.for_stream(sys.stderr) if shown else progress.silent
