"""The commands as Python functions: `import xenon_mx as xenon`.

Owns their signatures; every default is that of `config`. The work is done by
`commands`, which is imported when a function is called.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from tqdm import tqdm

from xenon_mx import arguments
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
from xenon_mx.settings import AnyPath

if TYPE_CHECKING:
    from xenon_mx.commands.doctor import Report
    from xenon_mx.commands.predict import Predictions
    from xenon_mx.data.packed_folder import PackedFolder
    from xenon_mx.evaluation.decision import Decision
    from xenon_mx.runs.checkpoints import Checkpoint


def pack(
    source: AnyPath,
    out: AnyPath,
    *,
    root: AnyPath | None = PackConfig.root,
    size: int = PackConfig.size,
    fit: str = PackConfig.fit,
    encoding: str = PackConfig.encoding,
    quality: int = PackConfig.quality,
    labels: AnyPath | None = PackConfig.labels,
    skip_unlabelled: bool = PackConfig.skip_unlabelled,
    link: AnyPath | None = PackConfig.link,
    body_parts: AnyPath | None = PackConfig.body_parts,
    keep_identifiers: bool = PackConfig.keep_identifiers,
    valid: float | None = PackConfig.valid,
    holdout: float = PackConfig.holdout,
    calibration: float = PackConfig.calibration,
    seed: int = PackConfig.seed,
    threads: int = PackConfig.threads,
    skip_bad: bool = PackConfig.skip_bad,
    overwrite: bool = PackConfig.overwrite,
    progress: bool = True,
) -> PackedFolder:
    """Pack the radiographs of a data set into record files, as `xenon-pack` does.

    Args:
        source: The data set's folder, laid out like MURA-v1.1; a manifest's CSV; or an
            archive's folder of DICOM files.
        out: The packed folder to write.
        root: Folder to which the paths in CSVs are relative.
        size: Side of the packed squares, px.
        fit: `stretch` or `pad`.
        encoding: `jpg` or `png`.
        quality: JPEG quality.
        labels: Labels of an archive's studies, a CSV.
        skip_unlabelled: Leave out an archive's studies without a label.
        link: The link file of an archive's pseudonyms, to write.
        body_parts: Further study types of an archive's body parts, a CSV.
        keep_identifiers: Name an archive's patients by their identifiers.
        valid: Share of the patients to validate on, for a manifest without splits.
        holdout: Share of the training patients for a tuning set, which chooses the
            checkpoints in place of `valid`; `valid` is then a test set.
        calibration: Share of the training patients left after `holdout` for a split
            that training never reads, to calibrate and to decide thresholds on.
        seed: Seed of the record order and of the splits that are set aside.
        threads: Decoding threads; 0 uses every core.
        skip_bad: Leave unreadable images out.
        overwrite: Replace what `out` holds.
        progress: Show a progress bar on standard error.

    Returns:
        The packed folder, verified.

    Raises:
        XenonError: The input cannot be used; the message says why.
    """
    config = arguments.build_config(PackConfig, locals())
    from xenon_mx.commands.pack import pack as run_pack

    return run_pack(config, arguments.bar(progress))


def train(
    packed: AnyPath,
    run: AnyPath,
    *,
    resume: bool = TrainConfig.resume,
    model: str = TrainConfig.model,
    pretrained: AnyPath | None = TrainConfig.pretrained,
    pretrained_input: str | None = TrainConfig.pretrained_input,
    no_pretrained: bool = TrainConfig.no_pretrained,
    freeze_epochs: int = TrainConfig.freeze_epochs,
    loss: str = TrainConfig.loss,
    pooled_weights: bool = TrainConfig.pooled_weights,
    batch_size: int = TrainConfig.batch_size,
    amp: bool = TrainConfig.amp,
    lr: float = TrainConfig.lr,
    epochs: int = TrainConfig.epochs,
    patience: int = TrainConfig.patience,
    min_delta: float = TrainConfig.min_delta,
    min_lr: float = TrainConfig.min_lr,
    folds: int | None = TrainConfig.folds,
    seed: int = TrainConfig.seed,
    threads: int = TrainConfig.threads,
    ctx: str | None = TrainConfig.ctx,
    kvstore: str | None = TrainConfig.kvstore,
    reference: bool = TrainConfig.reference,
    progress: bool = True,
) -> list[Checkpoint]:
    """Train a net on a packed folder and keep its five best epochs, as `xenon-train`.

    Args:
        packed: A packed folder.
        run: The run folder to write.
        resume: Continue `run` after its last finished epoch, with the run's own
            settings where the ones given are defaults.
        model: A net of gluoncv's model zoo.
        pretrained: A weights file, a run, a folder of model.safetensors and
            config.json, `gluon` or `hub`.
        pretrained_input: The input that the net of a weights file was trained on:
            `imagenet`, `xrv`, `half` or `A,B`.
        no_pretrained: Start from random weights.
        freeze_epochs: Train only the last layer in the first epochs.
        loss: `weighted` or `plain` binary cross entropy.
        pooled_weights: One pair of loss weights for all study types.
        batch_size: Images per step.
        amp: Mixed precision: compute in 16 bits, with float32 weights.
        lr: Initial learning rate.
        epochs: Maximum number of epochs; 0 keeps the net of `pretrained` as it is.
        patience: Epochs without a new best before the learning rate is divided by 10.
        min_delta: How much lower a validation loss must be to be a new best.
        min_lr: Training ends when the learning rate would fall below this.
        folds: Cross-validate: train as many runs within `run`, each without one part of
            the training patients, which it predicts: see `run/out-of-fold.csv`.
        seed: Seed of weights, order, augmentation and folds.
        threads: Decoding threads.
        ctx: Devices as MXNet contexts, such as `gpu(0)`.
        kvstore: `dist_sync` or `dist_device_sync` for several workers.
        reference: Compute without optimizations, for comparison.
        progress: Show progress bars on standard error.

    Returns:
        The best epochs, the lowest validation loss first. `run/validation.csv` holds
        what they make of the split that chose them. With `folds`, the best epoch of
        each fold.

    Raises:
        XenonError: The data or settings cannot be used, or the loss is not finite.
    """
    settings = locals()
    if resume:
        defaults = {setting.name: setting.default for setting in fields(TrainConfig)}
        given = {n for n, value in settings.items() if value != defaults.get(n)}
        settings = arguments.with_recorded(settings, given)
    config = arguments.build_config(TrainConfig, settings)
    from xenon_mx.commands import cross_validation, validation
    from xenon_mx.commands.train import train as run_train

    bar = arguments.bar(progress)
    if config.folds is not None:
        return cross_validation.cross_validate(config, bar).best
    best = run_train(config, bar)
    if best:
        validation.predict_if_due(config, bar)
    return best


def predict(
    inputs: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    runs: AnyPath | Sequence[AnyPath],
    *,
    members: int | None = PredictConfig.members,
    threshold: float | None = PredictConfig.threshold,
    images: AnyPath | None = PredictConfig.images,
    cam: AnyPath | None = PredictConfig.cam,
    submission: bool = PredictConfig.submission,
    root: AnyPath | None = PredictConfig.root,
    labels: AnyPath | None = PredictConfig.labels,
    link: AnyPath | None = PredictConfig.link,
    body_parts: AnyPath | None = PredictConfig.body_parts,
    keep_identifiers: bool = PredictConfig.keep_identifiers,
    skip_bad: bool = PredictConfig.skip_bad,
    batch_size: int = PredictConfig.batch_size,
    threads: int = PredictConfig.threads,
    ctx: str | None = PredictConfig.ctx,
    runtime: str | None = PredictConfig.runtime,
    precision: str = PredictConfig.precision,
    overwrite: bool = PredictConfig.overwrite,
    reference: bool = PredictConfig.reference,
    progress: bool = True,
) -> Predictions:
    """Predict every study and write the CSVs, as `xenon-predict` does.

    For tables in memory, see `load`.

    Args:
        inputs: CSVs of image paths, manifests, folders, image files, or one .rec file.
        out: The CSV to write, one row per study.
        runs: Run folders, one folder of folds, or one ONNX file.
        members: Maximum number of members, the lowest validation losses first; None is
            5. Of folds, the number of each fold; None is 1.
        threshold: Abnormal if the probability is above it; None is what `decide`
            decided for the run, or else 0.5.
        images: Also write this CSV, one row per image.
        cam: Also write overlays and class activation maps into this folder.
        submission: Write `out` in the form of the MURA competition.
        root: Folder to which the paths in CSVs are relative.
        labels: Labels of an archive's studies, a CSV.
        link: The link file of an archive's pseudonyms, to write.
        body_parts: Further study types of an archive's body parts, a CSV.
        keep_identifiers: Name an archive's patients by their identifiers.
        skip_bad: Leave unreadable images out, and list them in the file beside `out`.
        batch_size: Images per forward pass.
        threads: Decoding threads; 0 uses every core.
        ctx: Devices as MXNet contexts, such as `gpu(0)`.
        runtime: What computes the nets: "mxnet", "onnxruntime" or "openvino". Default:
            mxnet for runs, onnxruntime for an ONNX file.
        precision: "f32", or "bf16" with openvino.
        overwrite: Replace outputs that exist, whoever wrote them.
        reference: Compute without optimizations, for comparison.
        progress: Show a progress bar on standard error.

    Returns:
        The images, the probabilities of the members, and the metrics.

    Raises:
        XenonError: An input or a run cannot be used; nothing is written.
    """
    config = arguments.build_config(PredictConfig, locals())
    from xenon_mx.commands.predict import predict as run_predict

    return run_predict(config, arguments.bar(progress))


def decide(
    run: AnyPath,
    table: AnyPath,
    *,
    sensitivity: float | None = DecideConfig.sensitivity,
    specificity: float | None = DecideConfig.specificity,
    best: str | None = DecideConfig.best,
    refer: float | None = DecideConfig.refer,
    temperature: bool = DecideConfig.temperature,
    overwrite: bool = DecideConfig.overwrite,
) -> Decision:
    """Decide calibration and threshold of a run, as `xenon-decide` does.

    Args:
        run: The run folder, into which decision.json is written.
        table: A CSV that `predict` wrote with this run, of labelled studies that the
            run has not seen.
        sensitivity: The sensitivity that the threshold is to promise.
        specificity: The specificity that the threshold is to promise.
        best: `kappa` for the threshold with the best kappa, which promises nothing.
        refer: The largest mean miss rate of a third answer, refer.
        temperature: Calibrate by one number instead of two.
        overwrite: Replace a decision.json that was changed by hand.

    Returns:
        What was decided.

    Raises:
        XenonError: The table cannot be used, or has too few patients.
    """
    config = arguments.build_config(DecideConfig, locals())
    from xenon_mx.commands.decide import decide as run_decide

    return run_decide(config)


def export(
    runs: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    *,
    to: str = ExportConfig.to,
    members: int | None = ExportConfig.members,
    overwrite: bool = ExportConfig.overwrite,
    progress: bool = True,
) -> int:
    """Write an ensemble for programs without MXNet, as `xenon-export` does.

    Args:
        runs: Run folders, or one folder of folds.
        out: The ONNX file, or with `to="torch"` the folder, to write.
        to: `onnx` for one ONNX file, `torch` for a folder of weights for PyTorch.
        members: Maximum number of members, the lowest validation losses first; None is
            5. Of folds, the number of each fold; None is 1.
        overwrite: Replace files that exist, whoever wrote them.
        progress: Show a progress bar on standard error.

    Returns:
        The number of members in the file or folder.

    Raises:
        XenonError: A run cannot be used, the file does not equal MXNet's nets, or
            torchvision lacks a net that is to be exported for PyTorch.
    """
    config = arguments.build_config(ExportConfig, locals())
    from xenon_mx.commands.export import export as run_export

    return run_export(config, arguments.bar(progress))


def report(
    run: AnyPath,
    predictions: AnyPath | None = None,
    *,
    out: AnyPath = ReportConfig.out,
    model_card: AnyPath | None = ReportConfig.model_card,
    images: AnyPath | None = ReportConfig.images,
    figures: AnyPath | None = ReportConfig.figures,
    threshold: float | None = ReportConfig.threshold,
    prevalence: float | None = ReportConfig.prevalence,
    against: AnyPath | None = ReportConfig.against,
    readers: AnyPath | None = ReportConfig.readers,
    margin: float | None = ReportConfig.margin,
    root: AnyPath | None = ReportConfig.root,
    link: AnyPath | None = ReportConfig.link,
    cam: AnyPath | None = ReportConfig.cam,
    gallery: int = ReportConfig.gallery,
    overwrite: bool = ReportConfig.overwrite,
) -> list[Path]:
    """Write a page about a run and its predictions, as `xenon-report` does.

    Args:
        run: The run folder; or a CSV that `predict` wrote, whose record names the run.
        predictions: A CSV that `predict` wrote, if `run` is a run.
        out: The HTML page to write.
        model_card: Also write a model card, in Markdown.
        images: The CSV of single images that `predict` wrote beside `predictions`.
        figures: Also write every metric with its interval, as a CSV.
        threshold: The one that the predictions were made with; None is that of their
            record, or else 0.5.
        prevalence: Also show PPV and NPV where this share of the studies is abnormal,
            above 0 and below 1.
        against: A table of another ensemble for the same studies, to compare with.
        readers: A CSV of what readers say of the same studies, to compare with.
        margin: Also show where the predictions are worse by less than this.
        root: Folder to which the studies' paths are relative.
        link: The link file or the manifest that tells the studies' images.
        cam: Folder of class activation maps that `predict` wrote.
        gallery: Maximum number of studies per outcome in the gallery.
        overwrite: Replace outputs that exist, whoever wrote them.

    Returns:
        The files written.

    Raises:
        XenonError: The run or a table cannot be used; nothing is written.
    """
    config = arguments.build_config(ReportConfig, locals())
    from xenon_mx.commands.report import report as run_report

    return run_report(config)


def launch(
    command: Sequence[str],
    *,
    workers: int = LaunchConfig.workers,
    servers: int = LaunchConfig.servers,
    hosts: AnyPath | None = LaunchConfig.hosts,
    address: str | None = LaunchConfig.address,
    interface: str | None = LaunchConfig.interface,
    python: str | None = LaunchConfig.python,
) -> int:
    """Run a command as several workers that train one net, as `xenon-launch` does.

    Args:
        command: The command and its arguments.
        workers: Number of workers.
        servers: Number of parameter servers.
        hosts: A file of hosts, one per line, as ssh takes them.
        address: The address of this computer that the hosts reach.
        interface: The network interface that MXNet listens on.
        python: The Python of the servers.

    Returns:
        The worst exit status of the workers.

    Raises:
        XenonError: A process cannot be started.
    """
    config = arguments.build_config(LaunchConfig, locals())
    from xenon_mx.commands.launch import launch as run_launch

    return run_launch(config, lambda line: tqdm.write(line, file=sys.stderr))


def doctor(
    *,
    model: str = DoctorConfig.model,
    size: int = DoctorConfig.size,
    batch_size: int = DoctorConfig.batch_size,
    ctx: str | None = DoctorConfig.ctx,
    out: AnyPath = DoctorConfig.out,
    overwrite: bool = DoctorConfig.overwrite,
    progress: bool = True,
) -> Report:
    """Check what this computer can do with xenon, as `xenon-doctor` does.

    Args:
        model: A net of gluoncv's model zoo.
        size: Side of its square input, px.
        batch_size: Images per step.
        ctx: Devices as MXNet contexts, such as `gpu(0)`; None is every GPU, or cpu() if
            there is none.
        out: The text file to write; the disk of its folder is checked.
        overwrite: Replace a file that exists, whoever wrote it.
        progress: Show a progress bar on standard error.

    Returns:
        The lines, and whether all of them are ok.

    Raises:
        XenonError: The file cannot be written.
    """
    config = arguments.build_config(DoctorConfig, locals())
    from xenon_mx.commands.doctor import doctor as run_doctor

    return run_doctor(config, arguments.bar(progress))
