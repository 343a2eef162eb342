"""What is recorded of a prediction: its ensemble, its inputs, and what was seen before.

Owns how a `Provenance` is made of an ensemble and of the images to predict. Must not
know how either works, or where the record is written.
"""

from __future__ import annotations

import datetime
import platform
from collections import Counter
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from xenon_mx import __version__
from xenon_mx.config import PredictConfig
from xenon_mx.data import manifest
from xenon_mx.data.mura import Image
from xenon_mx.errors import XenonError
from xenon_mx.evaluation.applied_decision import AppliedDecision
from xenon_mx.evaluation.decision import Decision
from xenon_mx.evaluation.left_out import LeftOut
from xenon_mx.evaluation.provenance import Counts, InputSource, Provenance
from xenon_mx.evaluation.seen import BY_RECORDS, UNKNOWN, Seen
from xenon_mx.inference.decisions import threshold_of
from xenon_mx.inference.engines import Engine
from xenon_mx.inference.ensembles import Ensemble
from xenon_mx.inference.inputs import InputImages
from xenon_mx.runtime import text

# The settings that a record holds: no paths, which may name patients.
_SETTINGS = (
    "threshold",
    "submission",
    "batch_size",
    "ctx",
    "reference",
    "skip_bad",
)


def check_unseen(
    ensemble: Ensemble, images: Sequence[Image], origin: tuple[str, str] | None = None
) -> Seen:
    """Return what `count_seen` returns, unless the ensemble is of folds and saw any.

    Raises:
        XenonError: All folds but one have trained, or tuned, on some of the images.
    """
    seen = count_seen(ensemble, images, origin)
    if ensemble.folds and seen.is_any:
        number = seen.trained + seen.validated + seen.patients
        studies = text.counted(seen.studies, "study", "studies")
        is_certain = seen.basis == BY_RECORDS
        message = (
            f"{number:,} of {studies} are{'' if is_certain else ', by their names,'} "
            f"of patients that trained all folds but one: their honest predictions are "
            f"in out-of-fold.csv of the folds"
        )
        if not is_certain:
            message += (
                "; if only the names are the same, give the images in a manifest with "
                "other names of studies and patients"
            )
        raise XenonError(message)
    return seen


def count_seen(
    ensemble: Ensemble, images: Sequence[Image], origin: tuple[str, str] | None = None
) -> Seen:
    """Count the studies that trained the members or chose their checkpoints.

    Of a .rec file of the packed folder that the members were trained on, the split
    tells it; of other images, the names of studies and patients, as far as a run of the
    ensemble has recorded their hashes.

    Args:
        ensemble: The members.
        images: The images whose studies are counted.
        origin: Of a .rec file, the fingerprint of the packed folder and the split.
    """
    data = ensemble.training_data()
    studies = len({image.study for image in images})
    if data.is_from_elsewhere:
        return Seen(UNKNOWN, studies)
    if origin and origin[0] == data.fingerprint:
        split = origin[1]
        if split == (data.trained_on or "train"):
            return Seen(BY_RECORDS, studies, trained=studies)
        if split == data.validated_on:
            return Seen(BY_RECORDS, studies, validated=studies)
        is_known = data.validated_on is not None
        return Seen(BY_RECORDS if is_known else UNKNOWN, studies)
    recorded = ensemble.seen_studies()
    return recorded.count(images) if recorded else Seen(UNKNOWN, studies)


def describe(
    config: PredictConfig,
    ensemble: Ensemble,
    engine: Engine,
    source: InputImages,
    seen: Seen,
    decision: Decision | None = None,
) -> Provenance:
    """Return the provenance of the tables of a prediction that has just been made.

    Args:
        config: The settings of `xenon-predict`.
        ensemble: What predicted.
        engine: What computed it.
        source: What was predicted.
        seen: What `count_seen` returned for all images of the source.
        decision: What was decided about the ensemble, if it was.
    """
    images = source.predicted
    threshold = threshold_of(decision, config.threshold)
    if source.left_out:
        seen = count_seen(ensemble, images, source.origin)
    labelled = {image.study for image in images if image.label is not None}
    fingerprint, split = source.origin or (None, None)
    now = datetime.datetime.now(datetime.timezone.utc)
    return Provenance(
        command={
            "name": "xenon-predict",
            **{name: _plain(getattr(config, name)) for name in _SETTINGS},
            "runtime": engine.runtime,
            "precision": engine.precision,
            "members": ensemble.asked,
            "threshold": threshold,
        },
        time=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        versions={
            "xenon": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            **engine.versions(),
        },
        ensemble=ensemble.source(),
        data=ensemble.training_data(),
        preprocessing=ensemble.meta.preprocessing.to_json(),
        threshold=threshold,
        inputs=InputSource(
            kinds=dict(Counter(map(_kind, config.inputs))),
            fingerprint=fingerprint,
            split=split,
        ),
        counts=Counts(len(images), seen.studies, len(labelled)),
        seen=seen,
        left_out=LeftOut.of(source.left_out, images),
        decision=_applied(config, decision, images),
    )


def _applied(
    config: PredictConfig, decision: Decision | None, images: Sequence[Image]
) -> AppliedDecision | None:
    """Return what is recorded of a decision that is applied to images."""
    if decision is None:
        return None
    return AppliedDecision.of(
        decision,
        is_overruled=config.threshold is not None,
        pairs=((image.study, image.patient) for image in images),
    )


def _plain(value: Any) -> Any:
    """Return a setting as a JSON value: callers in Python may pass NumPy's numbers."""
    return value.item() if isinstance(value, np.generic) else value


def _kind(path: Path) -> str:
    """Return what an INPUT is: `folder`, `manifest`, `csv`, `rec` or `file`."""
    if path.is_dir():
        return "folder"
    if manifest.is_manifest(path):
        return "manifest"
    suffix = path.suffix.lower()[1:]
    return suffix if suffix in ("csv", "rec") else "file"
