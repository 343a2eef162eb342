"""The benchmarks of tools/bench: the same work by xenon and by its peers.

    python tools/contenders.py CONTENDER FOLDER RESULT.json

Each contender runs in a process of its own, and measures itself after imports and
loading of weights: RESULT.json holds the number of images, the seconds, and the peak
memory in MB. (tools/bench times packing as a whole process.) FOLDER is what tools/bench
prepared. xenon's contenders run in the checkout's environment, the others in one of
their own without MXNet.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import resource
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy as np

THREADS = 2
BATCH = 8
SIZE = 320
NET = "densenet169"
MEMBERS = 5
GFLOP = 13.7  # of one image's forward pass: xenon-train --list-models

Result = dict


def files(folder: Path) -> list[Path]:
    """List the radiographs, about 512 px each."""
    return sorted(folder.rglob("MURA-v1.1/**/*.png"))


def squares(folder: Path) -> list[Path]:
    """List the same images as 320x320 JPEG files, as in the packed folder."""
    return sorted((folder / "squares").iterdir())


def timed(images: int, work: Callable[[], Any]) -> Result:
    """Run the work, and return its time and outputs."""
    start = time.perf_counter()
    outputs = work()
    seconds = time.perf_counter() - start
    return {"images": images, "seconds": seconds, "outputs": outputs}


# --- pack: PNG files to 320x320 gray JPEG of quality 95 in one file


def pack_xenon(folder: Path) -> Result:
    """Run xenon-pack, from listing the files to the finished packed folder."""
    from xenon_mx.commands import pack
    from xenon_mx.config import PackConfig

    source, out = folder / "MURA-v1.1", folder / "packed-again"
    config = PackConfig(source, out, threads=THREADS, overwrite=True)
    return timed(len(files(folder)), lambda: pack.pack(config) and None)


def pack_im2rec(folder: Path) -> Result:
    """Run MXNet's im2rec.py, which crops to a square instead of scaling."""
    import runpy

    from xenon_mx.runtime.mxnet import mx

    listed = files(folder)
    lines = [f"{i}\t0\t{f.relative_to(folder)}\n" for i, f in enumerate(listed)]
    (folder / "im2rec.lst").write_text("".join(lines))
    script = Path(mx.__file__).parent / "tools" / "im2rec.py"
    options = f"--resize {SIZE} --center-crop --quality 95 --color 0 --num-thread"
    sys.argv = [str(script), str(folder / "im2rec.lst"), str(folder)]
    sys.argv += [*options.split(), str(THREADS)]

    def work() -> None:
        runpy.run_path(str(script), run_name="__main__")

    return timed(len(listed), work)


