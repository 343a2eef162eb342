"""What the Hugging Face hub reads of a model card: the YAML before its first heading.

Owns which estimates are in its model index, and what the hub calls them; must not know
where the text is written.
"""

from __future__ import annotations

import json
import math
import re
from typing import NamedTuple, Sequence

from xenon_mx.evaluation.evaluation_set import OVERALL
from xenon_mx.reporting.estimate_tables import MetricRow

# The hub's names: of the modules of its library `evaluate`, where it has one.
_TYPES = {
    "kappa": "cohen_kappa",
    "AUROC": "roc_auc",
    "sensitivity": "recall",
    "specificity": "specificity",
    "accuracy": "accuracy",
    "F1": "f1",
    "Brier score": "brier_score",
    "calibration error": "expected_calibration_error",
    "PPV": "precision",
    "NPV": "negative_predictive_value",
    "average precision": "average_precision",
}


class HubMetric(NamedTuple):
    """A metric of the model index; its interval is a YAML list, or empty."""

    type: str
    name: str
    value: str
    interval: str


def hub_metrics(rows: Sequence[MetricRow]) -> list[HubMetric]:
    """Return the defined metrics over all samples of the table that was given.

    Args:
        rows: Of the samples first, of single images after them.
    """
    return [
        HubMetric(
            _TYPES[row.metric],
            row.metric,
            f"{row.value:.6g}",
            f"[{row.low:.6g}, {row.high:.6g}]" if math.isfinite(row.low) else "",
        )
        for row in rows
        if (row.level, row.study_type, row.subgroup) == (rows[0].level, OVERALL, "")
        and row.metric in _TYPES
        and math.isfinite(row.value)
    ]


def quote(text: str) -> str:
    """Return text in YAML's double quotes, without a meaning in Markdown.

    JSON's strings are YAML's, and a program that does not know the hub's metadata reads
    them as Markdown.
    """
    quoted = json.dumps(text, allow_nan=False)
    return re.sub(r"[`*\[\]<>&|!]", lambda sign: f"\\u{ord(sign.group()):04x}", quoted)
