"""How a setting of a command is declared, converted and checked.

Owns the metadata of a config's field, its flag, and the conversion of paths: a path may
be given as text, and is a `Path` from then on. Must not know any setting.
"""

from __future__ import annotations

import math
import numbers
import os
from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any, Union

from xenon_mx.errors import ConfigError

AnyPath = Union[str, "os.PathLike[str]"]  # of all functions that take a path


def setting(
    default: Any,
    help: str,  # noqa: A002 - click's name for it
    *,
    kind: type | None = None,
    flags: tuple[str, ...] = (),
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """Return a dataclass field that is also a flag of the command line.

    Args:
        default: The value when the flag is not given.
        help: The text for `--help`.
        kind: The flag's type where it is not that of `default`.
        flags: Other spellings, such as `-j`.
        choices: All values allowed.
        low: The smallest value allowed.
        high: The largest value allowed.
    """
    metadata = {
        "help": help,
        "kind": kind or type(default),
        "flags": flags,
        "choices": choices,
        "low": low,
        "high": high,
    }
    return field(default=default, metadata=metadata)


def flag_name(name: str) -> str:
    """Return a field's flag: `--batch-size` for `batch_size`."""
    return "--" + name.replace("_", "-")


# What a value of each kind may be: Python's callers may pass anything.
_KINDS: dict[type, tuple[Any, str]] = {
    bool: (bool, "True or False"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    str: (str, "text"),
}


class Checked:
    """Base of the configs, which converts paths and checks every setting."""

    def __post_init__(self) -> None:
        for each in fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if value is not None:
                value = _converted(each, value)
                object.__setattr__(self, each.name, value)
            if each.metadata:
                _check(each, value)


def _converted(setting_field: Field[Any], value: Any) -> Any:
    """Return a setting with text as paths, or a path as text, as the field has it."""
    wanted = str(setting_field.type)
    flag = setting_field.name
    if setting_field.metadata:
        flag = flag_name(flag)
    if "Path" in wanted:
        convert = as_paths if wanted.startswith("tuple") else as_path
        return convert(flag, value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def as_paths(name: str, value: Any) -> tuple[Path, ...]:
    """Return several paths; one may stand for several.

    Args:
        name: What errors call them.
        value: A path, or a sequence of paths, each a `Path`, text or the like.

    Raises:
        ConfigError: It is something else, or a path is empty.
    """
    if isinstance(value, (str, os.PathLike)):
        value = (value,)
    try:
        listed = tuple(value)
    except TypeError:
        raise ConfigError(name, f"must be paths, not {value!r}") from None
    return tuple(as_path(name, path) for path in listed)


def as_path(name: str, value: Any) -> Path:
    """Return one path, as `as_paths` does."""
    if isinstance(value, str) and not value:  # not the working directory
        raise ConfigError(name, "the path is empty")
    try:
        return Path(value)
    except TypeError:
        raise ConfigError(name, f"must be a path, not {value!r}") from None


def _check(setting_field: Field[Any], value: Any) -> None:
    if value is None:
        return
    flag, meta = flag_name(setting_field.name), setting_field.metadata
    kind, name = _KINDS.get(meta["kind"], (object, ""))
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(flag, f"must be {name}, not {value!r}")
    if meta["choices"] and value not in meta["choices"]:
        choices = " or ".join(meta["choices"])
        raise ConfigError(flag, f"must be {choices}, not {value!r}")
    if isinstance(value, float) and math.isinf(value):
        raise ConfigError(flag, f"must be finite, not {value}")
    low, high = meta["low"], meta["high"]
    # `not >=` instead of `<`, because every comparison with NaN is false.
    if low is not None and not value >= low:
        raise ConfigError(flag, f"must be at least {low}, not {value}")
    if high is not None and not value <= high:
        raise ConfigError(flag, f"must be at most {high}, not {value}")
