"""xenon-predict: from radiographs to the ensemble's tables.

Owns the order of the work: inputs, ensemble, forward pass, metrics, outputs. Must not
know the command line.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator

import numpy as np

from xenon_mx.commands import recognition
from xenon_mx.config import MEMBERS, PredictConfig
from xenon_mx.data import mura, output_records, outputs
from xenon_mx.errors import XenonError
from xenon_mx.evaluation import (
    metrics,
    prediction_csv,
    provenance,
    studies,
    study_type_metrics,
)
from xenon_mx.evaluation.decision import REFER, Decision
from xenon_mx.evaluation.left_out import LeftOut
from xenon_mx.evaluation.seen import Seen
from xenon_mx.evaluation.study_type_metrics import StudyTypeMetrics
from xenon_mx.inference import (
    cam_folder,
    cam_overlay,
    decisions,
    engines,
    ensembles,
    inputs,
    prediction_record,
)
from xenon_mx.models.cam_average import CamBatch
from xenon_mx.runtime import files, progress, text, threads
from xenon_mx.training import losses

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """The ensemble's predictions for N images.

    Attributes:
        images: The N images, without those that `skip_bad` left out.
        members: (N, M) probabilities, one column per member.
        threshold: Abnormal if strictly above.
        decision: What was decided about the ensemble, if it was.
        losses: Each member's params file, and its mean loss over all images as training
            would log it; empty unless all labels and weights are known.
        metrics: One entry per study type, and one over all; empty unless all labels
            are known.
    """

    images: list[mura.Image]
    members: np.ndarray
    threshold: float
    losses: dict[Path, float]
    metrics: list[StudyTypeMetrics]
    decision: Decision | None = None

    def count_called_abnormal(self) -> tuple[int, int]:
        """Return the number of studies called abnormal, and that of all studies."""
        called = studies.predict(self._study_prob(), self.threshold)
        return int(called.sum()), len(called)

    def count_decisions(self) -> dict[str, int]:
        """Return how many studies have each decision; empty without a decision."""
        if self.decision is None:
            return {}
        counts = self.decision.count(self._study_prob())
        if self.decision.referral is None:
            del counts[REFER]
        return counts

    def _study_prob(self) -> np.ndarray:
        """Return the probability of each study: (S,) float64."""
        prob = self.members.mean(axis=1)
        return studies.aggregate_images(self.images, prob).prob


@dataclass(frozen=True)
class _Job:
    """The images to predict, the ensemble, what computes it, and the settings."""

    config: PredictConfig
    ensemble: ensembles.Ensemble
    engine: engines.Engine
    source: inputs.InputImages
    origin: str  # the fingerprint of images and runs
    seen: Seen  # what of the images the nets have seen before
    decision: Decision | None

    @property
    def threshold(self) -> float:
        """Return the threshold of `prediction`."""
        return decisions.threshold_of(self.decision, self.config.threshold)


def predict(config: PredictConfig, bar: progress.Bar = progress.silent) -> Predictions:
    """Predict every study, and write the tables.

    Args:
        config: The settings of `xenon-predict`.
        bar: Shows the images done.

    Raises:
        XenonError: An input or a run cannot be used; nothing is written then.
    """
    recognition.check_predict(config.inputs, config.out, config.runs)
    tables = _check_outputs(config)
    job = _prepare(config, tables)
    _log_summary(job)
    with contextlib.ExitStack() as stack:  # maps are kept only if tables are written
        logits = _compute_logits(job, bar, stack)
        listed, prob = job.source.predicted, metrics.sigmoid(logits)
        predictions = Predictions(
            images=listed,
            members=prob,
            threshold=job.threshold,
            losses=_member_losses(job.ensemble, listed, logits),
            metrics=_study_type_metrics(listed, prob, job.threshold),
            decision=job.decision,
        )
        described = prediction_record.describe(
            config, job.ensemble, job.engine, job.source, job.seen, job.decision
        )
        _check_complete(config, described.left_out)
        _write_tables(config, predictions, tables, described)
    if described.left_out.images:
        for line in described.left_out.lines(listed):
            _log.warning("%s", line)
    if described.decision and described.decision.is_used_twice:
        _log.warning("%s", described.decision.warning)
    return predictions


def _check_complete(config: PredictConfig, left_out: LeftOut) -> None:
    """Check that a submission has every study; its scorer would not notice."""
    if config.submission and left_out.studies:
        lost = text.counted(len(left_out.studies), "study has", "studies have")
        raise XenonError(
            f"--submission needs every study, and {lost} no image that can be read: "
            f"repair one image of each",
            left_out.studies,
        )


def _prepare(config: PredictConfig, tables: outputs.Outputs) -> _Job:
    """Open ensemble and inputs, and check that the outputs may be written."""
    ensemble = ensembles.open_ensemble(config.runs, config.members)
    engine = engines.open_engine(ensemble, config)
    decision = decisions.find(ensemble, config.threshold)
    source = inputs.InputImages(config, ensemble.meta.preprocessing)
    if decision is not None:
        prediction_csv.check_columns(source.images)
    if config.submission and not all(image.study_type for image in source.images):
        raise XenonError("--submission needs images in MURA's folders, by study")
    seen = prediction_record.check_unseen(ensemble, source.images, source.origin)
    origin = outputs.made_from(
        {"runs": ensemble.identities, "images": [i.path for i in source.images]}
    )
    tables.claim(origin, [*config.inputs, *ensemble.files(), *source.files()])
    if config.cam is not None:
        cam_folder.check_replaceable(config.cam, origin, config.overwrite)
    return _Job(config, ensemble, engine, source, origin, seen, decision)


def _compute_logits(
    job: _Job, bar: progress.Bar, stack: contextlib.ExitStack
) -> np.ndarray:
    """Compute all logits, (N, M), in one pass over the images; write maps for --cam.

    The folder of the maps is entered on the stack.
    """
    config, ensemble, source = job.config, job.ensemble, job.source
    job.engine.load(bar)
    with bar(total=len(source.images), unit="img", desc="predicting") as progress_bar:
        pixels = source.batches(job.engine.uses_mxnet)
        batches = progress.track(pixels, progress_bar)
        if config.cam is None:
            logits = job.engine.logits(batches)
            progress.fill(progress_bar)  # --skip-bad leaves images out
            _check_finite(ensemble, logits)
            return logits
        extent, cams = job.engine.cams(batches)
        folder = cam_folder.CamFolder(
            out=config.cam,
            paths=[image.path for image in source.images],
            preprocessing=ensemble.meta.preprocessing,
            extent=extent,
            members=len(ensemble.members),
            origin=job.origin,
            overwrite=config.overwrite,
            ensemble=ensemble.source(),
        )
        stack.enter_context(folder)
        logits = _write_cams(folder, job, cams)
        progress.fill(progress_bar)
        folder.complete()
        return logits


def _write_cams(
    folder: cam_folder.CamFolder, job: _Job, cams: Iterable[CamBatch]
) -> np.ndarray:
    """Write the map of each image as it is computed, and return all logits, (N, M)."""
    logits: list[np.ndarray] = []

    def numbered() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        first = 0
        for batch in cams:
            _check_finite(job.ensemble, batch.logits)
            warning = cam_overlay.coarseness_warning(batch.maps.shape[1:])
            if warning and not logits:
                _log.warning("%s: pack with a larger --size", warning)
            logits.append(batch.logits)
            count = len(batch.maps)
            yield from zip(range(first, first + count), batch.pixels, batch.maps)
            first += count

    def add(item: tuple[int, np.ndarray, np.ndarray]) -> None:
        number, pixels, cam = item
        radiograph = job.source.radiograph(number, pixels)
        folder.add(job.source.predicted[number].path, radiograph, cam)

    for _ in threads.map_in_order(add, numbered(), job.config.threads):
        pass
    return np.concatenate(logits)


def _log_summary(job: _Job) -> None:
    """Log how much is predicted, and warn of inputs that do not suit the ensemble."""
    ensemble, source = job.ensemble, job.source
    count = len(ensemble.members)
    images = text.counted(len(source.images), "image")
    _log.info("%s, %s", images, text.counted(count, "member"))
    data = ensemble.training_data()
    if count < ensemble.asked and not data.is_from_elsewhere:
        is_papers = ensemble.asked == MEMBERS and not ensemble.folds
        _log.warning(
            "fewer members than %s: %s",
            f"the paper's {MEMBERS}" if is_papers else ensemble.asked,
            ensemble.limit_reason,
        )
    if data.warning:
        _log.warning("%s", data.warning)
    if job.seen.is_any:
        _log.warning("%s", job.seen)
    outside = sum(1 for image in source.images if not image.study_type)
    if outside:
        _log.warning(
            "%s not in folders XR_*/patient*/study*/: each counts as a study of its "
            "own",
            text.counted(outside, "image is", "images are"),
        )
    unseen = {image.study_type for image in source.images if image.study_type}
    unseen -= set(ensemble.meta.study_types)
    if unseen and not data.is_from_elsewhere:
        _log.warning(
            "study types that the nets were not trained on: %s",
            ", ".join(sorted(unseen)),
        )


def _check_finite(ensemble: ensembles.Ensemble, logits: np.ndarray) -> None:
    """Raise an error if a member yields NaN or infinity: NaN is above no threshold."""
    for member, column in zip(ensemble.members, logits.T):
        bad = int((~np.isfinite(column)).sum())
        if bad:
            raise XenonError(
                f"{member.params}: yields no finite number for {bad:,} of "
                f"{text.counted(len(column), 'image')}: training diverged, or the "
                f"file is damaged; use another run"
            )


def _member_losses(
    ensemble: ensembles.Ensemble, listed: list[mura.Image], logits: np.ndarray
) -> dict[Path, float]:
    """Compute each member's loss over all images as validation computes it."""
    types = {name: i for i, name in enumerate(ensemble.meta.study_types)}
    if any(i.label is None or i.study_type not in types for i in listed):
        return {}
    labels = np.array([image.label for image in listed])
    type_indices = np.array([types[image.study_type] for image in listed])
    loss = losses.WeightedBCE(np.array(ensemble.meta.weights))
    return {
        member.params: loss.mean(column, labels, type_indices)
        for member, column in zip(ensemble.members, logits.T)
    }


