"""Ensembles to predict with from Python: `xenon_mx.load`.

Owns what a notebook gives to an ensemble and gets back: images, arrays and data frames.
The work is done by `inference`, which is imported when it is needed.
"""

from __future__ import annotations

import logging
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, Sequence

from xenon_mx import arguments
from xenon_mx.arguments import as_paths
from xenon_mx.config import PredictConfig
from xenon_mx.errors import XenonError
from xenon_mx.runtime.progress import track
from xenon_mx.settings import AnyPath

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from xenon_mx.inference import ensembles
    from xenon_mx.inference.engines import Engine

_log = logging.getLogger(__name__)


def load(
    runs: AnyPath | Sequence[AnyPath],
    *,
    members: int | None = None,
    ctx: str | None = None,
    runtime: str | None = PredictConfig.runtime,
    precision: str = PredictConfig.precision,
) -> Ensemble:
    """Load an ensemble to predict with.

    Args:
        runs: A run folder, several of them, one folder of folds, or one ONNX file
            (which needs no MXNet).
        members: Maximum number of members, the lowest validation losses first; None is
            5. Of folds, the number of each fold; None is 1.
        ctx: Devices as MXNet contexts. Default: gpu(0) if it can be used, else cpu().
        runtime: What computes the nets: "mxnet", "onnxruntime" or "openvino". Default:
            mxnet for runs, onnxruntime for an ONNX file.
        precision: "f32", or "bf16" with openvino.

    Raises:
        XenonError: A run cannot be used, runs cannot be averaged, or the runtime cannot
            compute them.
    """
    from xenon_mx.commands import recognition
    from xenon_mx.inference import engines, ensembles
    from xenon_mx.runtime import devices

    config = _settings(members=members, ctx=ctx, runtime=runtime, precision=precision)
    if ctx is not None:
        devices.parse_ctx(ctx)
    paths = as_paths(runs)
    recognition.check_runs(paths)
    opened = ensembles.open_ensemble(paths, members)
    return Ensemble(opened, engines.open_engine(opened, config))


