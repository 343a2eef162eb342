"""The commands: each reads its flags, calls one function, and prints what it returns.

Owns the arguments, help texts and table of commands. Must not know how a command does
its work. Standard output holds results only; progress and logs go to standard error.
MXNet, pandas and scikit-learn are imported only after the flags are read, so that
`--help` is quick.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from xenon_mx import __version__, arguments, console, exit_status, options
from xenon_mx.config import (
    DecideConfig,
    DoctorConfig,
    ExportConfig,
    LaunchConfig,
    PackConfig,
    PredictConfig,
    ReportConfig,
    TrainConfig,
)
from xenon_mx.errors import XenonError
from xenon_mx.runtime import memory, progress, signals, streams, text

if TYPE_CHECKING:
    from xenon_mx.runs.checkpoints import Checkpoint

_DISCARDED = "the epoch in progress is discarded"
_KEPT = "what is finished is kept"
# What the engines of xenon-predict need to be imported.
_REQUIREMENTS = {
    "mxnet": memory.MXNET,
    "onnxruntime": memory.ONNX,
    "openvino": memory.OPENVINO,
}
_SIGNAL_STATUS = 128  # a higher exit status tells of a signal, or of a lost connection

_version = click.version_option(__version__, "--version", prog_name="xenon")


@click.command(
    cls=options.Group, context_settings=options.HELP, invoke_without_command=True
)
@click.pass_context
@_version
def xenon_command(context: click.Context) -> None:
    """Predict from bone radiographs whether a study is abnormal.

    By the recipe of the MURA paper. `xenon pack` is the same as `xenon-pack`, and so
    on. Not for medical use.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


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


@xenon_command.command("pack", short_help="Pack radiographs into record files.")
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
@_version
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


def _list_models(context: click.Context, _: click.Parameter, size: int | None) -> None:
    """Print every net with its size and the sources of its ImageNet weights."""
    if size is None:
        return
    memory.check(memory.MXNET)
    from xenon_mx.models import network
    from xenon_mx.training import pretrained

    rows: list[tuple[str, ...]] = [
        ("net", "ImageNet weights", "parameters", f"GFLOP at {size} px")
    ]
    bar = progress.for_stream(sys.stderr)
    with bar(total=len(network.NAMES), unit="net", desc="measuring") as progress_bar:
        for name in network.NAMES:
            parameters, gflop = network.count_size(name, size)
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


@xenon_command.command("train", short_help="Train a net and keep its five best epochs.")
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
@_version
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
            _print_resume(_KEPT, config)
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


@xenon_command.command("predict", short_help="Predict whether each study is abnormal.")
@options.several("inputs", "INPUT...", before="OUT.csv")
@click.argument("out", metavar="OUT.csv", type=options.PATH)
@click.option(
    "--run",
    "runs",
    required=True,
    multiple=True,
    type=options.PATH,
    help="A run of xenon-train; give it several times for an ensemble of their best "
    "epochs. Or an ONNX file of xenon-export, which needs no MXNet.",
)
@options.from_config(PredictConfig)
@_version
def predict_command(**flags: Any) -> None:
    """Predict whether each study of INPUT is abnormal, and write one row per study.

    INPUT is a CSV of image paths in the format of the MURA competition, a manifest (a
    CSV with a header), a folder, image files, or a .rec file of a packed folder.
    OUT.csv may be - for standard output.

    Not for medical use.
    """
    if flags["out"] != Path("-"):
        config = PredictConfig(**flags)
        _predict(config)
        for path in filter(None, (config.out, config.images, config.cam)):
            console.print_line(f"written: {path}")
        # What follows a table in a run is said by xenon-train, which wrote it.
        from xenon_mx.runs.run_meta import RUN_JSON

        if not config.submission and not (config.out.parent / RUN_JSON).is_file():
            console.print_line(f"next: xenon-report {text.shell_quote(config.out)}")
        return
    streams.check_stdout()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "out.csv"
        _predict(PredictConfig(**{**flags, "out": table}))
        click.echo(table.read_bytes(), nl=False)


def _predict(config: PredictConfig) -> None:
    """Write the tables of a prediction, and print losses and metrics."""
    is_file = all(run.is_file() for run in config.runs)  # an ONNX file
    memory.check(
        _REQUIREMENTS[config.runtime or ("onnxruntime" if is_file else "mxnet")]
    )
    from xenon_mx.commands import predict

    predictions = predict.predict(config, progress.for_stream(sys.stderr))
    for number, (params, loss) in enumerate(predictions.losses.items(), 1):
        console.print_line(f"member_{number} {params}: loss {loss:.6f}")
    console.print_metrics(predictions.metrics)
    console.print_predictions(predictions)


