"""xenon in Python: `import xenon_mx as xenon`. The commands, and ensembles to hold.

Owns signatures and what notebooks want back; every default is that of `config`. The
work is done by `commands` and `inference`, which are imported when they are needed.
"""

from __future__ import annotations

import sys
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Sequence, Union

from tqdm import tqdm

from xenon_mx.config import (
    MEMBERS,
    ExportConfig,
    LaunchConfig,
    PackConfig,
    PredictConfig,
    ReportConfig,
    TrainConfig,
)
from xenon_mx.errors import XenonError
from xenon_mx.runtime import progress as bars

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from xenon_mx.commands.predict import Predictions
    from xenon_mx.data.packed_folder import PackedFolder
    from xenon_mx.inference.ensembles import Ensemble as Members
    from xenon_mx.runs.checkpoints import Checkpoint

AnyPath = Union[str, "PathLike[str]"]


def pack(
    source: AnyPath,
    out: AnyPath,
    *,
    root: AnyPath | None = PackConfig.root,
    size: int = PackConfig.size,
    fit: str = PackConfig.fit,
    encoding: str = PackConfig.encoding,
    quality: int = PackConfig.quality,
    holdout: float = PackConfig.holdout,
    seed: int = PackConfig.seed,
    threads: int = PackConfig.threads,
    skip_bad: bool = PackConfig.skip_bad,
    overwrite: bool = PackConfig.overwrite,
    progress: bool = True,
) -> PackedFolder:
    """Pack the radiographs of a data set into record files, as `xenon-pack` does.

    Args:
        source: The data set's folder, laid out like MURA-v1.1.
        out: The packed folder to write.
        root: Folder that paths in CSVs start from.
        size: Side of the packed squares, px.
        fit: `stretch` or `pad`.
        encoding: `jpg` or `png`.
        quality: JPEG quality.
        holdout: Share of the training patients to set aside.
        seed: Seed of the record order and of the holdout.
        threads: Decoding threads; 0 uses every core.
        skip_bad: Leave unreadable images out.
        overwrite: Replace what `out` holds.
        progress: Show a progress bar on standard error.

    Returns:
        The packed folder, verified.

    Raises:
        XenonError: The input cannot be used; the message says why.
    """
    config = _config(PackConfig, locals())
    from xenon_mx.commands.pack import pack as run_pack

    return run_pack(config, _bar(progress))


