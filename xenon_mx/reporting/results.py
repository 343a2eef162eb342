"""Results: what a report shows of a table of predictions.

Owns what the page and the model card are given; must not know how tables are checked
(`given_tables`), what predictions show (`summaries`), or the page.
"""

from __future__ import annotations

from dataclasses import dataclass

from xenon_mx.config import ReportConfig
from xenon_mx.evaluation.prediction_tables import PLURAL, PredictionTable
from xenon_mx.reporting import (
    against,
    decision_section,
    disagreements,
    gallery,
    given_tables,
    reader_section,
    summaries,
)
from xenon_mx.reporting.against import Against
from xenon_mx.reporting.decision_section import DecisionSection
from xenon_mx.reporting.estimate_tables import MetricRow
from xenon_mx.reporting.gallery import ColourKey, GallerySection
from xenon_mx.reporting.origin import Origin
from xenon_mx.reporting.reader_section import ReaderSection
from xenon_mx.reporting.study_files import StudyFiles
from xenon_mx.runtime import files


@dataclass(frozen=True)
class Results:
    """What a report shows of a table of predictions.

    Attributes:
        source: The path of the table.
        sha256: The SHA-256 of the table's bytes.
        names: The study or the image of each of its rows.
        threshold: A sample is called abnormal if its probability is strictly above.
        plural: `studies` or `images`.
        warnings: What limits the use of the results.
        summary: What the predictions show.
        decision: What was decided about them; None if nothing was.
        gallery: The most confident errors, then correct predictions; without labels,
            the most confident predictions.
        gallery_note: What the gallery shows, and what is missing in it.
        colour_key: What the colours of its overlays mean; None without overlays.
        against: The differences to the table of --against; None without one.
        disagreements: The gallery of what the two tables predict differently.
        readers: Readers beside the predictions; None without --readers.
    """

    source: str
    sha256: str
    names: list[str]
    threshold: float
    plural: str
    warnings: list[str]
    summary: summaries.Summary
    decision: DecisionSection | None
    gallery: list[GallerySection]
    gallery_note: str
    colour_key: ColourKey | None
    against: Against | None
    disagreements: list[GallerySection]
    readers: ReaderSection | None

    @property
    def rows(self) -> list[MetricRow]:
        """Return all rows of --figures."""
        rows = [*self.summary.rows]
        if self.summary.sample_sizes is not None:
            rows += self.summary.sample_sizes.rows
        for section in (self.against, self.readers, self.decision):
            rows += section.rows if section is not None else []
        return rows


def evaluate_predictions(config: ReportConfig, origin: Origin) -> Results:
    """Evaluate a table of predictions and, if given, the table of its images.

    Args:
        config: The arguments of `xenon-report`, with the paths of the tables.
        origin: Where the predictions come from.

    Raises:
        XenonError: A table is not one of predictions, only some of its rows have
            labels, or it was made with another threshold; or the two tables are not of
            the same studies, or tables and maps not of the same ensemble; or the table
            of --against or the file of --readers cannot be used with it.
    """
    assert config.predictions is not None
    threshold = origin.threshold
    table = given_tables.read(config.predictions, threshold)
    given_tables.check_ensembles(config, origin)
    images = None
    if config.images is not None:
        images = given_tables.read_images(config.images, threshold, table)
    if table.is_unlabelled:
        given_tables.check_flags_without_labels(config, table)
    compared = None
    if config.against is not None:
        compared = against.compare_tables(config, table, origin)
    readers = None
    if config.readers is not None:
        readers = reader_section.compare_readers(config, table, threshold)
    if table.is_unlabelled:
        summary = summaries.summarize_unlabelled(table, threshold)
    else:
        points = readers.points if readers else []
        summary = summaries.summarize_labelled(
            table, images, origin, config.prevalence, points
        )
    outcomes = gallery.outcomes(table, threshold)
    differing = disagreements.outcomes(compared.pair) if compared else []
    study_files = gallery.find_files(config, table, [*outcomes, *differing])
    sections = gallery.build_sections(
        outcomes,
        table,
        study_files,
        config.gallery,
        lambda row: gallery.describe(table, row),
    )
    return Results(
        source=str(config.predictions),
        sha256=files.sha256(config.predictions),
        names=table.names,
        threshold=threshold,
        plural=PLURAL[table.level],
        warnings=[
            *_unknown_types(table, origin.study_types),
            *_left_out(origin),
            *summary.warnings,
            *(compared.warnings if compared else []),
        ],
        summary=summary,
        decision=decision_section.summarize(table, origin),
        gallery=sections,
        gallery_note=gallery.note(
            sections, study_files, config.gallery, PLURAL[table.level]
        ),
        colour_key=None if config.cam is None else gallery.colour_key(),
        against=compared,
        disagreements=_differing(config, table, compared, study_files),
        readers=readers,
    )


def _differing(
    config: ReportConfig,
    table: PredictionTable,
    compared: Against | None,
    study_files: StudyFiles,
) -> list[GallerySection]:
    """Return the gallery of what the two tables predict differently."""
    if compared is None:
        return []
    return gallery.build_sections(
        disagreements.outcomes(compared.pair),
        table,
        study_files,
        config.gallery,
        lambda row: disagreements.describe(compared.pair, row),
    )


def _left_out(origin: Origin) -> list[str]:
    """Return a warning if images were left out of the table."""
    found = origin.provenance
    warning = found.left_out.warning() if found else ""
    return [warning] * bool(warning)


def _unknown_types(table: PredictionTable, trained: set[str] | None) -> list[str]:
    """Return a warning if the table has study types that the nets were not trained on.

    Args:
        table: The table.
        trained: The study types that the nets were trained on; None if unknown.
    """
    unknown = set() if trained is None else set(table.study_types) - {*trained, ""}
    return [f"the run was not trained on {', '.join(sorted(unknown))}"] * bool(unknown)
