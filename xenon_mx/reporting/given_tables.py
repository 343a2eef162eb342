"""The tables that a report is given: read, and checked against one another.

Owns the rule that studies, images and maps are of one prediction; must not know what a
report shows of them.
"""

from __future__ import annotations

from pathlib import Path

from xenon_mx.config import ReportConfig
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.evaluation import provenance
from xenon_mx.evaluation.prediction_tables import PredictionTable, read_table
from xenon_mx.evaluation.provenance import EnsembleSource
from xenon_mx.evaluation.studies import aggregate_studies
from xenon_mx.inference import cam_folder
from xenon_mx.reporting.origin import Origin
from xenon_mx.runtime.text import counted

_ROUNDING = 2e-9  # of two means of numbers of nine digits


def check_ensembles(config: ReportConfig, origin: Origin) -> None:
    """Check that images and maps are of the ensemble that predicted, where known."""
    assert config.predictions is not None
    ours = origin.provenance.ensemble if origin.provenance else None
    found: list[tuple[Path, EnsembleSource | None]] = []
    if config.images is not None:
        images = provenance.read(config.images).provenance
        found.append((config.images, images.ensemble if images else None))
    if config.cam is not None:
        found.append((config.cam, cam_folder.read_ensemble(config.cam)))
    for file, ensemble in found:
        provenance.check_same_ensemble(ensemble, ours, file, config.predictions)


def check_flags_without_labels(config: ReportConfig, table: PredictionTable) -> None:
    """Raise an error for flags that have no effect without labels."""
    for name in ("images", "figures", "prevalence", "against", "readers"):
        if getattr(config, name) is not None:
            raise ConfigError(f"--{name}", f"has no effect: {table.file} has no labels")


def read(csv: Path, threshold: float) -> PredictionTable:
    """Read a table, and check that it was made with this threshold."""
    table = read_table(csv)
    table.check_threshold(threshold)
    return table


def read_images(
    csv: Path, threshold: float, studies: PredictionTable
) -> PredictionTable:
    """Read the table of the images of the predicted studies."""
    images = read(csv, threshold)
    if images.level != "image" or studies.level != "study":
        raise XenonError(
            f"{csv}: --images needs the table that xenon-predict --images wrote, and "
            f"PREDICTIONS the table of studies written with it"
        )
    unmatched = set(images.studies) ^ set(studies.names)
    if unmatched:
        raise XenonError(
            f"{csv}: is not of the same studies as {studies.file}: {min(unmatched)} is "
            f"in one of them only"
        )
    _check_same_prediction(images, studies)
    return images


def _check_same_prediction(images: PredictionTable, studies: PredictionTable) -> None:
    """Check that the studies are the means of the images, with the same labels."""
    label_of = dict(zip(studies.names, studies.labels))
    relabelled = {
        study
        for study, label in zip(images.studies, images.labels)
        if label != label_of[study]
    }
    means = aggregate_studies(
        images.studies, images.study_types, images.labels, images.prob
    )
    mean_of = dict(zip(means.names, zip(means.prob, means.images)))
    for study, prob, count in zip(studies.names, studies.prob, studies.images):
        mean, image_count = mean_of[study]
        is_same = abs(mean - prob) <= _ROUNDING and image_count == count
        if not is_same or study in relabelled:
            raise XenonError(
                f"{images.file}: is not of the same prediction as {studies.file}: "
                f"there {study} has a probability of {prob:.9g} and "
                f"{counted(count, 'image')}, here {mean:.9g} and {image_count}"
            )
