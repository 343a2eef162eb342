"""What tools/bench runs: the same work by xenon and by its peers, one process each.

    python tools/contenders.py CONTENDER FOLDER RESULT.json

Every contender measures itself once Python has imported what it needs and the weights
are loaded: RESULT.json says how many images, in how many seconds, with which peak of
memory. (Packing is timed from outside, as a whole process.) FOLDER is what tools/bench
has prepared. Xenon's run in the checkout's environment, the others in one of their own,
where MXNet is not installed.
"""

from __future__ import annotations

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
GFLOP = 13.7  # of one image's forward pass, see xenon-train --list-models

Result = dict


def files(folder: Path) -> list[Path]:
    """The radiographs, of some 512 px."""
    return sorted(folder.rglob("MURA-v1.1/**/*.png"))


def squares(folder: Path) -> list[Path]:
    """The same images as 320x320 JPEG files, as the packed folder holds them."""
    return sorted((folder / "squares").iterdir())


def timed(images: int, work: Callable[[], Any]) -> Result:
    """Do the work and say what it took."""
    start = time.perf_counter()
    outputs = work()
    seconds = time.perf_counter() - start
    return {"images": images, "seconds": seconds, "outputs": outputs}


# --- pack: PNG files to 320x320 gray JPEG of quality 95 in one file


def pack_xenon(folder: Path) -> Result:
    """xenon-pack, from listing the files to having verified what was written."""
    from xenon_mx.commands import pack
    from xenon_mx.config import PackConfig

    source, out = folder / "MURA-v1.1", folder / "packed-again"
    config = PackConfig(source, out, threads=THREADS, overwrite=True)
    return timed(len(files(folder)), lambda: pack.pack(config) and None)


def pack_im2rec(folder: Path) -> Result:
    """MXNet's own im2rec.py, which crops to a square and does not scale to one."""
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
    """A pool of processes with OpenCV; the results one after another in a file."""
    listed = files(folder)

    def work() -> None:
        with multiprocessing.Pool(THREADS) as pool, open(folder / "all", "wb") as out:
            for data in pool.imap(_to_jpeg, listed, chunksize=8):
                out.write(data)

    return timed(len(listed), work)


def pack_limit(folder: Path) -> Result:
    """What two threads can merely decode."""
    from xenon_mx.data import images

    held = [file.read_bytes() for file in files(folder)]
    return timed(len(held), lambda: _decode_all(images.decode, held))