def _study_type_metrics(
    listed: list[mura.Image], prob: np.ndarray, threshold: float
) -> list[StudyTypeMetrics]:
    """Compute the metrics of each study type and of all, if all are labelled."""
    unlabelled = {image.study for image in listed if image.label is None}
    if not unlabelled:
        return study_type_metrics.compute(listed, prob.mean(axis=1), threshold)
    count = len({image.study for image in listed})
    if len(unlabelled) < count:
        _log.warning(
            "%d of %s have no label: no metrics are computed",
            len(unlabelled),
            text.counted(count, "study", "studies"),
        )
    return []


def _check_outputs(config: PredictConfig) -> outputs.Outputs:
    """Check, before anything is read, that the outputs can be written."""
    if config.images == Path("-"):
        raise XenonError("--images needs a file; only OUT.csv may be -")
    given = [(config.out, "OUT.csv"), (config.images, "--images")]
    tables = [(path, flag) for path, flag in given if path is not None]
    input_paths = [outputs.resolved(path) for path in config.inputs]
    for path, _ in tables:
        if outputs.resolved(path) in input_paths:  # mostly a forgotten OUT.csv
            raise outputs.named_twice(path)
    if config.cam is not None:
        cam_folder.check_folder(config.cam)
        real = outputs.resolved(config.cam)
        if {real, *real.parents} & set(input_paths):
            raise XenonError(
                f"{config.cam}: is inside an INPUT, where the next prediction would "
                f"read the maps as radiographs: name another folder for --cam"
            )
    record = output_records.BesideRecord()
    files_only = [
        outputs.Output(path, flag, (".csv",), record)
        for path, flag in tables
        if not _is_stream(path)
    ]
    return outputs.Outputs("xenon-predict", files_only, config.overwrite)


def _write_tables(
    config: PredictConfig,
    predictions: Predictions,
    tables: outputs.Outputs,
    described: provenance.Provenance,
) -> None:
    """Write all tables or none; a table for a stream is written directly."""
    args = predictions.images, predictions.members, predictions.threshold
    if config.submission:
        table = prediction_csv.submission_csv(*args)
    else:
        table = prediction_csv.studies_csv(*args, predictions.decision)
    contents = {config.out: table}
    if config.images is not None:
        contents[config.images] = prediction_csv.images_csv(*args)
    streams = {path: data for path, data in contents.items() if _is_stream(path)}
    written = {p: data for p, data in contents.items() if p not in streams}
    notes = {p: {provenance.KEY: described.beside(p).to_json()} for p in written}
    tables.write(written, notes)
    try:
        for path, data in streams.items():
            path.write_bytes(data)
    except OSError as error:
        raise files.write_error(error, streams) from error


def _is_stream(path: Path) -> bool:
    """Return whether a path, such as a pipe or /dev/stdout, must be written in place.

    Replacing /dev/stdout by a file would remove it for every other program.
    """
    is_special = path.exists() and not path.is_file() and not path.is_dir()
    return is_special or Path("/dev") in path.absolute().parents
