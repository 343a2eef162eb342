"""xenon-predict: tables of predictions, to files or standard output.

Owns its arguments, its help and what it prints. Must not know how it does its work.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from xenon_mx import console, options
from xenon_mx.config import PredictConfig
from xenon_mx.runtime import memory, progress, streams, text

# What the engines of xenon-predict need to be imported.
_REQUIREMENTS = {
    "mxnet": memory.MXNET,
    "onnxruntime": memory.ONNX,
    "openvino": memory.OPENVINO,
}


@options.command("predict", short_help="Predict whether each study is abnormal.")
@options.several("inputs", "INPUT...", before="OUT.csv")
@click.argument("out", metavar="OUT.csv", type=options.PATH)
@click.option(
    "--run",
    "runs",
    required=True,
    multiple=True,
    type=options.PATH,
    help="A run of xenon-train; give it several times for an ensemble of their best "
    "epochs. Or an ONNX file of xenon-export, which needs no MXNet.",
)
@options.from_config(PredictConfig)
@options.VERSION
def predict_command(**flags: Any) -> None:
    """Predict whether each study of INPUT is abnormal, and write one row per study.

    INPUT is a CSV of image paths in the format of the MURA competition, a manifest (a
    CSV with a header), a folder, image files, or a .rec file of a packed folder.
    OUT.csv may be - for standard output.

    Not for medical use.
    """
    if flags["out"] != Path("-"):
        config = PredictConfig(**flags)
        _predict(config)
        for path in filter(None, (config.out, config.images, config.cam)):
            console.print_line(f"written: {path}")
        # What follows a table in a run is said by xenon-train, which wrote it.
        from xenon_mx.runs.run_meta import RUN_JSON

        if not config.submission and not (config.out.parent / RUN_JSON).is_file():
            console.print_line(f"next: xenon-report {text.shell_quote(config.out)}")
        return
    streams.check_stdout()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "out.csv"
        _predict(PredictConfig(**{**flags, "out": table}))
        click.echo(table.read_bytes(), nl=False)


def _predict(config: PredictConfig) -> None:
    """Write the tables of a prediction, and print losses and metrics."""
    is_file = all(run.is_file() for run in config.runs)  # an ONNX file
    memory.check(
        _REQUIREMENTS[config.runtime or ("onnxruntime" if is_file else "mxnet")]
    )
    from xenon_mx.commands import predict

    predictions = predict.predict(config, progress.for_stream(sys.stderr))
    for number, (params, loss) in enumerate(predictions.losses.items(), 1):
        console.print_line(f"member_{number} {params}: loss {loss:.6f}")
    console.print_metrics(predictions.metrics)
    console.print_predictions(predictions)
