"""The commands: flags in, one verb called, an exit status out. Knows all, does little.

Exit statuses: 0 done; 1 a `XenonError`; 2 wrong usage; 70 a bug, with its traceback;
130 Ctrl-C; 143 SIGTERM; 129 SIGHUP. Standard output holds results only; progress and
logs go to standard error. MXNet, pandas and scikit-learn are imported by the verbs,
after the flags are read, so that `--help` is quick.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
from dataclasses import fields
from pathlib import Path
from typing import Any, Callable, NoReturn, Sequence

import click
from tqdm import tqdm

from xenon_mx import __version__
from xenon_mx.config import (
    ExportConfig,
    LaunchConfig,
    PackConfig,
    PredictConfig,
    ReportConfig,
    TrainConfig,
    flag_name,
)
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import memory, progress, signals, streams, text


class _Path(click.Path):
    """A path; what cannot be read is the verbs' to say."""

    def convert(self, value: Any, *rest: Any) -> Any:
        if value == "":  # an empty variable of the shell's, which would be this folder
            self.fail("the path is empty", *rest)
        return super().convert(value, *rest)


_PATH = _Path(path_type=Path, readable=False)
_LOOP = "Symlink loop from "  # what Path.resolve says before Python 3.13
_USAGE, _FAILED, _BUG, _INTERRUPTED = 2, 1, 70, 130


