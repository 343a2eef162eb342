"""xenon-train: a run, or those of a cross-validation, and what comes next.

Owns its arguments, its help and what it prints. Must not know how it does its work.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from xenon_mx import arguments, console, options
from xenon_mx.config import PackConfig, TrainConfig
from xenon_mx.runtime import memory, progress, signals, text

if TYPE_CHECKING:
    from xenon_mx.runs.checkpoints import Checkpoint

_DISCARDED = "the epoch in progress is discarded"
KEPT = "what is finished is kept"


def _list_models(context: click.Context, _: click.Parameter, size: int | None) -> None:
    """Print every net with its size and the sources of its ImageNet weights."""
    if size is None:
        return
    memory.check(memory.MXNET)
    from xenon_mx.models import net_names, net_size
    from xenon_mx.training import pretrained

    rows: list[tuple[str, ...]] = [
        ("net", "ImageNet weights", "parameters", f"GFLOP at {size} px")
    ]
    bar = progress.for_stream(sys.stderr)
    with bar(total=len(net_names.NAMES), unit="net", desc="measuring") as progress_bar:
        for name in net_names.NAMES:
            parameters, gflop = net_size.count_size(name, size)
            sources = ", ".join(pretrained.sources(name))
            rows.append((name, sources, f"{parameters:,}", f"{gflop:.1f}"))
            progress_bar.update()
    console.print_table(rows, left=2, write=click.echo)
    console.print_line(
        "--pretrained accepts 'gluon', 'hub', or a weight file for any net; gluon's "
        "server has been reported dead since 2024, but weights that it served earlier "
        "may be in ~/.mxnet/models"
    )
    context.exit()


@options.command("train", short_help="Train a net and keep its five best epochs.")
@click.argument("packed", type=options.PATH)
@click.argument("run", type=options.PATH)
@options.from_config(TrainConfig)
@click.option(
    "--list-models",
    type=options.range_of(PackConfig, "size"),
    is_flag=False,
    flag_value=PackConfig.size,
    metavar="[PIXELS]",
    is_eager=True,
    expose_value=False,
    callback=_list_models,
    help="List every net with its ImageNet weights, its parameters, and its GFLOP per "
    f"image of PIXELS x PIXELS (default {PackConfig.size}), and exit.",
)
@options.VERSION
def train_command(**flags: Any) -> None:
    """Train a net on the packed folder PACKED, and keep its five best epochs in RUN.

    The defaults are the recipe of the MURA paper (arXiv 1712.06957). The best epochs
    are those with the lowest loss on the holdout split of PACKED, or on its valid split
    if it has no holdout split.

    With --epochs 0 nothing is trained: the net of --pretrained, with one logit, is
    validated and kept as the run's one member.

    With --folds 5, RUN gets five runs. Each trains without a fifth of the patients of
    the train (and holdout) split, is validated on a tenth of the others, and then
    predicts that fifth; RUN/out-of-fold.csv has all of it. The other splits are not
    read.
    """
    memory.check(memory.MXNET)
    if flags["resume"]:
        source = click.get_current_context().get_parameter_source
        default = click.core.ParameterSource.DEFAULT
        given = {name for name in flags if source(name) is not default}
        flags = arguments.with_recorded(flags, given)
    config = TrainConfig(**flags)
    if config.folds is not None:
        _train_folds(config)
        return
    from xenon_mx.commands import train
    from xenon_mx.runs.run_meta import RUN_JSON

    try:
        best = train.train(config, progress.for_stream(sys.stderr))
    except BaseException:
        if signals.received() and (config.run / RUN_JSON).exists():
            _print_resume(_DISCARDED, config)
        raise
    if not best:  # a worker other than rank 0, which alone has the run
        return
    _complete(config, best[0])


def _train_folds(config: TrainConfig) -> None:
    """Train the folds of a cross-validation, and print what they come to."""
    from xenon_mx.commands import cross_validation
    from xenon_mx.runs import folds_folder

    try:
        done = cross_validation.cross_validate(config, progress.for_stream(sys.stderr))
    except BaseException:
        if signals.received() and folds_folder.is_folds(config.run):
            _print_resume(KEPT, config)
        raise
    console.print_metrics(done.metrics, "fold")
    table, run = text.shell_quote(done.table), text.shell_quote(config.run)
    console.print_line(f"written: {done.table}")
    console.print_line(f"next: xenon-report {table}")
    console.print_line(
        f"for studies of other patients, by the average of the folds: xenon-predict "
        f"INPUT OUT.csv --run {run}"
    )


def _print_resume(reason: str, config: TrainConfig) -> None:
    """Print the command that continues a run, unless a launcher prints its own."""
    from xenon_mx.commands import resume_line
    from xenon_mx.distributed import worker_lines

    if not worker_lines.is_launched():
        line = resume_line.resume_line(["xenon-train"], config.packed, config.run)
        console.print_line(f"{reason}; continue with: {line}")


def _complete(config: TrainConfig, best: Checkpoint) -> None:
    """Print the best epoch, the metrics of the validation split, and what is next."""
    from xenon_mx.commands import validation

    trained = f"best epoch {best.epoch}" if config.epochs else "not trained here"
    console.print_line(f"{trained}, validation loss {best.loss:.4f}")
    try:
        validation.predict_if_due(config, progress.for_stream(sys.stderr))
    except BaseException:
        if signals.received():
            _print_resume("the run is complete but for validation.csv", config)
        raise
    run = text.shell_quote(config.run)
    deciding = config.packed / "calibration.rec"
    if deciding.is_file():
        rec = text.shell_quote(deciding)
        console.print_line(
            f"to decide: xenon-predict {rec} decide.csv --run {run} && xenon-decide "
            f"{run} decide.csv"
        )
    untouched = validation.untouched_rec(config.packed, config.run)
    if untouched is not None:
        rec = text.shell_quote(untouched)
        chosen = "valid chose no checkpoint; " if config.epochs else ""
        console.print_line(f"{chosen}next: xenon-predict {rec} valid.csv --run {run}")
        return
    table = text.shell_quote(validation.table(config.run))
    console.print_line(f"next: xenon-report {table}")
    console.print_line(f"for other studies: xenon-predict INPUT OUT.csv --run {run}")
