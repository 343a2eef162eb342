"""Plots drawn once: drawing takes most of the time of a report."""

from __future__ import annotations

import pickle

from xenon_mx.reporting import plots

_DRAWN: dict = {}


def patch(monkeypatch):
    """Make functions that draw return what they drew before from the same values."""
    for name in dir(plots):
        if name.startswith("draw_"):
            monkeypatch.setattr(plots, name, _drawn_once(getattr(plots, name)))


def forget():
    """Forget what was drawn."""
    _DRAWN.clear()


def _drawn_once(draw):
    def drawn(*args, **options):
        key = draw.__name__, pickle.dumps((args, options))
        if key not in _DRAWN:
            _DRAWN[key] = draw(*args, **options)
        return _DRAWN[key]

    return drawn