def _to_jpeg(file: Path) -> bytes:
    import cv2

    gray = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    square = cv2.resize(gray, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", square, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])


def pack_opencv(folder: Path) -> Result:
    """Run a process pool with OpenCV that writes all results to one file."""
    listed = files(folder)

    def work() -> None:
        with multiprocessing.Pool(THREADS) as pool, open(folder / "all", "wb") as out:
            for data in pool.imap(_to_jpeg, listed, chunksize=8):
                out.write(data)

    return timed(len(listed), work)


def pack_limit(folder: Path) -> Result:
    """Only decode the radiographs, on two threads."""
    from xenon_mx.data import images

    contents = [file.read_bytes() for file in files(folder)]
    return timed(len(contents), lambda: _decode_all(images.decode, contents))


def _decode_all(decode: Callable[[bytes], Any], contents: list[bytes]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(decode, contents):
            pass


# --- load: the input of a training epoch, ready for the net


def load_xenon(folder: Path, threads: int = 1) -> Result:
    """Read ImageRecordIter through xenon's pipeline; one thread, as in xenon-train."""
    from xenon_mx.data import packed_folder, record_iter
    from xenon_mx.models import network
    from xenon_mx.runtime.mxnet import mx

    split = packed_folder.open_packed(folder / "packed").split("train")
    batches = record_iter.training_batches(split, BATCH, 0, 1, threads)
    count = record_iter.steps_per_epoch(split, BATCH, threads=threads) - 1
    next(batches)  # the start of threads is nobody's

    def work() -> None:
        for batch in batches:
            pixels = mx.nd.array(batch.pixels, dtype="uint8")
            network.normalise(pixels).wait_to_read()

    return timed(count * BATCH, work)


def load_xenon2(folder: Path) -> Result:
    """Read the same with --threads 2."""
    return load_xenon(folder, 2)


def load_torch(folder: Path) -> Result:
    """Read a DataLoader with two workers and Pillow, as torchvision's transforms do."""
    batches, count = iter(torch_batches(squares(folder), workers=THREADS)), 0
    next(batches)

    def work() -> None:
        nonlocal count
        for pixels, _ in batches:
            count += len(pixels)

    return {**timed(0, work), "images": count}


def load_limit(folder: Path) -> Result:
    """Only decode the 320x320 images, on two threads."""
    from xenon_mx.data import images

    contents = [file.read_bytes() for file in squares(folder)]
    return timed(len(contents), lambda: _decode_all(images.decode, contents))


def torch_batches(listed: list[Path], workers: int) -> Any:
    """Return a DataLoader of flipped and rotated images.

    Batches are (N, 3, S, S) float32 pixels and (N, 1) float32 labels.
    """
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset

    torch.set_num_threads(THREADS)
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)

    class Radiographs(Dataset):
        def __len__(self) -> int:
            return len(listed)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            image = Image.open(listed[index]).convert("RGB")
            if torch.rand(1) < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            angle = float(torch.empty(1).uniform_(-30, 30))
            image = image.rotate(angle, Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
            label = torch.tensor([float(index % 2)])
            return (pixels.float().div(255) - mean) / std, label

    return DataLoader(
        Radiographs(), BATCH, shuffle=True, num_workers=workers, drop_last=True
    )


# --- train: DenseNet169, 320 px, batch 8, Adam


def train_xenon(folder: Path) -> Result:
    """Return the rate of the second epoch of xenon-train, from log.csv."""
    import csv

    from xenon_mx.commands import train
    from xenon_mx.config import TrainConfig

    run = folder / "trained"
    shutil.rmtree(run, ignore_errors=True)
    config = TrainConfig(
        folder / "few",
        run,
        pretrained=str(folder / "member-1.safetensors"),
        epochs=2,
        ctx="cpu()",
    )
    train.train(config)
    with open(run / "log.csv", newline="") as log:
        *_, last = csv.DictReader(log)
    # The log holds a rate: that many images in one second.
    return {"images": float(last["images_per_s"]), "seconds": 1.0, "outputs": None}


def train_torch(folder: Path, channels_last: bool = False) -> Result:
    """Time the second epoch of the same in PyTorch, also after a validation."""
    import torch

    listed = squares(folder)[: train_count(folder)]
    net, layout = torch_net(folder, 1), torch.contiguous_format
    if channels_last:
        layout = torch.channels_last
    net.train().to(memory_format=layout)
    adam = torch.optim.Adam(net.parameters(), 1e-4)
    # With a worker process beside its two threads, PyTorch trained at half the speed.
    batches = torch_batches(listed, workers=0)
    criterion = torch.nn.functional.binary_cross_entropy_with_logits

    def epoch() -> None:
        for pixels, labels in batches:
            adam.zero_grad()
            loss = criterion(net(pixels.to(memory_format=layout)), labels)
            loss.backward()
            adam.step()
            loss.item()

    epoch()
    net.eval()
    with torch.inference_mode():
        for pixels, _ in batches:
            net(pixels.to(memory_format=layout))
            break
    net.train()
    return timed(len(listed) // BATCH * BATCH, epoch)


def train_channels_last(folder: Path) -> Result:
    """Time the same in the memory format channels_last."""
    return train_torch(folder, channels_last=True)


def train_count(folder: Path) -> int:
    """Return the number of images to train on."""
    return int(json.loads((folder / "sizes.json").read_text())["train"])


def train_limit(folder: Path) -> Result:
    """Return the rate at which a matrix product does three forward passes."""
    return limit(3 * GFLOP)


def limit(gflop: float) -> Result:
    """Return images per second at the rate of a large float32 matrix product."""
    matrix = np.random.RandomState(0).rand(3000, 3000).astype(np.float32)
    seconds = min(timed(1, lambda: matrix @ matrix)["seconds"] for _ in range(8))
    rate = 2 * 3000**3 / 1e9 / seconds
    return {"images": rate / gflop, "seconds": 1.0, "outputs": None}


# --- predict: the mean of five DenseNet169, from files to probabilities


def predict_xenon(folder: Path, source: str = "files") -> Result:
    """Time xenon-predict from the first image to the last."""
    from xenon_mx.commands import predict
    from xenon_mx.config import PredictConfig

    count = len(prediction_images(folder, source))
    inputs = folder / "asked.csv" if source == "files" else folder / "asked/valid.rec"
    out = folder / "out.csv"
    config = PredictConfig((inputs,), out, (folder / "run",), ctx="cpu()", root=folder)
    stopwatch = Stopwatch()
    predictions = predict.predict(config, stopwatch)
    prob = predictions.members.mean(axis=1).tolist()
    return {"images": count, "seconds": stopwatch.seconds, "outputs": prob}


class Stopwatch:
    """A silent progress bar that measures the time from its start to its end."""

    def __call__(self, **_: Any) -> Stopwatch:
        """Return the bar itself."""
        return self

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = time.perf_counter() - self._start

    def update(self, n: int = 1) -> None:
        """Ignore progress."""


def prediction_images(folder: Path, source: str) -> list[Path]:
    """List the images to predict."""
    number = int(json.loads((folder / "sizes.json").read_text())["predict"])
    if source == "packed":
        return squares(folder)[:number]
    return [folder / line for line in (folder / "asked.csv").read_text().split()]


def predict_with(
    folder: Path, source: str, run: Callable[[np.ndarray], np.ndarray]
) -> Result:
    """Decode on another thread, and run batches through a peer's five nets.

    Args:
        folder: The folder that tools/bench prepared.
        source: `files` or `packed`.
        run: Computes (N, 5) logits of (N, 3, S, S) float32 pixels.
    """
    from xenon_mx.config import MEAN, STD
    from xenon_mx.data import images
    from xenon_mx.runtime import threads

    listed = prediction_images(folder, source)
    mean, std = (
        255 * np.array(values, np.float32).reshape(3, 1, 1) for values in (MEAN, STD)
    )

    def batches() -> Iterator[np.ndarray]:
        for start in range(0, len(listed), BATCH):
            grays = [images.decode(images.read(f)) for f in listed[start:][:BATCH]]
            squares = np.stack([images.fit_square(g, SIZE, "stretch") for g in grays])
            yield (squares[:, None].astype(np.float32) - mean) / std

    def work() -> list[float]:
        logits = np.concatenate([run(batch) for batch in threads.prefetch(batches())])
        return (1 / (1 + np.exp(-logits.astype(np.float64)))).mean(axis=1).tolist()

    return timed(len(listed), work)


def torch_net(folder: Path, number: int) -> Any:
    """Build torchvision's DenseNet169 with a member's weights."""
    import goldens
    import safetensors.torch
    import torch

    goldens.stub_operators()
    from torchvision import models

    torch.set_num_threads(THREADS)
    net = models.densenet169(num_classes=1)
    weights = safetensors.torch.load_file(folder / f"member-{number}.safetensors")
    net.load_state_dict(weights, strict=False)  # without num_batches_tracked
    return net.eval()


def predict_torch(folder: Path, source: str = "files") -> Result:
    """Predict with PyTorch in channels_last, the faster of its two memory formats."""
    import torch

    layout = torch.channels_last
    nets = [torch_net(folder, i + 1).to(memory_format=layout) for i in range(MEMBERS)]

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            batch = torch.from_numpy(pixels).to(memory_format=layout)
            return np.concatenate([net(batch).numpy() for net in nets], axis=1)

    return predict_with(folder, source, run)


def predict_onnxruntime(folder: Path, source: str = "files") -> Result:
    """Predict with ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    sessions = [
        onnxruntime.InferenceSession(str(path), options) for path in onnx_files(folder)
    ]
    name = sessions[0].get_inputs()[0].name

    def run(pixels: np.ndarray) -> np.ndarray:
        outputs = [session.run(None, {name: pixels})[0] for session in sessions]
        return np.concatenate(outputs, axis=1)

    return predict_with(folder, source, run)


def predict_openvino(folder: Path, source: str = "files") -> Result:
    """Predict with OpenVINO in float32; its default would be bfloat16."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": THREADS, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    nets = [core.compile_model(str(p), "CPU", settings) for p in onnx_files(folder)]

    def run(pixels: np.ndarray) -> np.ndarray:
        return np.concatenate([net([pixels])[0] for net in nets], axis=1)

    return predict_with(folder, source, run)


def predict_limit(folder: Path, source: str = "files") -> Result:
    """Return the rate at which a matrix product does five forward passes."""
    return limit(MEMBERS * GFLOP)


def onnx_files(folder: Path) -> list[Path]:
    """List the five nets as ONNX files; export those that do not exist with PyTorch."""
    paths = [folder / f"member-{i + 1}.onnx" for i in range(MEMBERS)]
    for number, path in enumerate(paths, 1):
        if not path.exists():
            import torch

            batch = torch.export.Dim("n")
            torch.onnx.export(
                torch_net(folder, number),
                (torch.zeros(BATCH, 3, SIZE, SIZE),),
                str(path),
                dynamo=True,
                dynamic_shapes=[{0: batch}],
            )
    return paths


# --- start


def start_xenon(folder: Path) -> Result:
    """Time from the start of the process to the end of the first training step."""
    from xenon_mx.commands import train
    from xenon_mx.config import TrainConfig

    class FirstStep(Stopwatch):
        def update(self, n: int = 1) -> None:
            raise StopIteration

        def set_postfix(self, **_: Any) -> None:
            pass

    run = folder / "started"
    shutil.rmtree(run, ignore_errors=True)
    config = TrainConfig(folder / "few", run, no_pretrained=True, ctx="cpu()")
    try:
        train.train(config, FirstStep())
    except (StopIteration, RuntimeError):
        began = float(os.environ["BENCH_START"])
        return {"images": 1, "seconds": time.time() - began, "outputs": None}
    raise AssertionError("no step was taken")


# --- preparation


def prepare(folder: Path) -> Result:
    """Pack the data, and create a run of five members with random weights."""
    packed = _prepare_data(folder)
    _prepare_run(folder, packed)
    return {"images": 1, "seconds": 1.0, "outputs": None}


def _prepare_data(folder: Path) -> Any:
    """Pack the data whole and in part, and list the images to predict."""
    from xenon_mx.commands import pack
    from xenon_mx.config import PackConfig

    sizes = json.loads((folder / "sizes.json").read_text())
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
    listed = files(folder)[:: len(files(folder)) // sizes["predict"]]
    lines = [f"{f.relative_to(folder)}\n" for f in listed[: sizes["predict"]]]
    (folder / "asked.csv").write_text("".join(lines))
    return packed


def _prepare_run(folder: Path, packed: Any) -> None:
    """Create a run whose members have random weights."""
    import safetensors.numpy

    from xenon_mx.commands import train
    from xenon_mx.config import TrainConfig
    from xenon_mx.models import network
    from xenon_mx.runs.epoch_log import EpochRecord
    from xenon_mx.runs.run_folder import Run
    from xenon_mx.runs.training_state import TrainingState

    config = TrainConfig(folder / "packed", folder / "run", no_pretrained=True)
    data = train._open_data(config, packed)
    meta = train._describe(config, data, None)
    shutil.rmtree(folder / "run", ignore_errors=True)
    run = Run.create(folder / "run", meta)
    ranked = []
    for number in range(1, MEMBERS + 1):
        file = folder / f"member-{number}.safetensors"
        safetensors.numpy.save_file(_draw_weights(number), str(file))
        state = network.state_dict(network.build(NET, file))
        ranked.append((float(number), number))
        epoch = EpochRecord(number, 1, number, 0, 0, 1e-4, 1, 0, 1)
        run.save(epoch, TrainingState(number, state, {}, 1, {}, False), ranked)
    run.close()


def _draw_weights(number: int) -> dict[str, np.ndarray]:
    """Draw a member's weights, under torchvision's names."""
    import goldens

    from xenon_mx.models import network, weight_matching

    net, zoo = network.build_uninitialized(NET)
    keys = weight_matching.known_namings(NET, net, zoo)[-1]
    shapes = weight_matching.weight_shapes(net, 1)
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


def main() -> None:
    """Run one contender and write its measurements."""
    name, folder, out = sys.argv[1:]
    action, _, source = name.partition(":")
    function = globals()[action.replace("-", "_")]
    result = function(Path(folder), source) if source else function(Path(folder))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result["peak_mb"] = usage.ru_maxrss / 1000
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
