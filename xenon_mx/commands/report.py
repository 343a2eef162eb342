"""xenon-report: from a run and its predictions to a page and a model card.

Owns which files are written; must not know the command line.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Callable, Sequence

from xenon_mx.commands import recognition
from xenon_mx.config import ReportConfig
from xenon_mx.data import outputs
from xenon_mx.data.output_records import BesideRecord, LastLineRecord, Record
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.reporting import origin as origins
from xenon_mx.reporting import page, page_context, results
from xenon_mx.reporting.estimate_tables import MetricRow
from xenon_mx.reporting.tables import Table, six_digits
from xenon_mx.runs.run_folder import Run
from xenon_mx.runtime import spreadsheet

_log = logging.getLogger(__name__)

# The columns of --figures, one for each field of `estimate_tables.MetricRow`.
_FIGURES_COLUMNS = (
    *("level", "study_type", "cases", "abnormal"),
    *("figure", "value", "low", "high"),
)
# Only if a row has them.
_FURTHER_COLUMNS = (
    *("subgroup", "patients"),
    *("of", "against", "reference", "p", "p_holm", "non_inferior"),
)


# Flags that need PREDICTIONS.
_OF_PREDICTIONS = (
    *("images", "figures", "prevalence", "against", "readers", "margin"),
    *("root", "link", "cam"),
)


def report(
    config: ReportConfig,
    show: Callable[[Table], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write the page and, if given in the configuration, the model card and the CSV.

    Args:
        config: The arguments of `xenon-report`.
        show: Shows a table of differences, with --against and --readers.
        say: Says a sentence about the tables of --against, before the differences.

    Returns:
        The files that were written.

    Raises:
        XenonError: The run or the predictions cannot be used, or belong to different
            runs, or an output cannot be written; nothing is written then.
    """
    given = (config.run, config.predictions)
    recognition.check_report([path for path in given if path is not None])
    recognition.check_compared(config.against, config.readers)
    config = origins.recognise(config)
    _check_flags(config)
    output_files = _check_outputs(config)
    origin = origins.find(config)
    predicted = (
        results.evaluate_predictions(config, origin) if config.predictions else None
    )
    names = predicted.names if predicted else []
    output_files.claim(
        outputs.made_from({"runs": origin.identities, "rows": names}),
        _inputs(config, origin.runs),
    )
    _log_warnings(origin, predicted)
    context = page_context.build(config, origin, predicted)
    for name, sentence in context["unfinished"]:
        _log.warning("%s: %s", name, sentence)
    pages = {config.out: page.render(page.PAGE, context)}
    if config.model_card is not None:
        pages[config.model_card] = page.render(page.MODEL_CARD, context)
    if config.figures is not None:
        pages[config.figures] = _csv(predicted.rows if predicted else [])
    # A path on a page may contain bytes that are not UTF-8.
    output_files.write(
        {path: text.encode(errors="backslashreplace") for path, text in pages.items()}
    )
    if predicted is not None and predicted.against is not None and say is not None:
        for sentence in predicted.against.sources:
            say(sentence)
    if predicted is not None and show is not None:
        for table in _differences(predicted):
            show(table)
    return list(pages)


def _log_warnings(origin: origins.Origin, predicted: results.Results | None) -> None:
    """Log why the numbers may be too good."""
    warnings = [str(origin.seen)] if origin.seen and origin.seen.is_any else []
    warnings += [origin.used_twice] if origin.used_twice else []
    if predicted and predicted.against:
        warnings += predicted.against.warnings
    for line in warnings:
        _log.warning("%s", line)


def _differences(predicted: results.Results) -> list[Table]:
    """Return the tables of differences that a terminal shows."""
    tables = [predicted.against.overall] if predicted.against else []
    return [*tables, *(predicted.readers.label if predicted.readers else [])]


def _inputs(config: ReportConfig, runs: Sequence[Run]) -> list[Path]:
    """Return every file that is read."""
    given = (config.predictions, config.images, config.against)
    tables = [path for path in given if path is not None]
    records = [file for table in tables for file in BesideRecord().files(table)]
    maps = list(config.cam.rglob("*")) if config.cam is not None else []
    others = [path for path in (config.link, config.readers) if path is not None]
    return [*(f for run in runs for f in run.contents()), *records, *others, *maps]


def _csv(rows: Sequence[MetricRow]) -> str:
    """Return the table of all estimates; undefined values are empty cells."""
    further = [name for name in _FURTHER_COLUMNS if any(getattr(r, name) for r in rows)]
    table: list[Sequence[object]] = [[*_FIGURES_COLUMNS, *further]]
    for row in rows:
        numbers = map(six_digits, (row.value, row.low, row.high))
        table.append([*row[:5], *numbers, *(getattr(row, name) for name in further)])
    return spreadsheet.to_csv(table)


def _check_flags(config: ReportConfig) -> None:
    """Raise an error for flags that would have no effect, and for missing folders."""
    for name in _OF_PREDICTIONS:
        if config.predictions is None and getattr(config, name) is not None:
            raise ConfigError(f"--{name}", "has no effect without PREDICTIONS")
    if config.margin is not None and not (config.against or config.readers):
        raise ConfigError("--margin", "has no effect without --against or --readers")
    for folder in (config.root, config.cam):
        if folder is not None and not folder.is_dir():
            raise XenonError(f"{folder}: no such folder")
    if config.cam is not None and not config.gallery:
        raise ConfigError("--cam", "has no effect with --gallery 0")


def _check_outputs(config: ReportConfig) -> outputs.Outputs:
    """Check that the outputs can be written."""
    last_line, beside = LastLineRecord(), BesideRecord()
    candidates: list[tuple[Path | None, str, tuple[str, ...], Record]] = [
        (config.out, "--out", (".html", ".htm"), last_line),
        (config.model_card, "--model-card", (".md",), last_line),
        (config.figures, "--figures", (".csv",), beside),
    ]
    named = [
        outputs.Output(path, flag, suffixes, record)
        for path, flag, suffixes, record in candidates
        if path is not None
    ]
    return outputs.Outputs("xenon-report", named, config.overwrite)
