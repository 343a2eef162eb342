"""xenon-report: from a run and its predictions to a page, and to a model card.

Puts `checkpoints`, `histories` and `findings` together and fills the templates in.
Knows no command line.
"""

from __future__ import annotations

import base64
import csv
import io
import math
import re
from pathlib import Path
from typing import Any, Sequence

from xenon_mx import __version__
from xenon_mx.config import ReportConfig
from xenon_mx.data import outputs
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.evaluation.scores import PAPER
from xenon_mx.report import results, training_history
from xenon_mx.runs.run_folder import Run
from xenon_mx.runtime import text as words

try:
    import jinja2
    import markupsafe  # comes with it
except ModuleNotFoundError as error:
    raise XenonError(
        "Jinja2 is not installed: pip install 'xenon-mx[report]'"
    ) from error

_TEMPLATES = Path(__file__).parent.parent / "report" / "templates"
_ODD = "backslashreplace"

_LIMITS = (
    "Not for medical use: no model of xenon has been tested for any clinical purpose.",
    "A prediction says normal or abnormal of a whole study. It does not say what is "
    "abnormal, and an activation map shows what the net looked at, not a finding.",
    "The figures hold for studies like those that they were measured on: other "
    "hospitals, devices, ages and body parts may give others.",
    "Where the data are MURA's: its labels are radiologists' reports. On a second "
    "reading they were mostly right, but missed about 40% of degenerative joint "
    "disease (Oakden-Rayner 2019).",
    "About half of MURA's abnormal studies show hardware, plaster or marks: a net may "
    "learn these in place of the disease.",
)


def report(config: ReportConfig) -> list[Path]:
    """Write the page and, if asked for, the model card.

    Args:
        config: What `xenon-report` was told.

    Returns:
        The files that were written.

    Raises:
        XenonError: The run or the predictions cannot be used, or an output cannot be
            written; nothing is written then.
    """
    _check_flags(config)
    written = _check_outputs(config)
    run = Run.open(config.run)
    found = results.evaluate_predictions(config, run) if config.predictions else None
    rows = found.names if found else []
    written.claim(
        outputs.made_from({"runs": [run.identity], "rows": rows}),
        _inputs(config, run),
    )
    facts = _facts(run, found)
    templates = {config.out: "report.html"}
    if config.model_card is not None:
        templates[config.model_card] = "model_card.md"
    pages = {path: _render(name, facts) for path, name in templates.items()}
    if config.figures is not None:
        pages[config.figures] = _csv(found.rows if found else [])
    # A path that is named in a page may hold bytes that are no UTF-8.
    written.write({p: page.encode(errors=_ODD) for p, page in pages.items()})
    return list(pages)


def _inputs(config: ReportConfig, run: Run) -> list[Path]:
    """Return every file that is read."""
    tables = [path for path in (config.predictions, config.images) if path is not None]
    maps = list(config.cam.rglob("*")) if config.cam is not None else []
    return [*run.contents(), *tables, *maps]


def _csv(rows: Sequence[results.MetricRow]) -> str:
    """Write figures for programs; what is undefined is empty."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(results.MetricRow._fields)
    for row in rows:
        *of, value, low, high = row
        table.writerow([*of, *(_digits(x) for x in (value, low, high))])
    return out.getvalue()


def _digits(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""


def _check_flags(config: ReportConfig) -> None:
    """Refuse flags that would be left unread."""
    for name in ("images", "figures", "root", "cam"):
        if config.predictions is None and getattr(config, name) is not None:
            raise ConfigError(f"--{name}", "says nothing without PREDICTIONS")
    for folder in (config.root, config.cam):
        if folder is not None and not folder.is_dir():
            raise XenonError(f"{folder}: no such folder")
    if config.cam is not None and not config.gallery:
        raise ConfigError("--cam", "says nothing with --gallery 0")


def _check_outputs(config: ReportConfig) -> outputs.Outputs:
    """Refuse outputs that cannot be written."""
    line, beside = outputs.LastLineRecord(), outputs.BesideRecord()
    wanted: list[tuple[Path | None, str, tuple[str, ...], outputs.Record]] = [
        (config.out, "--out", (".html", ".htm"), line),
        (config.model_card, "--model-card", (".md",), line),
        (config.figures, "--figures", (".csv",), beside),
    ]
    named = [
        outputs.Output(path, flag, suffixes, record)
        for path, flag, suffixes, record in wanted
        if path is not None
    ]
    return outputs.Outputs("xenon-report", named, config.overwrite)


def _facts(run: Run, found: results.Results | None) -> dict[str, Any]:
    """All that the templates show."""
    return {
        "version": __version__,
        "title": f"{run.meta.model}: {words.one_line(run.folder.resolve().name)}",
        "run": words.one_line(run.folder),
        "history": training_history.summarize(run),
        "warnings": found.warnings if found else [],
        "results": found,
        "paper": PAPER,
        "limits": _LIMITS,
    }


def _render(template: str, facts: dict[str, Any]) -> str:
    """Fill a template in; whatever comes from outside is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=template.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["svg"] = lambda data: _uri("image/svg+xml", data)
    environment.filters["jpeg"] = lambda data: _uri("image/jpeg", data)
    environment.filters["text"] = _text
    environment.filters["path"] = _path
    environment.filters["sentence"] = lambda text: f"{text[:1].upper()}{text[1:]}."
    return environment.get_template(template).render(facts)


def _path(text: str) -> markupsafe.Markup:
    """A path that may be broken behind every slash."""
    return markupsafe.Markup("/<wbr>").join(text.split("/"))


def _text(text: str) -> str:
    """Words without a meaning in Markdown, HTML in it, or a table's row."""
    return re.sub(r"([\\`*\[\]<>&|])", r"\\\1", " ".join(text.split()))


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
