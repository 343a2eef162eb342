"""xenon-predict: from radiographs to the ensemble's CSVs.

Puts `inputs`, `ensembles`, `mapping` and `metrics` together. Knows no command line.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, NamedTuple

import numpy as np

from xenon_mx.config import MEMBERS, PredictConfig
from xenon_mx.data import mura, outputs
from xenon_mx.errors import XenonError
from xenon_mx.evaluation import metrics, prediction_tables
from xenon_mx.inference import cam_folder, ensembles, inputs
from xenon_mx.models import cam
from xenon_mx.models.cam import CamBatch
from xenon_mx.runtime import files, progress, threads
from xenon_mx.training import losses

_log = logging.getLogger(__name__)


class Score(NamedTuple):
    """The figures of one study type, or of all; NaN where they are undefined."""

    study_type: str
    studies: int
    abnormal: int
    kappa: float
    auroc: float


@dataclass(frozen=True)
class Predictions:
    """What the ensemble says of N images.

    Attributes:
        images: The N images.
        members: (N, M) probabilities, a column a member.
        threshold: Abnormal if strictly above.
        losses: The mean loss over all images of each member, by its params file, as
            training would log it; empty unless all labels and weights are known.
        scores: A row a study type and one over all; empty without labels.
    """

    images: list[mura.Image]
    members: np.ndarray
    threshold: float
    losses: dict[Path, float]
    scores: list[Score]


def predict(config: PredictConfig, bar: progress.Bar = progress.silent) -> Predictions:
    """Predict every study and write the CSVs.

    Args:
        config: What `xenon-predict` was told.
        bar: Shows the images done.

    Raises:
        XenonError: An input or a run cannot be used; nothing is written then.
    """
    written = _check_outputs(config)
    ensemble = ensembles.open_ensemble(config.runs, config.members)
    source = inputs.InputImages(config, ensemble.meta.preprocessing)
    if config.submission and not all(image.study_type for image in source.images):
        raise XenonError("--submission needs images in MURA's layout, by studies")
    origin = outputs.made_from(
        {"runs": ensemble.identities, "images": [i.path for i in source.images]}
    )
    written.claim(origin, [*config.inputs, *ensemble.files(), *source.files()])
    if config.cam is not None:
        cam_folder.check_replaceable(config.cam, origin, config.overwrite)
    _announce(ensemble, config, source)
    with contextlib.ExitStack() as stack:  # maps stay if the tables are written, too
        logits = _logits(config, ensemble, source, bar, origin, stack)
        prob = metrics.sigmoid(logits)
        predictions = Predictions(
            source.images,
            prob,
            config.threshold,
            _losses(ensemble, source.images, logits),
            _scores(source.images, prob, config.threshold),
        )
        _write(config, predictions, written)
    return predictions


def _logits(
    config: PredictConfig,
    ensemble: ensembles.Ensemble,
    source: inputs.InputImages,
    bar: progress.Bar,
    origin: str,
    stack: contextlib.ExitStack,
) -> np.ndarray:
    """Run all images through all members, (N, M), in one pass over the images."""
    with bar(total=len(source.images), unit="img", desc="predicting") as shown:
        batches = progress.track(source.batches(ensemble.uses_mxnet), shown)
        if config.cam is None:
            logits = ensemble.logits(batches, config.ctx, config.reference)
            _refuse_nonsense(ensemble, logits)
            return logits
        field, looked = ensemble.cams(batches, config.ctx, config.reference)
        paths = [image.path for image in source.images]
        seen = ensemble.meta.preprocessing
        folder = cam_folder.CamFolder(
            out=config.cam,
            paths=paths,
            preprocessing=seen,
            field=field,
            members=len(ensemble.members),
            origin=origin,
            overwrite=config.overwrite,
        )
        stack.enter_context(folder)
        drawn = _draw(folder, config.threads, source, _checked(ensemble, looked))
        folder.seal()
        return drawn


def _checked(
    ensemble: ensembles.Ensemble, looked: Iterable[CamBatch]
) -> Iterator[CamBatch]:
    for each in looked:
        _refuse_nonsense(ensemble, each.logits)
        yield each


def _draw(
    folder: cam_folder.CamFolder,
    number_of_threads: int,
    source: inputs.InputImages,
    looked: Iterable[CamBatch],
) -> np.ndarray:
    """Write the map of each image as it comes, and give all logits, (N, M)."""
    logits: list[np.ndarray] = []

    def numbered() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        first = 0
        for pixels, some, cams in looked:
            caution = cam.coarseness_warning(cams.shape[1:])
            if caution and not logits:
                _log.warning("%s: pack with a larger --size", caution)
            logits.append(some)
            yield from zip(range(first, first + len(cams)), pixels, cams)
            first += len(cams)

    def add(work: tuple[int, np.ndarray, np.ndarray]) -> None:
        number, pixels, each = work
        radiograph = source.radiograph(number, pixels)
        folder.add(source.images[number].path, radiograph, each)

    for _ in threads.map_in_order(add, numbered(), number_of_threads):
        pass
    return np.concatenate(logits)


def _announce(
    ensemble: ensembles.Ensemble, config: PredictConfig, source: inputs.InputImages
) -> None:
    """Say what will be averaged, and what the inputs may not be fit for."""
    count = len(ensemble.members)
    _log.info("%d images, %d member%s", len(source.images), count, "s" * (count > 1))
    if count < config.members:
        _log.warning(
            "fewer members than %s: %s",
            f"the paper's {MEMBERS}" if config.members == MEMBERS else config.members,
            ensemble.extent,
        )
    if source.origin == (ensemble.meta.data, "train"):
        _log.warning("these images trained the nets: no figure on them is a result")
    alone = sum(1 for image in source.images if not image.study_type)
    if alone:
        _log.warning(
            "%d images lie outside XR_*/patient*/study*/: each counts as a study of "
            "its own",
            alone,
        )
    strange = {i.study_type for i in source.images if i.study_type}
    strange -= set(ensemble.meta.study_types)
    if strange:
        _log.warning("the run has never seen %s", ", ".join(sorted(strange)))


def _refuse_nonsense(ensemble: ensembles.Ensemble, logits: np.ndarray) -> None:
    """Stop at members whose weights give no numbers: NaN is above no threshold."""
    for member, column in zip(ensemble.members, logits.T):
        wrong = int((~np.isfinite(column)).sum())
        if wrong:
            raise XenonError(
                f"{member.params}: gives no finite number for {wrong} of "
                f"{len(column)} images: training diverged, or its data are damaged; "
                f"predict by another run"
            )


def _losses(
    ensemble: ensembles.Ensemble, listed: list[mura.Image], logits: np.ndarray
) -> dict[Path, float]:
    """Each member's loss over all images, by the code that training validates with."""
    types = {name: i for i, name in enumerate(ensemble.meta.study_types)}
    if any(i.label is None or i.study_type not in types for i in listed):
        return {}
    labels = np.array([image.label for image in listed])
    kinds = np.array([types[image.study_type] for image in listed])
    loss = losses.WeightedBCE(np.array(ensemble.meta.weights))
    return {
        member.params: loss.mean(column, labels, kinds)
        for member, column in zip(ensemble.members, logits.T)
    }


