"""Predictions to test, and the tables that they write."""

from __future__ import annotations

import csv

from xenon_mx.commands import predict
from xenon_mx.config import PredictConfig


def predict_tables(folder, inputs, runs, **options):
    """Predict; return the rows of OUT.csv, those of --images, and the Predictions."""
    config = PredictConfig(
        tuple(inputs),
        folder / "out.csv",
        tuple(runs),
        images=folder / "images.csv",
        **{"ctx": "cpu()", "overwrite": True, **options},
    )
    result = predict.predict(config)
    return read(folder / "out.csv"), read(folder / "images.csv"), result


def read(path):
    """Read a CSV, one dict per row."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
