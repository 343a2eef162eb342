"""Command-line options made from the fields of `config`.

Owns the types of the options. Must not know any command.
"""

from __future__ import annotations

import functools
from dataclasses import fields
from pathlib import Path
from typing import Any, Callable

import click

from xenon_mx import __version__
from xenon_mx.errors import ConfigError
from xenon_mx.settings import flag_name

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _PathType(click.Path):
    """A path; the commands themselves report files that cannot be read."""

    def convert(self, value: Any, *rest: Any) -> Any:
        if value == "":  # an unset shell variable, not the working directory
            self.fail("the path is empty", *rest)
        return super().convert(value, *rest)


PATH = _PathType(path_type=Path, readable=False)


HELP = {"help_option_names": ["-h", "--help"]}
VERSION = click.version_option(__version__, "--version", prog_name="xenon")


class Command(click.Command):
    """A command that reports an invalid setting as wrong usage of itself."""

    def __init__(
        self,
        name: str | None,
        context_settings: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        super().__init__(name, {**HELP, **(context_settings or {})}, **rest)

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; point to the new name of an option of xenon 0.1.0."""
        try:
            return super().parse_args(context, args)
        except click.NoSuchOption as error:
            if error.option_name != "--workers":
                raise
            raise click.UsageError(
                "No such option '--workers': decoding threads are '--threads'", context
            ) from error

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(context)
        except ConfigError as error:
            raise click.UsageError(str(error), context) from error


class Group(click.Group):
    """A group of commands, listed in the order in which they are added."""

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of the commands, in the order in which they were added."""
        return list(self.commands)


# The decorator that makes a function such a command.
command = functools.partial(click.command, cls=Command)


class TakesAll(click.Option):
    """An option that takes all arguments of the command line: `--check A B C`."""

    def handle_parse_result(
        self, ctx: click.Context, opts: Any, args: list[str]
    ) -> tuple[Any, list[str]]:
        """Add the words that were read as arguments, and those left over."""
        own = opts.get(self.name)
        if own:
            arguments = (
                opts.get(each.name)
                for each in ctx.command.params
                if isinstance(each, click.Argument)
            )
            words = [word for word in arguments if isinstance(word, str)]
            opts = {**opts, self.name: [*own, *words, *args]}
        return super().handle_parse_result(ctx, opts, args)


def several(name: str, metavar: str, before: str) -> Decorator:
    """Return the decorator that adds an argument of one or more paths.

    Args:
        name: The parameter's name.
        metavar: Its name in help texts.
        before: The argument that follows. If only one path is given, click takes the
            path for that argument, which is the one that was forgotten.
    """

    def check(
        context: click.Context, parameter: click.Parameter, paths: tuple[Path, ...]
    ) -> tuple[Path, ...]:
        if not paths:
            raise click.UsageError(
                f"Missing argument '{before}': it comes after {metavar}", context
            )
        return paths

    return click.argument(name, metavar=metavar, nargs=-1, type=PATH, callback=check)


def from_config(config: type) -> Decorator:
    """Return the decorator that adds an option for each setting of a config."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for field in reversed(fields(config)):
            if field.metadata:
                command = _option(field)(command)
        return command

    return decorate


def _option(field: Any) -> Decorator:
    meta = field.metadata
    options: dict[str, Any] = {"default": field.default, "help": meta["help"]}
    if meta["kind"] is bool:
        options["is_flag"] = True
    else:
        options["show_default"] = field.default is not None
        options["type"] = _option_type(meta)
    names = (flag_name(field.name), *meta["flags"], field.name)
    return click.option(*names, **options)


def _option_type(meta: Any) -> Any:
    if meta["choices"]:
        return click.Choice(meta["choices"])
    return PATH if meta["kind"] is Path else meta["kind"]


def range_of(config: type, name: str) -> click.IntRange:
    """Return the range that a setting allows."""
    meta = next(field.metadata for field in fields(config) if field.name == name)
    return click.IntRange(meta["low"], meta["high"])