def _scores(
    listed: list[mura.Image], prob: np.ndarray, threshold: float
) -> list[Score]:
    """Kappa and AUROC over studies, for each study type and pooled."""
    if any(image.label is None for image in listed):
        return []
    _, means = metrics.study_means(
        [image.study for image in listed],
        np.stack([[i.label or 0 for i in listed], prob.mean(axis=1)], axis=1),
    )
    kinds = list({image.study: image.study_type for image in listed}.values())
    labels, mean = (
        means[:, 0].round().astype(int),
        prediction_tables.round_probability(means[:, 1]),
    )

    def score(name: str, chosen: np.ndarray) -> Score:
        truth, values = labels[chosen], mean[chosen]
        kappa = metrics.kappa(truth, (values > threshold).astype(int))
        auroc = metrics.auroc(truth, values)
        return Score(name, len(truth), int(truth.sum()), kappa, auroc)

    by_type = [score(kind, np.array(kinds) == kind) for kind in sorted(set(kinds))]
    return [*by_type, score("overall", np.ones(len(kinds), bool))]


def _check_outputs(config: PredictConfig) -> outputs.Outputs:
    """Refuse outputs that cannot be written, before anything is read."""
    if config.images == Path("-"):
        raise XenonError("--images: write to a file; only OUT.csv may be -")
    wanted = [(config.out, "OUT.csv"), (config.images, "--images")]
    named = [(path, flag) for path, flag in wanted if path is not None]
    taken = [outputs.resolved(path) for path in config.inputs]
    for path, _ in named:
        if outputs.resolved(path) in taken:  # a forgotten OUT.csv, mostly
            raise XenonError(
                f"{path}: is named twice; an output needs a file of its own"
            )
    if config.cam is not None:
        cam_folder.check_folder(config.cam)
        real = outputs.resolved(config.cam)
        within = {real, *real.parents}
        if within & set(taken):
            raise XenonError(
                f"{config.cam}: lies within an INPUT, whose next prediction would take "
                f"the maps for radiographs: name another folder for --cam"
            )
    record = outputs.BesideRecord()
    files_named = [
        outputs.Output(path, flag, (".csv",), record)
        for path, flag in named
        if not _is_stream(path)
    ]
    return outputs.Outputs("xenon-predict", files_named, config.overwrite)


def _write(
    config: PredictConfig, predictions: Predictions, written: outputs.Outputs
) -> None:
    """Write the tables, all of them or none; into a stream, straight."""
    held = predictions.images, predictions.members, predictions.threshold
    of_studies = (
        prediction_tables.submission_csv
        if config.submission
        else prediction_tables.studies_csv
    )
    contents = {config.out: of_studies(*held)}
    if config.images is not None:
        contents[config.images] = prediction_tables.images_csv(*held)
    streams = {path: data for path, data in contents.items() if _is_stream(path)}
    written.write({p: data for p, data in contents.items() if p not in streams})
    try:
        for path, data in streams.items():
            path.write_bytes(data)
    except OSError as error:
        raise files.unwritten(error, streams) from error


def _is_stream(path: Path) -> bool:
    """Tell what must be written in place (a pipe, /dev/stdout) from a file.

    Replacing /dev/stdout by a file would take it away from every other program.
    """
    odd = path.exists() and not path.is_file() and not path.is_dir()
    return odd or Path("/dev") in path.absolute().parents