def _options(config: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command a flag for each setting of its config."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for each in reversed(fields(config)):
            if each.metadata:
                command = _option(each)(command)
        return command

    return decorate


def _option(setting: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    meta = setting.metadata
    options: dict[str, Any] = {"default": setting.default, "help": meta["help"]}
    if meta["kind"] is bool:
        options["is_flag"] = True
    else:
        options["show_default"] = setting.default is not None
        options["type"] = _type(meta)
    names = (flag_name(setting.name), *meta["flags"], setting.name)
    return click.option(*names, **options)


def _range_of(config: type, name: str) -> click.IntRange:
    """The values that a setting may have."""
    meta = next(each.metadata for each in fields(config) if each.name == name)
    return click.IntRange(meta["low"], meta["high"])


def _type(meta: Any) -> Any:
    if meta["choices"]:
        return click.Choice(meta["choices"])
    if meta["kind"] is Path:
        return _PATH
    return meta["kind"]


_NAMES = {"help_option_names": ["-h", "--help"]}
_version = click.version_option(__version__, "--version", prog_name="xenon")


def _check_packed(context: click.Context, _: click.Parameter, out: Path | None) -> None:
    """Verify a packed folder, and say what it holds."""
    if out is None:
        return
    memory.check(memory.PACK)
    from xenon_mx.data import packed_folder

    packed = packed_folder.open_packed(out)
    for name in packed.splits:
        packed.split(name)
        count = packed.meta["splits"][name]["records"]
        click.echo(text.one_line(f"{out}: {name}: {count:,} records, whole"))
    context.exit()


@click.command(context_settings=_NAMES)
@click.argument("source", type=_PATH)
@click.argument("out", type=_PATH)
@_options(PackConfig)
@click.option(
    "--check",
    type=_PATH,
    metavar="OUT",
    is_eager=True,
    expose_value=False,
    callback=_check_packed,
    help="Verify the packed folder OUT, every byte of it, and exit. Training and "
    "predicting do so, too, before they begin.",
)
@_version
def _pack(**flags: Any) -> None:
    """Pack the radiographs of SOURCE into record files in the folder OUT.

    SOURCE is the root of MURA-v1.1: its CSVs rule; a split without one is walked.
    Any data set laid out as {train,valid}/XR_*/patient*/study*_{positive,negative}/
    will do.
    """
    config = PackConfig(**flags)
    memory.check(memory.PACK)
    from xenon_mx.commands import pack as packing

    _show_packed(packing.pack(config, progress.for_stream(sys.stderr)))


def _list_models(context: click.Context, _: click.Parameter, size: int | None) -> None:
    """Print every net with its size and with who has ImageNet weights of it."""
    if size is None:
        return
    memory.check(memory.MXNET)
    from xenon_mx.models import network
    from xenon_mx.training import pretrained

    rows: list[tuple[str, ...]] = [
        ("net", "ImageNet weights", "parameters", f"GFLOP at {size} px")
    ]
    bar = progress.for_stream(sys.stderr)
    with bar(total=len(network.NAMES), unit="net", desc="sizing") as shown:
        for name in network.NAMES:
            parameters, gflop = network.count_size(name, size)
            places = ", ".join(pretrained.sources(name))
            rows.append((name, places, f"{parameters:,}", f"{gflop:.1f}"))
            shown.update()
    _table(rows, left=2, say=click.echo)
    _say(
        "--pretrained takes 'gluon', 'hub', or a file of any net; gluon's server has "
        "been reported dead since 2024, but what it gave is still in many a "
        "~/.mxnet/models"
    )
    context.exit()


@click.command(context_settings=_NAMES)
@click.argument("packed", type=_PATH)
@click.argument("run", type=_PATH)
@_options(TrainConfig)
@click.option(
    "--list-models",
    type=_range_of(PackConfig, "size"),
    is_flag=False,
    flag_value=PackConfig.size,
    metavar="[PIXELS]",
    is_eager=True,
    expose_value=False,
    callback=_list_models,
    help="Show every net, with the size of its weights, its work an image of PIXELS "
    f"(default {PackConfig.size}), and who has ImageNet weights of it; and exit.",
)
@_version
def _train(**flags: Any) -> None:
    """Train a net on the packed folder PACKED, and keep its five best epochs in RUN.

    The defaults are the recipe of the MURA paper (arXiv 1712.06957). The validation
    loss chooses the five; it is that of the holdout split where PACKED has one.
    """
    memory.check(memory.MXNET)
    if flags["resume"]:
        flags = _with_recorded(flags)
    config = TrainConfig(**flags)
    from xenon_mx.commands import train as training

    try:
        best = training.train(config, progress.for_stream(sys.stderr))
    except BaseException:
        if signals.arrived() and (config.run / "run.json").exists():
            folders = (
                f"{text.shell_quote(config.packed)} {text.shell_quote(config.run)}"
            )
            _say(
                f"the epoch in progress is discarded; go on with: "
                f"xenon-train {folders} --resume"
            )
        raise
    if not best:  # one of several workers; the first has the run
        return
    _say(f"best epoch {best[0].epoch}, validation loss {best[0].loss:.4f}")
    _say(f"next: xenon-predict INPUT OUT.csv --run {text.shell_quote(config.run)}")


def _with_recorded(flags: dict[str, Any]) -> dict[str, Any]:
    """Take the settings that were not given from the run that is to go on."""
    from xenon_mx.runs import run_folder

    recorded = run_folder.Run.open(flags["run"]).meta.settings
    source = click.get_current_context().get_parameter_source
    given = {
        name for name in flags if source(name) is not click.core.ParameterSource.DEFAULT
    }
    return {
        name: value if name in given else recorded.get(name, value)
        for name, value in flags.items()
    }


@click.command(context_settings=_NAMES)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=_PATH)
@click.argument("out", metavar="OUT.csv", type=_PATH)
@click.option(
    "--run",
    "runs",
    required=True,
    multiple=True,
    type=_PATH,
    help="A run of xenon-train; several give their best nets to one ensemble. Or one "
    "ONNX file of xenon-export, which needs no MXNet.",
)
@_options(PredictConfig)
@_version
def _predict(**flags: Any) -> None:
    """Predict whether each study of INPUT is abnormal, and write a row a study.

    INPUT is a CSV of image paths as the MURA competition gives it, a folder, image
    files, or a .rec file of a packed folder. OUT.csv may be - for standard output.

    Not for medical use.
    """
    if flags["out"] != Path("-"):
        _predict_into(PredictConfig(**flags))
        return
    streams.check_results()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "out.csv"
        _predict_into(PredictConfig(**{**flags, "out": table}))
        click.echo(table.read_bytes(), nl=False)


@click.command(context_settings=_NAMES)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=_PATH)
@click.argument("out", metavar="OUT.onnx", type=_PATH)
@_options(ExportConfig)
@_version
def _export(**flags: Any) -> None:
    """Write the ensemble of RUN as one ONNX file, which needs no MXNet.

    It takes gray 8-bit pixels at the run's size, and gives the mean probability and
    each member's. xenon-predict takes it for --run; so does any program that has ONNX
    Runtime.

    Not for medical use.
    """
    config = ExportConfig(**flags)
    memory.check(memory.MXNET)
    from xenon_mx.commands import export as exporting

    members = exporting.export(config, progress.for_stream(sys.stderr))
    _say(f"{members} member{'s' * (members > 1)} in {config.out}")
    _say(f"next: xenon-predict INPUT OUT.csv --run {text.shell_quote(config.out)}")


