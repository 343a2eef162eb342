"""The precision that a training computes in, and what is said of it.

Owns the choice between float32 and a 16-bit type. Must not know how a net computes in
either.
"""

from __future__ import annotations

from typing import Any

from xenon_mx.config import TrainConfig
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.models import mixed_precision
from xenon_mx.runs import run_folder
from xenon_mx.runtime import gradient_sums, half_precision


def choose(
    config: TrainConfig, run: run_folder.Run | None, ctxs: list[Any]
) -> str | None:
    """Return the 16-bit type to train in; None for float32.

    Raises:
        ConfigError: Net or devices would gain nothing by --amp.
        XenonError: The run was trained in another type, on other devices, or this
            process has trained in float32.
    """
    if not config.amp:
        gradient_sums.choose(in_place=False)
        return None
    dtype = half_precision.dtype(ctxs)
    if not mixed_precision.can_gain(config.model, dtype):
        raise ConfigError(
            "--amp",
            f"{config.model} would gain nothing: oneDNN's grouped convolutions are no "
            f"faster in bfloat16; omit --amp, or train a DenseNet or ResNet",
        )
    if run and run.meta.amp != dtype:
        raise XenonError(
            f"{run.folder}: was trained in {run.meta.amp}, and --ctx would resume it "
            f"in {dtype}, with other results"
        )
    gradient_sums.choose(in_place=ctxs[0].device_type == "cpu")
    return dtype


def line(config: TrainConfig, run: run_folder.Run, ctxs: list[Any]) -> str | None:
    """Return what is said of mixed precision: what is used, or that it could be."""
    if run.meta.amp:
        return f"computing in {run.meta.amp}, with float32 weights"
    if run.epochs or not half_precision.can_gain(ctxs):
        return None
    dtype = half_precision.dtype(ctxs)
    if not mixed_precision.can_gain(config.model, dtype):
        return None
    return f"this device has {dtype}: --amp would train faster"
