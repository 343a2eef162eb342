"""What an export says of itself: what was trained on what, and how it is used.

Owns the properties that an ONNX file and a folder for PyTorch share. Must not know
files, or engines.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from xenon_mx import __version__
from xenon_mx.data import images
from xenon_mx.evaluation.decision import Decision
from xenon_mx.inference import decisions, onnx_metadata
from xenon_mx.inference.run_ensemble import RunEnsemble
from xenon_mx.runtime import mxnet
from xenon_mx.runtime.opencv import cv2


def build(ensemble: RunEnsemble, decision: Decision | None) -> dict[str, Any]:
    """Return the properties: JSON values by key."""
    meta = ensemble.meta.to_json()
    keys = ("data", "study_types", "weights", "architecture")
    splits = ("trained_on", "validated_on")  # absent in runs of xenon 0.1.0
    pretrained_on = ensemble.training_data().pretrained_on
    # Of this xenon, which has compared the export with the nets.
    preprocessing = replace(ensemble.meta.preprocessing, pixels=images.PIXELS)
    return {
        "format": onnx_metadata.FORMAT,
        "notice": "Not for medical use.",
        "threshold": decisions.threshold_of(decision, given=None),
        **{key: meta[key] for key in keys},
        "preprocessing": preprocessing.to_json(),
        **{key: meta[key] for key in splits if key in meta},
        **({onnx_metadata.PRETRAINED_ON: pretrained_on} if pretrained_on else {}),
        **({onnx_metadata.FOLDS: ensemble.folds} if ensemble.folds else {}),
        "members": ensemble.describe_members(),
        **_decision_property(decision),
        "versions": {
            "xenon": __version__,
            "mxnet": mxnet.mx.__version__,
            "opencv": cv2.__version__,
        },
    }


def _decision_property(decision: Decision | None) -> dict[str, Any]:
    """Return the property of a decision, which holds no hash of a name."""
    if decision is None:
        return {}
    return {onnx_metadata.DECISION: replace(decision, names=None).to_json()}