@click.command(context_settings=_NAMES)
@click.argument("run", type=_PATH)
@click.argument("predictions", metavar="[PREDICTIONS]", required=False, type=_PATH)
@_options(ReportConfig)
@_version
def _report(**flags: Any) -> None:
    """Show what RUN learned on one page that opens offline in any browser.

    PREDICTIONS is what xenon-predict wrote with RUN on studies with labels: with it,
    the page has figures with intervals, an ROC curve, calibration and a gallery.

    Not for medical use.
    """
    config = ReportConfig(**flags)
    memory.check(memory.REPORT)
    from xenon_mx.commands import report as reporting

    for path in reporting.report(config):
        _say(f"written: {path}")


@click.command(context_settings={**_NAMES, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_options(LaunchConfig)
@_version
def _launch(**flags: Any) -> None:
    """Run COMMAND as several workers that train one net together.

    Such as: xenon-launch -n 2 -- xenon-train PACKED RUN --kvstore dist_sync

    Starts MXNet's scheduler and servers beside the workers, passes their lines on, and
    ends with the worst of their exit statuses; no process stays behind. MXNet's servers
    trust whoever reaches them: use a network of your own.
    """
    memory.check(memory.MXNET)  # what it starts has the same limit
    from xenon_mx.commands import launch as launching

    status = launching.launch(LaunchConfig(**flags), _pass_on)
    if status:
        raise click.exceptions.Exit(status)


def _predict_into(config: PredictConfig) -> None:
    of_files = all(run.is_file() for run in config.runs)  # ONNX, which needs no MXNet
    memory.check(memory.ONNX if of_files else memory.MXNET)
    from xenon_mx.commands import predict as predicting

    predictions = predicting.predict(config, progress.for_stream(sys.stderr))
    for number, (member, loss) in enumerate(predictions.losses.items(), 1):
        _say(f"member_{number} {member}: loss {loss:.6f}")
    _show_scores(predictions.scores)


def _say(line: str) -> None:
    _pass_on(text.one_line(line))


def _pass_on(line: str) -> None:
    """Print what is a line already, in colours perhaps."""
    click.echo(line, err=True)


def _show_packed(packed: Any) -> None:
    """Print what was packed, a row a study type and split."""
    rows: list[tuple[str, ...]] = [
        ("split", "study type", "images", "studies", "abnormal", "missing")
    ]
    for split in packed.splits:
        for name, count in packed.meta["splits"][split]["counts"].items():
            numbers = (count[key] for key in rows[0][2:])
            rows.append((split, name, *(f"{number:,}" for number in numbers)))
    _table(rows, left=2)
    folder = text.shell_quote(packed.folder)
    _say(f"packed into {packed.folder}; next: xenon-train {folder} RUN")


def _show_scores(scores: Any) -> None:
    """Print kappa and AUROC, a row a study type."""
    if not scores:
        return
    rows: list[tuple[str, ...]] = [
        ("study type", "studies", "abnormal", "kappa", "AUROC")
    ]
    for each in scores:
        counts = (f"{each.studies:,}", f"{each.abnormal:,}")
        rows.append((each.study_type or "none", *counts, *map(_figure, each[3:])))
    _table(rows, left=1)


def _figure(value: float) -> str:
    return "undefined" if value != value else f"{value:.3f}"  # noqa: PLR0124


def _table(
    rows: Sequence[tuple[str, ...]],
    left: int,
    say: Callable[[str], None] = _say,
) -> None:
    """Print rows in columns, the first `left` of them flush left."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ]
        say("  ".join(cells).rstrip())


class _Log(logging.Handler):
    """Writes log lines above the progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        warning = "warning: " if record.levelno >= logging.WARNING else ""
        tqdm.write(text.one_line(warning + record.getMessage()), file=sys.stderr)


def _run(command: click.Command) -> NoReturn:
    """Run a command and exit with the status that its end deserves."""
    streams.guard()
    try:
        signals.catch()
        log = logging.getLogger("xenon_mx")
        log.setLevel(logging.INFO)
        log.addHandler(_Log())
        status = _status(command)
        # All is done but for the end of Python and MXNet.
        signals.release()
    except BaseException:
        if signals.arrived():
            signals.leave()
        raise
    sys.exit(status)


def _status(command: click.Command) -> int:
    """Run a command, and say in its last line why it ended, if it did so early.

    Raises:
        BaseException: A signal came, and this is what became of it.
    """
    try:
        _check_python()
        # The status of a click.exceptions.Exit; None of a command that has run.
        status = command.main(prog_name=_prog(command), standalone_mode=False)
        sys.stdout.flush()
        return status or 0
    except (Exception, KeyboardInterrupt) as error:
        if signals.arrived():
            raise
        return _failure(error, command)


def _check_python() -> None:
    if sys.flags.optimize > 1:
        raise XenonError(
            "Python leaves out the texts that MXNet and --help are made of: set "
            "PYTHONOPTIMIZE to 1 at most, and drop -OO"
        )


def _failure(error: BaseException, command: click.Command) -> int:
    """Say what ended a command; give the exit status."""
    error = _in_words(error)
    if isinstance(error, KeyboardInterrupt):
        _say("interrupted")
        return _INTERRUPTED
    if isinstance(error, click.ClickException):
        return _usage(error, command)
    if isinstance(error, streams.NoReader):
        return _FAILED  # without a word, as other programs
    if isinstance(error, XenonError):
        for detail in error.details:
            _say(f"  {detail}")
        _say(f"error: {error}")
        return _FAILED
    return _bug(error)


def _in_words(error: BaseException) -> BaseException:
    """Give what an exception means on the command line."""
    if isinstance(error, click.Abort):  # what click makes of two others
        return error.__cause__ or error
    if isinstance(error, ConfigError):
        return click.UsageError(str(error))
    if not isinstance(error, XenonError) and memory.is_lacking(error):
        return XenonError(memory.out_of_memory_message())
    if isinstance(error, OSError):
        return _refusal(error)
    if isinstance(error, RuntimeError) and str(error).startswith(_LOOP):
        name = str(error)[len(_LOOP) :].strip("'\"")
        return XenonError(f"{name}: a link that leads to itself")
    return error


def _refusal(error: OSError) -> Exception:
    """Say what the system refused: a file that may not be read, a name too long."""
    if error.filename:
        name = os.fsdecode(error.filename)
        return XenonError(f"{name}: {os.strerror(error.errno or 0)}")
    try:
        os.getcwd()
    except OSError:
        return XenonError("the working folder is gone: go to another one")
    return error


def _bug(error: BaseException) -> int:
    """Say where an exception comes from."""
    traceback.print_exception(type(error), error, error.__traceback__)
    _say("this is a bug in xenon: please report it with the lines above")
    return _BUG


def _usage(error: click.ClickException, command: click.Command) -> int:
    if isinstance(error, click.UsageError) and error.ctx is None:
        error.ctx = click.Context(command, info_name=_prog(command))
    error.message = text.one_line(error.message)  # type: ignore[misc]
    error.show()
    return _USAGE


def _prog(command: click.Command) -> str:
    return f"xenon-{command.callback.__name__.strip('_')}"  # type: ignore[union-attr]


def pack() -> NoReturn:
    """Run xenon-pack."""
    _run(_pack)


def train() -> NoReturn:
    """Run xenon-train."""
    _run(_train)


def predict() -> NoReturn:
    """Run xenon-predict."""
    _run(_predict)


def export() -> NoReturn:
    """Run xenon-export."""
    _run(_export)


def report() -> NoReturn:
    """Run xenon-report."""
    _run(_report)


def launch() -> NoReturn:
    """Run xenon-launch."""
    _run(_launch)
