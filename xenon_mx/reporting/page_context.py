"""What the templates of the page and of the model card are given.

Owns the names of these values; must not know how they are computed, or the templates'
language.
"""

from __future__ import annotations

from typing import Any

from xenon_mx import __version__
from xenon_mx.config import ReportConfig
from xenon_mx.evaluation.published import PAPER
from xenon_mx.reporting import hub_metadata, origin_box, page, training_history
from xenon_mx.reporting.origin import Origin
from xenon_mx.reporting.results import Results
from xenon_mx.reporting.torch_card import TorchCard
from xenon_mx.runtime.text import one_line


def build(
    config: ReportConfig,
    origin: Origin,
    predicted: Results | None,
    torch: TorchCard | None = None,
) -> dict[str, Any]:
    """Return all values that the templates show.

    Args:
        config: The arguments of `xenon-report`.
        origin: Where the predictions come from.
        predicted: What they show; None without predictions.
        torch: The files that the model card stands beside, if they are PyTorch's.
    """
    sources = [one_line(run.folder) for run in origin.runs]
    if predicted:
        sources.append(f"{one_line(predicted.source)} (SHA-256 {predicted.sha256})")
    histories = [training_history.summarize(run) for run in origin.runs]
    warnings = [origin.used_twice] if origin.used_twice else []
    warnings += predicted.warnings if predicted else []
    return {
        "version": __version__,
        "title": origin.title,
        "sources": " and ".join(sources),
        "run": one_line(origin.runs[0].folder) if origin.runs else "",
        "origin": origin_box.describe(origin, config),
        "histories": histories,
        "unfinished": [(h.name, h.unfinished) for h in histories if h.unfinished],
        "missing": origin.missing,
        "seen": str(origin.seen) if origin.seen and origin.seen.is_any else "",
        "warnings": warnings,
        "results": predicted,
        "study_types": sorted(origin.study_types or ()),
        # What the hub loads of PyTorch's files is one member, and the results are the
        # ensemble's: in the metadata, where nothing says so, they would be its.
        "hub_metrics": hub_metadata.hub_metrics(
            predicted.summary.rows if predicted and torch is None else []
        ),
        "has_prevalence": config.prevalence is not None,
        "paper": PAPER,
        "limits": page.LIMITS,
        "torch": torch,
    }
