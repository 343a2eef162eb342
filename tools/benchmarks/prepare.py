"""What is prepared before any contender is timed: packed data, a run, ONNX files."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import layout, torch_net
from benchmarks.layout import BATCH, MEMBERS, NET, SIZE
from benchmarks.timing import Result, rate


def data(folder: Path) -> Result:
    """Pack the data, and create a run of five members with random weights."""
    packed = _prepare_data(folder)
    _prepare_run(folder, packed)
    return rate(1)


def _prepare_data(folder: Path) -> Any:
    """Pack the data whole and in part, and list the images to predict."""
    from xenon_mx.commands import pack
    from xenon_mx.config import PackConfig

    sizes = {work: layout.size(folder, work) for work in ("train", "predict")}
    packed = pack.pack(
        PackConfig(folder / "MURA-v1.1", folder / "packed", overwrite=True)
    )
    (folder / "squares").mkdir(exist_ok=True)
    for record in packed.split("train").images():
        square = folder / "squares" / f"{record.number:05d}.jpg"
        square.write_bytes(record.image)
    for name, split, number in (
        ("few", "train", sizes["train"]),
        ("asked", "valid", sizes["predict"]),
    ):
        counts = {"train": BATCH, "valid": BATCH, split: number}
        _cut(packed, folder / name, counts)
    listed = layout.files(folder)
    listed = listed[:: len(listed) // sizes["predict"]]
    lines = [f"{f.relative_to(folder)}\n" for f in listed[: sizes["predict"]]]
    (folder / "asked.csv").write_text("".join(lines))
    return packed


def _prepare_run(folder: Path, packed: Any) -> None:
    """Create a run whose members have random weights."""
    import safetensors.numpy

    from xenon_mx.commands import train_inputs, train_record
    from xenon_mx.config import TrainConfig
    from xenon_mx.models import network
    from xenon_mx.runs.epoch_log import EpochRecord
    from xenon_mx.runs.run_folder import Run
    from xenon_mx.runs.training_state import TrainingState

    config = TrainConfig(folder / "packed", folder / "run", no_pretrained=True)
    data = train_inputs.open_data(config, packed)
    meta = train_record.describe(config, data, None)
    shutil.rmtree(folder / "run", ignore_errors=True)
    run = Run.create(folder / "run", meta)
    ranked = []
    for number in range(1, MEMBERS + 1):
        file = layout.weights(folder, number)
        safetensors.numpy.save_file(_draw_weights(number), str(file))
        state = network.state_dict(network.build(NET, file))
        ranked.append((float(number), number))
        epoch = EpochRecord(number, 1, number, 0, 0, 1e-4, 1, 0, 1)
        run.save(epoch, TrainingState(number, state, {}, 1, {}, False), ranked)
    run.close()


def _draw_weights(number: int) -> dict[str, np.ndarray]:
    """Draw a member's weights, under torchvision's names."""
    import goldens

    from xenon_mx.models import network, weight_namings

    net, zoo = network.build_uninitialized(NET)
    keys = weight_namings.known_namings(NET, net, zoo)[-1]
    shapes = weight_namings.weight_shapes(net, 1)
    return {
        name: goldens.draw(f"{number}.{name}", shapes[key])
        for key, name in keys.items()
    }


def _cut(packed: Any, out: Path, counts: dict[str, int]) -> None:
    """Pack the first training images of a packed folder anew, as other splits."""
    from xenon_mx.data import pack_writer

    whole = packed.split("train")
    with pack_writer.PackTransaction(out, overwrite=True) as transaction:
        splits = {}
        for name, count in counts.items():
            with pack_writer.SplitWriter(transaction.folder, name) as writer:
                for row, record in zip(whole.rows()[:count], whole.images()):
                    writer.add(record.image, row)
                counts_by_type = packed.meta.splits["train"].counts
                splits[name] = writer.summary(counts_by_type)
        transaction.commit(dataclasses.replace(packed.meta, splits=splits))


def onnx(folder: Path) -> Result:
    """Export the members with PyTorch for the peers, unless it is done."""
    import torch

    for number, path in enumerate(layout.onnx_files(folder), 1):
        if not path.exists():
            torch.onnx.export(
                torch_net.build(folder, number),
                (torch.zeros(BATCH, 3, SIZE, SIZE),),
                str(path),
                dynamo=True,
                dynamic_shapes=[{0: torch.export.Dim("n")}],
            )
    return rate(1)


def cache(folder: Path) -> Result:
    """Predict one image without MXNet, which first exports the run with MXNet."""
    from xenon_mx.commands import predict
    from xenon_mx.config import PredictConfig

    image, *_ = layout.asked(folder, "files")
    out, runs = folder / "out.csv", (folder / "run",)
    settings: dict[str, Any] = {
        "runtime": "onnxruntime",
        "root": folder,
        "overwrite": True,
    }
    predict.predict(PredictConfig((image,), out, runs, **settings))
    return rate(1)
