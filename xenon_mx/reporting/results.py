"""Results: what a report shows of a table of predictions.

Owns what the page and the model card are given; must not know how tables are checked
(`given_tables`), what predictions show (`summaries`), or the page.
"""

from __future__ import annotations

from dataclasses import dataclass

from xenon_mx.config import ReportConfig
from xenon_mx.evaluation.prediction_tables import PLURAL, PredictionTable
from xenon_mx.reporting import gallery, given_tables, summaries
from xenon_mx.reporting.gallery import ColourKey, GallerySection
from xenon_mx.reporting.origin import Origin
from xenon_mx.runtime import files


@dataclass(frozen=True)
class Results:
    """What a report shows of a table of predictions.

    Attributes:
        source: The path of the table.
        sha256: The SHA-256 of the table's bytes.
        names: The study or the image of each of its rows.
        threshold: A sample is predicted abnormal if its probability is strictly above.
        plural: `studies` or `images`.
        warnings: What limits the use of the results.
        summary: What the predictions show.
        gallery: The most confident errors, then correct predictions; without labels,
            the most confident predictions.
        gallery_note: What the gallery shows, and what is missing in it.
        colour_key: What the colours of its overlays mean; None without overlays.
    """

    source: str
    sha256: str
    names: list[str]
    threshold: float
    plural: str
    warnings: list[str]
    summary: summaries.Summary
    gallery: list[GallerySection]
    gallery_note: str
    colour_key: ColourKey | None


def evaluate_predictions(config: ReportConfig, origin: Origin) -> Results:
    """Evaluate a table of predictions and, if given, the table of its images.

    Args:
        config: The arguments of `xenon-report`, with the paths of the tables.
        origin: Where the predictions come from.

    Raises:
        XenonError: A table is not one of predictions, only some of its rows have
            labels, or it was made with another threshold; or the two tables are not of
            the same studies, or tables and maps not of the same ensemble.
    """
    assert config.predictions is not None
    threshold = origin.threshold
    table = given_tables.read(config.predictions, threshold)
    given_tables.check_ensembles(config, origin)
    images = None
    if config.images is not None:
        images = given_tables.read_images(config.images, threshold, table)
    sections, note = gallery.build_gallery(config, table, threshold)
    if table.is_unlabelled:
        given_tables.check_flags_without_labels(config, table)
        summary = summaries.summarize_unlabelled(table, threshold)
    else:
        summary = summaries.summarize_labelled(table, images, origin, config.prevalence)
    return Results(
        source=str(config.predictions),
        sha256=files.sha256(config.predictions),
        names=table.names,
        threshold=threshold,
        plural=PLURAL[table.level],
        warnings=[*_unknown_types(table, origin.study_types), *summary.warnings],
        summary=summary,
        gallery=sections,
        gallery_note=note,
        colour_key=None if config.cam is None else gallery.colour_key(),
    )


def _unknown_types(table: PredictionTable, trained: set[str] | None) -> list[str]:
    """Return a warning if the table has study types that the nets were not trained on.

    Args:
        table: The table.
        trained: The study types that the nets were trained on; None if unknown.
    """
    unknown = set() if trained is None else set(table.study_types) - {*trained, ""}
    return [f"the run was not trained on {', '.join(sorted(unknown))}"] * bool(unknown)