def _decode_all(decode: Callable[[bytes], Any], held: list[bytes]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(decode, held):
            pass


# --- load: a training epoch's input, ready for the net


def load_xenon(folder: Path, threads: int = 1) -> Result:
    """ImageRecordIter through xenon's pipeline, on one thread as xenon-train's."""
    from xenon_mx.data import packed_folder, record_iter
    from xenon_mx.models import network
    from xenon_mx.runtime.mxnet import mx

    split = packed_folder.open_packed(folder / "packed").split("train")
    batches = record_iter.training_batches(split, BATCH, 0, 1, threads)
    count = record_iter.steps(split, BATCH, threads=threads) - 1
    next(batches)  # the start of threads is nobody's

    def work() -> None:
        for batch in batches:
            pixels = mx.nd.array(batch.pixels, dtype="uint8")
            network.normalise(pixels).wait_to_read()

    return timed(count * BATCH, work)


def load_xenon2(folder: Path) -> Result:
    """The same with --threads 2."""
    return load_xenon(folder, 2)


def load_torch(folder: Path) -> Result:
    """DataLoader with two workers and Pillow, as torchvision's transforms do it."""
    batches, count = iter(torch_batches(squares(folder), workers=THREADS)), 0
    next(batches)

    def work() -> None:
        nonlocal count
        for pixels, _ in batches:
            count += len(pixels)

    return {**timed(0, work), "images": count}


def load_limit(folder: Path) -> Result:
    """What two threads can merely decode."""
    from xenon_mx.data import images

    held = [file.read_bytes() for file in squares(folder)]
    return timed(len(held), lambda: _decode_all(images.decode, held))


def torch_batches(listed: list[Path], workers: int) -> Any:
    """A DataLoader of (N, 3, S, S) float32 and (N, 1) labels, flipped and turned."""
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
    """The second epoch of xenon-train, as its log.csv has it."""
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
    # As many images as one takes in a second: what the log says is a rate.
    return {"images": float(last["images_per_s"]), "seconds": 1.0, "outputs": None}


def train_torch(folder: Path, channels_last: bool = False) -> Result:
    """The second epoch of the same in PyTorch, after a validation, too."""
    import torch

    listed = squares(folder)[: few(folder)]
    net, layout = torch_net(folder, 1), torch.contiguous_format
    if channels_last:
        layout = torch.channels_last
    net.train().to(memory_format=layout)
    adam = torch.optim.Adam(net.parameters(), 1e-4)
    # With a worker process beside two threads, PyTorch trained at half of the speed.
    batches = torch_batches(listed, workers=0)
    loss_of = torch.nn.functional.binary_cross_entropy_with_logits

    def epoch() -> None:
        for pixels, labels in batches:
            adam.zero_grad()
            loss = loss_of(net(pixels.to(memory_format=layout)), labels)
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
    """PyTorch in its other memory format."""
    return train_torch(folder, channels_last=True)


def few(folder: Path) -> int:
    """How many images are trained on."""
    return int(json.loads((folder / "sizes.json").read_text())["train"])


def train_limit(folder: Path) -> Result:
    """Three times a forward pass's arithmetic, at the rate of a matrix product."""
    return limit(3 * GFLOP)


def limit(gflop: float) -> Result:
    """Images a second at the rate of a large single-precision matrix product."""
    matrix = np.random.RandomState(0).rand(3000, 3000).astype(np.float32)
    best = min(timed(1, lambda: matrix @ matrix)["seconds"] for _ in range(8))
    rate = 2 * 3000**3 / 1e9 / best
    return {"images": rate / gflop, "seconds": 1.0, "outputs": None}


# --- predict: the mean of five DenseNet169, from files to probabilities


def predict_xenon(folder: Path, source: str = "files") -> Result:
    """xenon-predict, from the first image to the last."""
    from xenon_mx.commands import predict
    from xenon_mx.config import PredictConfig

    count = len(asked(folder, source))
    inputs = folder / "asked.csv" if source == "files" else folder / "asked/valid.rec"
    out = folder / "out.csv"
    config = PredictConfig((inputs,), out, (folder / "run",), ctx="cpu()", root=folder)
    stopwatch = Stopwatch()
    predictions = predict.predict(config, stopwatch)
    prob = predictions.members.mean(axis=1).tolist()
    return {"images": count, "seconds": stopwatch.seconds, "outputs": prob}


class Stopwatch:
    """A progress bar that shows nothing, and times from its start to its end."""

    def __call__(self, **_: Any) -> Stopwatch:
        """Make a bar."""
        return self

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = time.perf_counter() - self._start

    def update(self, n: int = 1) -> None:
        """Do what a bar does."""


def asked(folder: Path, source: str) -> list[Path]:
    """What is to be predicted."""
    number = int(json.loads((folder / "sizes.json").read_text())["predict"])
    if source == "packed":
        return squares(folder)[:number]
    return [folder / line for line in (folder / "asked.csv").read_text().split()]


def predict_with(
    folder: Path, source: str, run: Callable[[np.ndarray], np.ndarray]
) -> Result:
    """Decode on another thread, and run batches through a peer's five nets.

    Args:
        folder: What was prepared.
        source: `files` or `packed`.
        run: (N, 3, S, S) float32 to (N, 5) logits.
    """
    from xenon_mx.config import MEAN, STD
    from xenon_mx.data import images
    from xenon_mx.runtime import threads as parallel

    listed = asked(folder, source)
    mean, std = (
        255 * np.array(values, np.float32).reshape(3, 1, 1) for values in (MEAN, STD)
    )

    def batches() -> Iterator[np.ndarray]:
        for start in range(0, len(listed), BATCH):
            grays = [images.decode(images.read(f)) for f in listed[start:][:BATCH]]
            squares = np.stack([images.fit_square(g, SIZE, "stretch") for g in grays])
            yield (squares[:, None].astype(np.float32) - mean) / std

    def work() -> list[float]:
        logits = np.concatenate([run(each) for each in parallel.prefetch(batches())])
        return (1 / (1 + np.exp(-logits.astype(np.float64)))).mean(axis=1).tolist()

    return timed(len(listed), work)


def torch_net(folder: Path, number: int) -> Any:
    """Torchvision's DenseNet169 with a member's weights."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/goldens"))
    import make
    import safetensors.torch
    import torch

    if not hasattr(make.stub_operators, "library"):
        make.stub_operators()
    from torchvision import models

    torch.set_num_threads(THREADS)
    net = models.densenet169(num_classes=1)
    weights = safetensors.torch.load_file(folder / f"member-{number}.safetensors")
    net.load_state_dict(weights, strict=False)  # all but counters of batches
    return net.eval()


def predict_torch(folder: Path, source: str = "files") -> Result:
    """PyTorch on the CPU, channels last: the better of its two memory formats."""
    import torch

    layout = torch.channels_last
    nets = [torch_net(folder, i + 1).to(memory_format=layout) for i in range(MEMBERS)]

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            held = torch.from_numpy(pixels).to(memory_format=layout)
            return np.concatenate([net(held).numpy() for net in nets], axis=1)

    return predict_with(folder, source, run)


def predict_onnxruntime(folder: Path, source: str = "files") -> Result:
    """ONNX Runtime."""
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
    """OpenVINO, in single precision: of itself it would take half of it (bfloat16)."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": THREADS, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    nets = [core.compile_model(str(p), "CPU", settings) for p in onnx_files(folder)]

    def run(pixels: np.ndarray) -> np.ndarray:
        return np.concatenate([net([pixels])[0] for net in nets], axis=1)

    return predict_with(folder, source, run)


def predict_limit(folder: Path, source: str = "files") -> Result:
    """Five forward passes' arithmetic, at the rate of a matrix product."""
    return limit(MEMBERS * GFLOP)


def onnx_files(folder: Path) -> list[Path]:
    """The five nets in ONNX, exported by PyTorch when they are first wanted."""
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
    """From the start of the process to the end of the first step of training."""
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
        begun = float(os.environ["BENCH_START"])
        return {"images": 1, "seconds": time.time() - begun, "outputs": None}
    raise AssertionError("no step was taken")


# --- what is prepared


def prepare(folder: Path) -> Result:
    """Pack the data, and make a run of five members with weights drawn by NumPy."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/goldens"))
    import make
    import safetensors.numpy

    from xenon_mx.commands import pack, train
    from xenon_mx.config import PackConfig, TrainConfig
    from xenon_mx.models import network
    from xenon_mx.runs.epoch_log import EpochRecord
    from xenon_mx.runs.run_folder import Run
    from xenon_mx.runs.training_state import TrainingState

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

    config = TrainConfig(folder / "packed", folder / "run", no_pretrained=True)
    data = train._open_data(config, packed)
    meta = train._describe(config, data, None)
    shutil.rmtree(folder / "run", ignore_errors=True)
    run = Run.create(folder / "run", meta)
    ranked = []
    for number in range(1, MEMBERS + 1):
        net, zoo = network._build_uninitialized(NET)
        keys = network._known_namings(NET, net, zoo)[-1]
        shapes = network._shapes(net, 1)
        drawn = {
            name: make.draw(f"{number}.{name}", shapes[key])
            for key, name in keys.items()
        }
        file = folder / f"member-{number}.safetensors"
        safetensors.numpy.save_file(drawn, str(file))
        state = network.state_dict(network.build(NET, file))
        ranked.append((float(number), number))
        epoch = EpochRecord(number, 1, number, 0, 0, 1e-4, 1, 0, 1)
        run.save(epoch, TrainingState(number, state, {}, 1, {}, False), ranked)
    run.close()
    return {"images": 1, "seconds": 1.0, "outputs": None}


def _cut(packed: Any, out: Path, counts: dict[str, int]) -> None:
    """Pack the first training images of a packed folder anew, as other splits."""
    from xenon_mx.data import packed_folder

    whole = packed.split("train")
    with packed_folder.PackTransaction(out, overwrite=True) as transaction:
        splits = {}
        for name, count in counts.items():
            with packed_folder.SplitWriter(transaction.folder, name) as writer:
                for row, record in zip(whole.rows()[:count], whole.images()):
                    writer.add(record.image, row)
                summary = writer.summary()
            counted = packed.meta["splits"]["train"]["counts"]
            splits[name] = {**summary, "counts": counted}
        transaction.commit({**packed.meta, "splits": splits})


def main() -> None:
    """Run one contender and write what it measured."""
    name, folder, out = sys.argv[1:]
    action, _, source = name.partition(":")
    function = globals()[action.replace("-", "_")]
    result = function(Path(folder), source) if source else function(Path(folder))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result["peak_mb"] = usage.ru_maxrss / 1000
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