class Ensemble:
    """Members whose probabilities are averaged, ready to predict.

    The members are loaded by the first prediction, and stay loaded.

    Args:
        known: What is known of the members.
        engine: What computes them: see `load`.
    """

    def __init__(self, known: ensembles.Ensemble, engine: Engine) -> None:
        self._known, self._engine = known, engine

    def __repr__(self) -> str:
        names = [str(member.params) for member in self._known.members]
        return f"<xenon Ensemble of {', '.join(names)}>"

    def predict(
        self,
        inputs: AnyPath | Sequence[AnyPath],
        *,
        threshold: float | None = PredictConfig.threshold,
        root: AnyPath | None = PredictConfig.root,
        skip_bad: bool = PredictConfig.skip_bad,
        batch_size: int = PredictConfig.batch_size,
        threads: int = PredictConfig.threads,
        progress: bool = False,
    ) -> pd.DataFrame:
        """Predict studies.

        Args:
            inputs: Whatever `xenon-predict` takes: CSVs of image paths, folders, image
                files, or one .rec file.
            threshold: Abnormal if the probability is above it; None is what
                xenon-decide decided for the run, or else 0.5.
            root: Folder to which the paths in CSVs are relative.
            skip_bad: Leave unreadable images out; the log names them.
            batch_size: Images per forward pass.
            threads: Decoding threads; 0 uses every core.
            progress: Show a progress bar on standard error.

        Returns:
            One row per study, with the columns of the table that `xenon-predict`
            writes: study, study_type, images, probability, prediction, label (1
            abnormal, 0 normal, <NA> unknown), and at the end calibrated and decision,
            if a decision was made about the run.

        Raises:
            XenonError: An input cannot be used, or the decision is about other members.
        """
        from xenon_mx.evaluation import prediction_csv
        from xenon_mx.inference import decisions

        config = _settings(
            inputs=as_paths(inputs),
            root=root,
            threshold=threshold,
            skip_bad=skip_bad,
            batch_size=batch_size,
            threads=threads,
        )
        decision = decisions.find(self._known, threshold)
        images, prob = self._probabilities(config, progress)
        if decision is not None:
            prediction_csv.check_columns(images)
        threshold = decisions.threshold_of(decision, threshold)
        table = prediction_csv.studies_csv(images, prob, threshold, decision)
        return _frame(table, is_decided=decision is not None)

    def predict_images(
        self,
        images: Sequence[Any],
        *,
        threshold: float | None = PredictConfig.threshold,
        batch_size: int = PredictConfig.batch_size,
    ) -> pd.DataFrame:
        """Predict single images.

        Args:
            images: Image files, DICOM files, or (H, W) uint8 arrays, 0 black.
            threshold: As for `predict`.
            batch_size: Images per forward pass.

        Returns:
            One row per image, with the columns that `xenon-predict --images` writes:
            image (the path, or `array 0` and so on), study, study_type, probability,
            prediction, label, member_1, ....

        Raises:
            XenonError: A file is not an image, or an array is not (H, W) uint8.
        """
        from xenon_mx.evaluation import metrics, prediction_csv
        from xenon_mx.inference import decisions

        _settings(threshold=threshold, batch_size=batch_size)
        if isinstance(images, (str, PathLike)) or hasattr(images, "shape"):
            raise XenonError("give a list of images, also for a single one")
        images = list(images)
        decision = decisions.find(self._known, threshold)
        named = [_named(image, number) for number, image in enumerate(images)]
        self._check_unseen(named)
        squares = [self._square(_pixels(image)) for image in images]
        logits = self._engine.logits(_batches(squares, batch_size))
        prob = metrics.sigmoid(logits)
        threshold = decisions.threshold_of(decision, threshold)
        return _frame(prediction_csv.images_csv(named, prob, threshold))

    def cam(self, image: Any) -> tuple[np.ndarray, np.ndarray]:
        """Compute the class activation map of an image.

        Args:
            image: An image file, a DICOM file, or an (H, W) uint8 array, 0 black.

        Returns:
            The overlay, (H, W, 3) uint8 in RGB, as matplotlib shows it; and the map,
            (h, w) float32, one value per cell of the last feature map: above 0 where
            it speaks for abnormal.

        Raises:
            XenonError: The file is not an image, or the array is not (H, W) uint8.
        """
        from xenon_mx.inference import cam_overlay

        pixels = _pixels(image)
        extent, batches = self._engine.cams([self._square(pixels)[None]])
        (batch,) = batches
        resized = cam_overlay.resize_to_radiograph(
            batch.maps[0], pixels.shape, *self._geometry(), extent
        )
        return cam_overlay.draw_overlay(pixels, resized)[..., ::-1].copy(), batch.maps[
            0
        ]

    def _probabilities(
        self, config: PredictConfig, progress: bool
    ) -> tuple[list[Any], np.ndarray]:
        """Return the images of the inputs, N, and (N, M) probabilities."""
        from xenon_mx.evaluation import metrics
        from xenon_mx.evaluation.left_out import LeftOut
        from xenon_mx.inference.inputs import InputImages

        source = InputImages(config, self._known.meta.preprocessing)
        self._check_unseen(source.images, source.origin)
        bar = arguments.bar(progress)
        self._engine.load(bar)
        with bar(total=len(source.images), unit="img") as progress_bar:
            pixels = source.batches(self._engine.uses_mxnet)
            batches = track(pixels, progress_bar)
            logits = self._engine.logits(batches)
        if source.left_out:
            left_out = LeftOut.of(source.left_out, source.predicted)
            for line in left_out.lines(source.predicted):
                _log.warning("%s", line)
        return source.predicted, metrics.sigmoid(logits)

    def _check_unseen(
        self, images: Sequence[Any], origin: tuple[str, str] | None = None
    ) -> None:
        """Check that folds were not trained on the images."""
        if self._known.folds:
            from xenon_mx.inference import prediction_record

            prediction_record.check_unseen(self._known, images, origin)

    def _geometry(self) -> tuple[int, str]:
        """Return side and fit of the nets' square input, as `fit_square` takes them."""
        preprocessing = self._known.meta.preprocessing
        return preprocessing.size, preprocessing.fit

    def _square(self, pixels: np.ndarray) -> np.ndarray:
        from xenon_mx.data import images

        return images.fit_square(pixels, *self._geometry())


def _settings(**given: Any) -> PredictConfig:
    """Return checked settings of a prediction, which writes no file here."""
    return PredictConfig(**{"inputs": (), "out": Path("-"), "runs": (), **given})


def _named(image: Any, number: int) -> Any:
    """Return an image as named by its path, or an array as named by its number."""
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


def _frame(csv: bytes, is_decided: bool = False) -> pd.DataFrame:
    """Return a table of predictions as a data frame; unknown labels are <NA>.

    Further columns are text, except for calibrated: the patient 007 is not 7.
    """
    import io

    import pandas as pd

    from xenon_mx.evaluation.prediction_tables import is_column
    from xenon_mx.runtime import spreadsheet

    header = pd.read_csv(io.BytesIO(csv), nrows=0).columns
    text = {"study", "study_type", "image", "patient"} & set(header)
    text |= {name for name in header if not is_column(name)}
    if is_decided:
        text -= {"calibrated"}
    return pd.read_csv(
        io.BytesIO(csv),
        dtype={"label": "Int64"},
        converters=dict.fromkeys(text, spreadsheet.unguard),
        keep_default_na=False,
        na_values={"label": [""]},
    ).rename(columns=spreadsheet.unguard)