@xenon_command.command("decide", short_help="Decide calibration and threshold.")
@click.argument("run", type=options.PATH)
@click.argument("table", metavar="TABLE.csv", type=options.PATH)
@options.from_config(DecideConfig)
@_version
def decide_command(**flags: Any) -> None:
    """Decide how the probabilities of RUN become decisions, and write decision.json.

    TABLE.csv is what xenon-predict wrote with RUN about labelled studies that neither
    trained the nets nor chose their checkpoints. From then on, xenon-predict appends
    the columns calibrated and decision, and predicts by the threshold that was decided.
    Without a flag, probabilities are calibrated, and the threshold stays 0.5.

    Not for medical use.
    """
    config = DecideConfig(**flags)
    memory.check(memory.REPORT)
    from xenon_mx.commands import decide
    from xenon_mx.runs.decision_file import DECISION_JSON

    decision = decide.decide(config)
    console.print_decision(decision, decide.sample_sizes(config, decision))
    console.print_line(f"written: {config.run / DECISION_JSON}")
    run = text.shell_quote(config.run)
    console.print_line(f"next: xenon-predict INPUT OUT.csv --run {run}")


@xenon_command.command("export", short_help="Write an ensemble for ONNX or PyTorch.")
@options.several("runs", "RUN...", before="OUT")
@click.argument("out", metavar="OUT", type=options.PATH)
@options.from_config(ExportConfig)
@_version
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


@xenon_command.command("report", short_help="Report on a run in one HTML page.")
@click.argument("run", metavar="RUN|PREDICTIONS", type=options.PATH)
@click.argument(
    "predictions", metavar="[PREDICTIONS]", required=False, type=options.PATH
)
@options.from_config(ReportConfig)
@_version
def report_command(**flags: Any) -> None:
    """Report on a run and its predictions in one HTML page, for any browser, offline.

    PREDICTIONS is a table that xenon-predict wrote. With it, the page has metrics with
    95% confidence intervals, an ROC curve, calibration and a gallery. The file beside
    it (PREDICTIONS.json) tells which runs predicted, and where they are; RUN is needed
    only if they were moved. A table of another program is taken, too: it needs the
    columns study and probability, and label for metrics.

    With --against and --readers, the page compares PREDICTIONS with those of another
    ensemble, and with readers.

    Not for medical use.
    """
    config = ReportConfig(**flags)
    memory.check(memory.REPORT)
    from xenon_mx.commands import report

    for path in report.report(config, console.print_differences, console.print_line):
        console.print_line(f"written: {path}")


@xenon_command.command(
    "launch",
    context_settings={"allow_interspersed_args": False},
    short_help="Train with several workers.",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@options.from_config(LaunchConfig)
@_version
def launch_command(**flags: Any) -> None:
    """Run COMMAND as several workers that train one net together.

    For example: xenon-launch -n 2 -- xenon-train PACKED RUN --kvstore dist_sync

    Starts MXNet's scheduler and parameter servers beside the workers, prints their
    output, and exits with the worst exit status of all; no process is left running.
    MXNet's servers accept any connection: use a private network.
    """
    memory.check(memory.MXNET)  # the processes it starts have the same limit
    from xenon_mx.commands import launch

    config = LaunchConfig(**flags)
    try:
        status = launch.launch(config, console.print_unescaped)
    except BaseException:
        if signals.received():
            _print_resume_line(config)
        raise
    if status > _SIGNAL_STATUS:
        _print_resume_line(config)
    if status:
        raise click.exceptions.Exit(status)


def _print_resume_line(config: LaunchConfig) -> None:
    """Print how to continue the run that several workers trained."""
    from xenon_mx.commands import resume_line
    from xenon_mx.runs.run_meta import RUN_JSON

    found = resume_line.split_command(config.command)
    if not found:  # another program, which may run xenon-train or not
        if not signals.received():
            console.print_line("to continue a run, start again with --resume")
        return
    program, arguments = found
    context = COMMANDS["train"].make_context(
        "xenon-train", arguments, resilient_parsing=True
    )
    packed, run = context.params["packed"], context.params["run"]
    if not run or not (run / RUN_JSON).exists():
        return
    launcher = click.get_current_context().command_path
    words = [*resume_line.launch_words(launcher, config), *program]
    line = resume_line.resume_line(words, packed, run)
    console.print_line(f"{_KEPT}; continue with: {line}")


@xenon_command.command("doctor", short_help="Check what this computer can do.")
@options.from_config(DoctorConfig)
@_version
def doctor_command(**flags: Any) -> None:
    """Check what this computer can do with xenon, by doing it, in about a minute.

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


# Every command by its name, which is also the name of its entry point.
COMMANDS = xenon_command.commands


def _run(name: str) -> NoReturn:
    """Run a command, such as `pack` as xenon-pack, and exit with its status."""
    exit_status.run(COMMANDS[name], f"xenon-{name}")


pack = partial(_run, "pack")
train = partial(_run, "train")
predict = partial(_run, "predict")
decide = partial(_run, "decide")
export = partial(_run, "export")
report = partial(_run, "report")
launch = partial(_run, "launch")
doctor = partial(_run, "doctor")


def xenon() -> NoReturn:
    """Run xenon, the group of all commands, and exit with the command's status."""
    exit_status.run(xenon_command, "xenon")