def train(
    packed: AnyPath,
    run: AnyPath,
    *,
    resume: bool = TrainConfig.resume,
    model: str = TrainConfig.model,
    pretrained: str | None = TrainConfig.pretrained,
    no_pretrained: bool = TrainConfig.no_pretrained,
    freeze_epochs: int = TrainConfig.freeze_epochs,
    loss: str = TrainConfig.loss,
    pooled_weights: bool = TrainConfig.pooled_weights,
    batch_size: int = TrainConfig.batch_size,
    lr: float = TrainConfig.lr,
    epochs: int = TrainConfig.epochs,
    patience: int = TrainConfig.patience,
    min_delta: float = TrainConfig.min_delta,
    min_lr: float = TrainConfig.min_lr,
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
        pretrained: A weights file, a run, `gluon` or `hub`.
        no_pretrained: Start from random weights.
        freeze_epochs: Train only the last layer in the first epochs.
        loss: `weighted` or `plain` binary cross entropy.
        pooled_weights: One pair of loss weights for all study types.
        batch_size: Images per step.
        lr: Initial learning rate.
        epochs: Maximum number of epochs.
        patience: Epochs without a new best before the learning rate is divided by 10.
        min_delta: How much lower a validation loss must be to be a new best.
        min_lr: Training ends when the learning rate would fall below this.
        seed: Seed of weights, order and augmentation.
        threads: Decoding threads.
        ctx: Devices in MXNet's words, such as `gpu(0)`.
        kvstore: `dist_sync` or `dist_device_sync` for several workers.
        reference: Turn the optimizations of speed off.
        progress: Show progress bars on standard error.

    Returns:
        The best epochs, the lowest validation loss first.

    Raises:
        XenonError: The data or settings cannot be used, or the loss is not finite.
    """
    given = locals()
    if resume:
        given = _with_recorded(given)
    config = _config(TrainConfig, given)
    from xenon_mx.commands.train import train as run_train

    return run_train(config, _bar(progress))


def predict(
    inputs: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    runs: AnyPath | Sequence[AnyPath],
    *,
    members: int = PredictConfig.members,
    threshold: float = PredictConfig.threshold,
    images: AnyPath | None = PredictConfig.images,
    cam: AnyPath | None = PredictConfig.cam,
    submission: bool = PredictConfig.submission,
    root: AnyPath | None = PredictConfig.root,
    batch_size: int = PredictConfig.batch_size,
    threads: int = PredictConfig.threads,
    ctx: str | None = PredictConfig.ctx,
    overwrite: bool = PredictConfig.overwrite,
    reference: bool = PredictConfig.reference,
    progress: bool = True,
) -> Predictions:
    """Predict every study and write the CSVs, as `xenon-predict` does.

    For tables in memory, see `load`.

    Args:
        inputs: CSVs of image paths, folders, image files, or one .rec file.
        out: The CSV to write, one row per study.
        runs: Run folders, or one ONNX file.
        members: Maximum number of members, the lowest validation losses first.
        threshold: Abnormal if the probability is above it.
        images: Also write this CSV, one row per image.
        cam: Also write overlays and class activation maps into this folder.
        submission: Write `out` in the form of the MURA competition.
        root: Folder that paths in CSVs start from.
        batch_size: Images per forward pass.
        threads: Decoding threads; 0 uses every core.
        ctx: Devices in MXNet's words, such as `gpu(0)`.
        overwrite: Replace outputs that exist, whoever wrote them.
        reference: Turn the optimizations of speed off.
        progress: Show a progress bar on standard error.

    Returns:
        The images, the probabilities of the members and the scores.

    Raises:
        XenonError: An input or a run cannot be used; nothing is written.
    """
    config = _config(PredictConfig, locals())
    from xenon_mx.commands.predict import predict as run_predict

    return run_predict(config, _bar(progress))


def export(
    runs: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    *,
    members: int = ExportConfig.members,
    overwrite: bool = ExportConfig.overwrite,
    progress: bool = True,
) -> int:
    """Write an ensemble as one ONNX file, which needs no MXNet, as `xenon-export` does.

    Args:
        runs: Run folders.
        out: The ONNX file to write.
        members: Maximum number of members, the lowest validation losses first.
        overwrite: Replace a file that exists, whoever wrote it.
        progress: Show a progress bar on standard error.

    Returns:
        The number of members in the file.

    Raises:
        XenonError: A run cannot be used, or the file does not equal MXNet's nets.
    """
    config = _config(ExportConfig, locals())
    from xenon_mx.commands.export import export as run_export

    return run_export(config, _bar(progress))


def report(
    run: AnyPath,
    predictions: AnyPath | None = None,
    *,
    out: AnyPath = ReportConfig.out,
    model_card: AnyPath | None = ReportConfig.model_card,
    images: AnyPath | None = ReportConfig.images,
    figures: AnyPath | None = ReportConfig.figures,
    threshold: float = ReportConfig.threshold,
    root: AnyPath | None = ReportConfig.root,
    cam: AnyPath | None = ReportConfig.cam,
    gallery: int = ReportConfig.gallery,
    overwrite: bool = ReportConfig.overwrite,
) -> list[Path]:
    """Write a page about a run and its predictions, as `xenon-report` does.

    Args:
        run: The run folder.
        predictions: A CSV that `predict` wrote, of studies with labels.
        out: The HTML page to write.
        model_card: Also write a model card, in Markdown.
        images: The CSV of single images that `predict` wrote beside `predictions`.
        figures: Also write every metric with its interval, as a CSV.
        threshold: The one that the predictions were made with.
        root: Folder that the studies' paths start from.
        cam: Folder of class activation maps that `predict` wrote.
        gallery: Maximum number of studies per outcome in the gallery.
        overwrite: Replace outputs that exist, whoever wrote them.

    Returns:
        The files written.

    Raises:
        XenonError: The run or a table cannot be used; nothing is written.
    """
    config = _config(ReportConfig, locals())
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
    config = _config(LaunchConfig, locals())
    from xenon_mx.commands.launch import launch as run_launch

    return run_launch(config, lambda line: tqdm.write(line, file=sys.stderr))


def load(
    runs: AnyPath | Sequence[AnyPath],
    *,
    members: int = MEMBERS,
    ctx: str | None = None,
) -> Ensemble:
    """Load an ensemble to predict with.

    Args:
        runs: A run folder, several of them, or one ONNX file (which needs no MXNet).
        members: Maximum number of members, the lowest validation losses first.
        ctx: Devices in MXNet's words. Default: gpu(0) if it can be used, else cpu().

    Raises:
        XenonError: A run cannot be used, or runs cannot be averaged.
    """
    from xenon_mx.inference.ensembles import open_ensemble

    return Ensemble(open_ensemble(_paths(runs), members), ctx)


class Ensemble:
    """Members whose probabilities are averaged, ready to predict. See `load`."""

    def __init__(self, members: Members, ctx: str | None) -> None:
        self._members, self._ctx = members, ctx

    def __repr__(self) -> str:
        names = [Path(member.params).name for member in self._members.members]
        return f"<xenon Ensemble of {', '.join(names)}>"

    def predict(
        self,
        inputs: AnyPath | Sequence[AnyPath],
        *,
        threshold: float = PredictConfig.threshold,
        root: AnyPath | None = PredictConfig.root,
        batch_size: int = PredictConfig.batch_size,
        threads: int = PredictConfig.threads,
        progress: bool = False,
    ) -> pd.DataFrame:
        """Predict studies.

        Args:
            inputs: Whatever `xenon-predict` takes: CSVs of image paths, folders, image
                files, or one .rec file.
            threshold: Abnormal if the probability is above it.
            root: Folder that paths in CSVs start from.
            batch_size: Images per forward pass.
            threads: Decoding threads; 0 uses every core.
            progress: Show a progress bar on standard error.

        Returns:
            One row per study, with the columns of the table that `xenon-predict`
            writes: study, study_type, images, probability, prediction, label (1
            abnormal, 0 normal, <NA> unknown).

        Raises:
            XenonError: An input cannot be used.
        """
        from xenon_mx.evaluation import prediction_tables

        config = PredictConfig(
            inputs=_paths(inputs),
            out=Path("-"),
            runs=(),
            root=_path(root),
            threshold=threshold,
            batch_size=batch_size,
            threads=threads,
        )
        images, prob = self._probabilities(config, progress)
        return _frame(prediction_tables.studies_csv(images, prob, threshold))

    def predict_images(
        self,
        images: Sequence[Any],
        *,
        threshold: float = PredictConfig.threshold,
        batch_size: int = PredictConfig.batch_size,
    ) -> pd.DataFrame:
        """Predict single images.

        Args:
            images: Image files, DICOM files, or (H, W) uint8 arrays, 0 black.
            threshold: Abnormal if the probability is above it.
            batch_size: Images per forward pass.

        Returns:
            One row per image, with the columns that `xenon-predict --images` writes:
            image (the path, or `array 0` and so on), study, study_type, probability,
            prediction, label, member_1, ....

        Raises:
            XenonError: A file is no image, or an array is not (H, W) uint8.
        """
        from xenon_mx.evaluation import metrics, prediction_tables

        named = [_named(image, number) for number, image in enumerate(images)]
        squares = [self._square(_pixels(image)) for image in images]
        logits = self._members.logits(_batches(squares, batch_size), self._ctx)
        prob = metrics.sigmoid(logits)
        return _frame(prediction_tables.images_csv(named, prob, threshold))

    def cam(self, image: Any) -> tuple[np.ndarray, np.ndarray]:
        """Compute the class activation map of an image.

        Args:
            image: An image file, a DICOM file, or an (H, W) uint8 array, 0 black.

        Returns:
            The overlay, (H, W, 3) uint8 in RGB, as matplotlib shows it; and the map,
            (h, w) float32, one value per cell of the last feature map: above 0 where
            it speaks for abnormal.

        Raises:
            XenonError: The file is no image, or the array is not (H, W) uint8.
        """
        from xenon_mx.inference import cam_overlay

        pixels = _pixels(image)
        extent, batches = self._members.cams([self._square(pixels)[None]], self._ctx)
        (batch,) = batches
        over = cam_overlay.resize_to_radiograph(
            batch.maps[0], pixels.shape, *self._geometry(), extent
        )
        return cam_overlay.draw_overlay(pixels, over)[..., ::-1].copy(), batch.maps[0]

    def _probabilities(
        self, config: PredictConfig, progress: bool
    ) -> tuple[list[Any], np.ndarray]:
        """Return the images of the inputs, N, and (N, M) probabilities."""
        from xenon_mx.evaluation import metrics
        from xenon_mx.inference.inputs import InputImages

        source = InputImages(config, self._members.meta.preprocessing)
        with _bar(progress)(total=len(source.images), unit="img") as shown:
            batches = bars.track(source.batches(self._members.uses_mxnet), shown)
            logits = self._members.logits(batches, self._ctx)
        return source.images, metrics.sigmoid(logits)

    def _geometry(self) -> tuple[int, str]:
        """Return side and fit of the squares that the members take."""
        seen = self._members.meta.preprocessing
        return seen.size, seen.fit

    def _square(self, pixels: np.ndarray) -> np.ndarray:
        from xenon_mx.data import images

        return images.fit_square(pixels, *self._geometry())


def _named(image: Any, number: int) -> Any:
    """Return what is known of an image by its path; an array has none."""
    from xenon_mx.data import datasets, mura

    if isinstance(image, (str, PathLike)):
        return datasets.read_file(Path(image))
    name = f"array {number}"
    return mura.parse(name, Path(name))


def _pixels(image: Any) -> np.ndarray:
    """Read an image, or check an array: (H, W) uint8."""
    import numpy as np

    from xenon_mx.data import images

    if isinstance(image, (str, PathLike)):
        file = Path(image)
        return images.decode(images.read(file), str(file))
    if not (isinstance(image, np.ndarray) and image.ndim == 2 and image.size):
        raise XenonError(
            f"an image is a path or an array of shape (H, W), not {_described(image)}"
        )
    if image.dtype != np.uint8:
        raise XenonError(
            f"an array of {image.dtype}: scale it to uint8, 0 black and 255 white"
        )
    return image


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"an array of shape {shape}" if shape is not None else type(value).__name__


def _batches(squares: Sequence[np.ndarray], size: int) -> Iterator[np.ndarray]:
    import numpy as np

    for start in range(0, len(squares), size):
        yield np.stack(squares[start : start + size])


def _frame(csv: bytes) -> pd.DataFrame:
    """Read a table of predictions, labels as integers that may be missing."""
    import io

    import pandas as pd

    kinds = {"study": str, "study_type": str, "image": str, "label": "Int64"}
    names = {name: kind for name, kind in kinds.items() if name.encode() in csv}
    frame = pd.read_csv(
        io.BytesIO(csv), dtype=names, keep_default_na=False, na_values={"label": [""]}
    )
    return frame


def _config(kind: Any, given: dict[str, Any]) -> Any:
    """Build a config from a function's arguments: paths as Path, several as tuples."""
    settings = {}
    for each in fields(kind):
        value = given[each.name]
        wanted = str(each.type)
        if wanted.startswith("tuple"):
            value = _paths(value) if "Path" in wanted else tuple(value)
        elif "Path" in wanted:
            value = _path(value)
        settings[each.name] = value
    return kind(**settings)


def _with_recorded(given: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `train`, with a run's own settings for defaults."""
    from xenon_mx.runs.run_folder import Run

    settings = Run.open(Path(given["run"])).meta.settings
    defaults = {each.name: each.default for each in fields(TrainConfig)}
    kept = {
        name: settings[name]
        for name, value in given.items()
        if name in settings and value == defaults.get(name)
    }
    return {**given, **kept}


def _path(value: AnyPath | None) -> Path | None:
    return None if value is None else Path(value)


def _paths(value: AnyPath | Sequence[AnyPath]) -> tuple[Path, ...]:
    """Return one path or several as a tuple."""
    if isinstance(value, (str, PathLike)):
        return (Path(value),)
    return tuple(Path(each) for each in value)


def _bar(progress: bool) -> bars.Bar:
    return bars.for_stream(sys.stderr) if progress else bars.silent
