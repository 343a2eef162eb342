"""Settings of the small runs that tests train."""

from __future__ import annotations

from xenon_mx.config import TrainConfig

NET = "mobilenet0.25"  # the smallest of the zoo


def train_config(packed, run, **options):
    """Return the settings of a run: the smallest net, from random weights."""
    defaults = {"model": NET, "no_pretrained": True, "ctx": "cpu()"}
    return TrainConfig(packed.folder, run, **{**defaults, **options})
