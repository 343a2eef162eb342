"""Predicting: the mean of five DenseNet169, from image files to a CSV.

The time of every contender starts at its first image, when its nets are loaded and
compiled, and ends when its CSV is written.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np

from benchmarks import layout, torch_net
from benchmarks.arithmetic import GFLOP, sgemm_gflops
from benchmarks.layout import BATCH, MEMBERS, SIZE, THREADS
from benchmarks.timing import Result, rate, timed

# --- xenon


def xenon_mxnet(folder: Path, source: str = "files", **settings: Any) -> Result:
    """Time xenon-predict from its first image to the written CSV."""
    from xenon_mx.commands import predict
    from xenon_mx.config import PredictConfig
    from xenon_mx.inference import inputs

    count = len(layout.asked(folder, source))
    path = folder / ("asked.csv" if source == "files" else "asked/valid.rec")
    out, runs = folder / "out.csv", (folder / "run",)
    config = PredictConfig(
        (path,), out, runs, ctx="cpu()", root=folder, overwrite=True, **settings
    )
    unmeasured = inputs.InputImages.batches
    starts = []

    def batches(*args: Any) -> Iterator[np.ndarray]:
        starts.append(time.perf_counter())
        yield from unmeasured(*args)

    inputs.InputImages.batches = batches  # type: ignore[assignment,method-assign]
    predictions = predict.predict(config)
    seconds = time.perf_counter() - starts[0]
    prob = predictions.members.mean(axis=1).tolist()
    return {"images": count, "seconds": seconds, "outputs": prob}


def xenon_onnxruntime(folder: Path, source: str = "files") -> Result:
    """Time the same with --runtime onnxruntime."""
    return xenon_mxnet(folder, source, runtime="onnxruntime")


def xenon_openvino(folder: Path, source: str = "files") -> Result:
    """Time the same with --runtime openvino."""
    return xenon_mxnet(folder, source, runtime="openvino")


def xenon_openvino_bf16(folder: Path, source: str = "files") -> Result:
    """Time the same with --runtime openvino --precision bf16."""
    return xenon_mxnet(folder, source, runtime="openvino", precision="bf16")


# --- bare scripts of the peers


def bare(folder: Path, source: str, run: Callable[[np.ndarray], np.ndarray]) -> Result:
    """Decode on two threads, run batches through five nets, and write a CSV.

    Args:
        folder: The folder that tools/bench prepared.
        source: `files` or `packed`.
        run: Computes (N, 5) logits of (N, 3, S, S) float32 pixels.
    """
    from xenon_mx.runtime import threads

    listed = layout.asked(folder, source)

    def work() -> list[float]:
        pixels = threads.map_in_order(_decoder(), listed, THREADS)
        logits = np.concatenate([run(batch) for batch in _batches(pixels)])
        prob = (1 / (1 + np.exp(-logits.astype(np.float64)))).mean(axis=1).tolist()
        lines = (f"{path},{p:.9g}\n" for path, p in zip(listed, prob))
        (folder / "bare.csv").write_text("".join(lines))
        return prob

    return timed(len(listed), work)


def _decoder() -> Callable[[Path], np.ndarray]:
    """Return the function from a file to normalised pixels, (3, S, S) float32."""
    from xenon_mx.config import MEAN, STD
    from xenon_mx.data import images

    mean, std = (
        255 * np.array(values, np.float32).reshape(3, 1, 1) for values in (MEAN, STD)
    )

    def decode(path: Path) -> np.ndarray:
        gray = images.decode(images.read(path))
        square = images.fit_square(gray, SIZE, "stretch")
        return (square[None].astype(np.float32) - mean) / std

    return decode


def _batches(pixels: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield stacks of up to a batch of images."""
    batch = []
    for image in pixels:
        batch.append(image)
        if len(batch) == BATCH:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def torch(folder: Path, source: str = "files", bf16: bool = False) -> Result:
    """Predict with PyTorch in channels_last, the faster of its two memory formats."""
    import torch

    form = torch.channels_last
    nets = [
        torch_net.build(folder, number).to(memory_format=form)
        for number in range(1, MEMBERS + 1)
    ]

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, bf16):
            batch = torch.from_numpy(pixels).to(memory_format=form)
            return np.concatenate([net(batch).float().numpy() for net in nets], axis=1)

    return bare(folder, source, run)


def torch_bf16(folder: Path, source: str = "files") -> Result:
    """Predict with PyTorch's autocast to bfloat16."""
    return torch(folder, source, bf16=True)


def onnxruntime(folder: Path, source: str = "files") -> Result:
    """Predict with ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    sessions = [
        onnxruntime.InferenceSession(str(path), options)
        for path in layout.onnx_files(folder)
    ]
    name = sessions[0].get_inputs()[0].name

    def run(pixels: np.ndarray) -> np.ndarray:
        outputs = [session.run(None, {name: pixels})[0] for session in sessions]
        return np.concatenate(outputs, axis=1)

    return bare(folder, source, run)


def openvino(folder: Path, source: str = "files", precision: str = "f32") -> Result:
    """Predict with OpenVINO in float32; its default would be bfloat16."""
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": THREADS,
        "INFERENCE_PRECISION_HINT": precision,
    }
    core = openvino.Core()
    nets = [
        core.compile_model(str(path), "CPU", settings)
        for path in layout.onnx_files(folder)
    ]

    def run(pixels: np.ndarray) -> np.ndarray:
        return np.concatenate([net([pixels])[0] for net in nets], axis=1)

    return bare(folder, source, run)


def openvino_bf16(folder: Path, source: str = "files") -> Result:
    """Predict with OpenVINO in bfloat16."""
    return openvino(folder, source, "bf16")


def limit(folder: Path, source: str = "files") -> Result:
    """Return the rate at which a matrix product does five forward passes."""
    return rate(sgemm_gflops() / (MEMBERS * GFLOP))
