"""xenon-export: one ONNX file with the run's predictions, which needs no MXNet."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import synthetic
from onnx import helper
from support import paths
from support.page_examples import examples
from support.predictions import predict_tables, read

from xenon_mx import cli
from xenon_mx.commands import export, pack, train
from xenon_mx.config import ExportConfig, PackConfig, PredictConfig, TrainConfig
from xenon_mx.data import images
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.inference import inputs, onnx_export, onnx_graph
from xenon_mx.inference.engines import open_engine
from xenon_mx.inference.onnx_ensemble import OnnxEnsemble
from xenon_mx.inference.onnx_metadata import add_checksum
from xenon_mx.models import cam_block, forward, net_names, network
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import Preprocessing
from xenon_mx.runtime import nvidia_driver
from xenon_mx.runtime.mxnet import mx

SIZE = 64
MODELS = {"run": "mobilenet0.25", "other": "mobilenetv2_0.25"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Create a packed data set, two runs, and the ONNX files of one and of both."""
    base = tmp_path_factory.mktemp("world")
    splits = {
        "train": synthetic.labelled(24, SIZE, 1),
        "valid": synthetic.labelled(16, SIZE, 2),
    }
    packed = synthetic.pack(base / "packed", splits)
    rows = packed.split("valid").rows()
    for row, pixels in zip(rows, splits["valid"][0]):
        (base / row.path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(base / row.path), pixels)
    listed = "".join(f"{row.path}\n" for row in rows)
    (base / "MURA-v1.1" / "valid_image_paths.csv").write_text(listed)
    for name, model in MODELS.items():
        options = {"no_pretrained": True, "epochs": 3, "ctx": "cpu()", "lr": 1e-3}
        train.train(TrainConfig(base / "packed", base / name, model=model, **options))
    export.export(ExportConfig((base / "run",), base / "run.onnx", members=3))
    both = (base / "run", base / "other")
    export.export(ExportConfig(both, base / "both.onnx", members=4))
    return base


def members_of(world, *runs):
    """Return (checkpoint, model) of some runs, the lowest loss first."""
    members = [
        (member, MODELS[run])
        for run in runs
        for member in Run.open(world / run).members()
    ]
    return sorted(members, key=lambda pair: pair[0].loss)


def by_gluon(world, pixels, *runs, count):
    """Return each member's probabilities, (N, M), computed one net at a time."""
    batch = network.normalise(mx.nd.array(pixels, dtype="uint8"))
    nets = [
        network.build(model, member.params, reference=True)
        for member, model in members_of(world, *runs)[:count]
    ]
    return np.concatenate([net(batch).sigmoid().asnumpy() for net in nets], axis=1)


def session(file):
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize(
    ("file", "runs", "held"),
    [("run.onnx", ("run",), 3), ("both.onnx", ("run", "other"), 4)],
)
def test_a_file_gives_what_its_nets_give_at_any_batch_size(
    world, file, runs, held, count
):
    pixels = synthetic.labelled(count, SIZE, seed=count)[0]
    outputs = session(world / file).run(None, {"pixels": pixels})
    probability, members, logits, _ = outputs
    expected = by_gluon(world, pixels, *runs, count=held)
    assert expected.std() > 1e-4  # the probabilities depend on the pixels
    assert members.shape == logits.shape == (count, held)
    np.testing.assert_allclose(members, expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(probability, expected.mean(axis=1), atol=1e-5, rtol=0)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), members, atol=1e-6, rtol=0)


def test_the_only_input_is_gray_pixels(world):
    model = onnx.load(str(world / "both.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert [each.name for each in model.graph.input] == ["pixels"]
    onnx_session = session(world / "both.onnx")
    (pixels,) = onnx_session.get_inputs()
    assert (pixels.type, pixels.shape) == ("tensor(uint8)", ["N", SIZE, SIZE])
    assert {each.name: each.shape for each in onnx_session.get_outputs()} == {
        "probability": ["N"],
        "members": ["N", 4],
        "logits": ["N", 4],
        "maps": ["N", 4, 2, 2],
    }
    assert all(each.type == "tensor(float)" for each in onnx_session.get_outputs())
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 13)]


def test_a_file_describes_itself(world):
    properties = session(world / "both.onnx").get_modelmeta().custom_metadata_map
    properties = {key: json.loads(value) for key, value in properties.items()}
    meta = Run.open(world / "run").meta.to_json()
    for key in ("data", "study_types", "weights", "preprocessing"):
        assert properties[key] == meta[key]
    assert properties["notice"] == "Not for medical use."
    assert properties["threshold"] == 0.5
    assert properties["preprocessing"]["pixels"] == images.PIXELS
    assert properties["versions"]["mxnet"] == "1.9.1"
    assert properties["versions"]["opencv"] == cv2.__version__
    expected = members_of(world, "run", "other")[:4]
    assert properties["members"] == [
        {
            "model": model,
            "epoch": member.epoch,
            "loss": member.loss,
            "params": member.params.name,
            "sha256": member.sha256,
            "field": list(cam_block.cam_extent(network.build(model), SIZE)),
        }
        for member, model in expected
    ]


def test_the_same_run_gives_the_same_bytes_and_may_be_written_again(world, tmp_path):
    out = tmp_path / "again.onnx"
    for _ in range(2):
        export.export(ExportConfig((world / "run",), out, members=3))
        assert out.read_bytes() == (world / "run.onnx").read_bytes()
    assert list(tmp_path.iterdir()) == [out]


def test_exporting_leaves_the_root_logger_alone(world, tmp_path):
    """MXNet's exporter adds a handler, which would print each later line twice."""
    before = logging.root.handlers[:]
    logging.root.handlers.clear()
    try:
        onnx_graph.convert(network.build("mobilenet0.25", reference=True), SIZE)
        assert logging.root.handlers == []
    finally:
        logging.root.handlers[:] = before


def logits_by(net, tmp_path, size=SIZE):
    """Return a net's logits by Gluon and by ONNX Runtime, on the same pixels.

    Also checks that the mean of the file's map plus the bias is its logit.
    """
    # Convert first: a forward pass of Gluon sets a fixed gamma to one.
    model = onnx_graph.merge([onnx_graph.convert(net, size)], size, {})
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    pixels = synthetic.blobs(3, size)
    expected = net(network.normalise(mx.nd.array(pixels, dtype="uint8"))).asnumpy()
    logits, maps = session(tmp_path / "net.onnx").run(
        ["logits", "maps"], {"pixels": pixels}
    )
    means = maps.mean(axis=(2, 3), dtype=np.float64)
    bias = net.output.bias.data().asnumpy()
    scale = max(1.0, float(np.abs(maps).max()))
    np.testing.assert_allclose(means + bias, logits, rtol=0, atol=1e-4 * scale)
    return expected, logits


def test_a_fixed_gamma_is_exported_as_one(tmp_path):
    """ResNet v2 begins with a BatchNorm whose gamma MXNet ignores."""
    net = network.build("resnet18_v2", reference=True)
    gamma = net.features[0].gamma
    assert net.features[0]._kwargs["fix_gamma"]
    gamma.set_data(mx.nd.full(gamma.shape, 3.0))
    expected, actual = logits_by(net, tmp_path)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", net_names.NAMES)
def test_every_net_can_be_exported(tmp_path, name):
    """At a size whose maps differ from the zoo's pooling windows."""
    expected, actual = logits_by(network.build(name, reference=True), tmp_path, size=96)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.slow
def test_five_densenets_at_320_px_pool_all_of_the_map(tmp_path):
    """The zoo's nets pool only the top left; here, the bottom right must count, too."""
    nets = [network.build("densenet121", reference=True) for _ in range(5)]
    graphs = [onnx_graph.convert(net, 320) for net in nets]
    model = onnx_graph.merge(graphs, 320, {})
    (tmp_path / "five.onnx").write_bytes(model.SerializeToString())
    pixels = synthetic.blobs(2, 320)
    pixels[1] = pixels[0]
    pixels[1, -32:, -32:] = 255
    batch = network.normalise(mx.nd.array(pixels, dtype="uint8"))
    expected = np.concatenate([net(batch).sigmoid().asnumpy() for net in nets], axis=1)
    assert np.abs(expected[0] - expected[1]).max() > 1e-4
    wanted = ["probability", "members"]
    probability, members = session(tmp_path / "five.onnx").run(
        wanted, {"pixels": pixels}
    )
    np.testing.assert_allclose(members, expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(probability, expected.mean(axis=1), atol=1e-5, rtol=0)


def ask(world, tmp_path, *inputs_, runs=("run.onnx",), **options):
    """Predict; return the rows of OUT.csv, those of --images, and the Predictions."""
    runs = [world / run for run in runs]
    return predict_tables(tmp_path, [world / i for i in inputs_], runs, **options)


INPUTS = ("MURA-v1.1/valid_image_paths.csv", "MURA-v1.1/valid", "packed/valid.rec")


@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("options", [{}, {"members": 2}, {"reference": True}])
def test_the_file_predicts_what_the_run_predicts(world, tmp_path, given, options):
    by_run = ask(world, tmp_path, given, runs=("run",), **options)
    by_file = ask(world, tmp_path, given, **options)
    for file_rows, run_rows in zip(by_file[:2], by_run[:2]):
        assert len(file_rows) == len(run_rows) > 1
        for file_row, run_row in zip(file_rows, run_rows):
            assert file_row.keys() == run_row.keys()
            for column, value in file_row.items():
                if column == "probability" or column.startswith("member_"):
                    assert float(value) == pytest.approx(
                        float(run_row[column]), abs=1e-5
                    )
                elif column != "prediction":
                    assert value == run_row[column]
    file_losses, run_losses = by_file[2].losses, by_run[2].losses
    assert len(file_losses) == options.get("members", 3)
    for (name, loss), (params, expected) in zip(
        file_losses.items(), run_losses.items()
    ):
        assert name.name == params.name
        assert loss == pytest.approx(expected, abs=1e-5)


def test_several_runs_in_one_file_predict_as_they_do_together(world, tmp_path):
    given = INPUTS[0]
    together, _, _ = ask(world, tmp_path, given, runs=("run", "other"), members=4)
    exported, _, _ = ask(world, tmp_path, given, runs=("both.onnx",), members=4)
    for one, two in zip(together, exported):
        assert one["study"] == two["study"]
        assert float(one["probability"]) == pytest.approx(
            float(two["probability"]), abs=1e-5
        )


def test_the_recipe_of_the_docs_predicts_a_study(world, tmp_path, monkeypatch):
    """Without xenon, on images of other sizes and kinds than the net's input."""
    study = Path("MURA-v1.1/valid/XR_HAND/patient00001/study1_positive")
    (tmp_path / study).mkdir(parents=True)
    shutil.copy(world / "run.onnx", tmp_path / "ensemble.onnx")
    pixels = synthetic.blobs(4, 200)
    drawn = {
        "image1.png": pixels[0, :150],
        "image2.png": pixels[1, :, :40],
        "image3.png": np.stack([pixels[2], pixels[2] // 2, pixels[3]], axis=2),
        "image4.jpg": pixels[3, :50, :40],
    }
    for name, image in drawn.items():
        whole = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
        cv2.imwrite(str(tmp_path / study / name), whole)
    files = sorted((tmp_path / study).iterdir())
    shutil.copy(files[0], tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    page = (paths.ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    for block in examples(page):
        exec(block, names)  # noqa: S102 - the page's own words
    (row,), images_rows, _ = ask(world, tmp_path, tmp_path / "MURA-v1.1/valid")
    assert len(images_rows) == 4
    by_image = [float(each["probability"]) for each in images_rows]
    assert np.ptp(by_image) > 1e-4
    assert names["predict_study"](files) == pytest.approx(
        float(row["probability"]), abs=1e-6
    )
    assert names["threshold"] == 0.5


@pytest.mark.parametrize("members", [2, 4])
def test_the_maps_of_the_file_are_those_of_the_runs(world, tmp_path, members):
    """Also with two of four members, whose mean is not that of all."""
    given, written = INPUTS[0], {}
    for name, runs in {"run": ("run", "other"), "file": ("both.onnx",)}.items():
        ask(world, tmp_path, given, runs=runs, members=members, cam=tmp_path / name)
        written[name] = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
    assert len(written["run"]) == 2 * 16 + 2  # maps.json and key.png
    for by_file, by_run in zip(written["file"], written["run"]):
        assert by_file.relative_to(tmp_path / "file") == by_run.relative_to(
            tmp_path / "run"
        )
        if by_file.suffix == ".npy":
            one, two = np.load(by_file), np.load(by_run)
            assert (one.dtype, one.shape) == (two.dtype, two.shape)
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-4)
        elif by_file.suffix == ".json":
            differ = ("made_from", "sha256", "checksum")
            one, two = (json.loads(each.read_text()) for each in (by_file, by_run))
            assert all([one.pop(key) != two.pop(key) for key in differ])
            sums = [
                [member["sha256"] for member in each.pop("ensemble")["members"]]
                for each in (one, two)
            ]
            assert sums[0] == sums[1]
            assert one == two
        else:
            one, two = cv2.imread(str(by_file)), cv2.imread(str(by_run))
            assert np.abs(one.astype(int) - two).max() <= 2


def test_maps_of_nets_whose_maps_differ_in_size_keep_their_means(tmp_path):
    """A SqueezeNet's map is finer than a MobileNet's: all get the finer size."""
    nets = [
        network.build(n, reference=True) for n in ("squeezenet1.1", "mobilenet0.25")
    ]
    model = onnx_graph.merge([onnx_graph.convert(net, 96) for net in nets], 96, {})
    (tmp_path / "two.onnx").write_bytes(model.SerializeToString())
    pixels = synthetic.blobs(2, 96)
    logits, maps = session(tmp_path / "two.onnx").run(
        ["logits", "maps"], {"pixels": pixels}
    )
    (expected,) = forward.cams(nets, [pixels], [mx.cpu()], reference=True)
    assert maps.shape[:2] == (2, 2)
    scale = np.abs(expected.maps).max()
    np.testing.assert_allclose(
        maps.mean(axis=1) / scale, expected.maps / scale, rtol=0, atol=1e-5
    )
    bias = [net.output.bias.data().asscalar() for net in nets]
    np.testing.assert_allclose(
        (maps.mean(axis=(2, 3)) + bias) / scale, logits / scale, rtol=0, atol=1e-4
    )


def test_fewer_members_than_asked_for_are_logged(world, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        ask(world, tmp_path, INPUTS[0])
    assert "fewer members than the paper's 5: the file holds only 3" in caplog.text


def test_predicting_the_training_images_is_logged(world, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        ask(world, tmp_path, "packed/train.rec")
    assert "were trained on these images" in caplog.text


WITHOUT = """
import sys
import tempfile
from pathlib import Path
sys.modules["mxnet"] = sys.modules["gluoncv"] = None
from xenon_mx.commands import predict
from xenon_mx.config import PredictConfig
given, out, run = map(Path, sys.argv[1:])
predict.predict(PredictConfig((given,), out, (run,), cam=out.with_name("maps")))
"""


@pytest.mark.parametrize(
    "given", [INPUTS[2], pytest.param(INPUTS[0], marks=pytest.mark.slow)]
)
def test_no_mxnet_is_needed_and_nothing_else_is_logged(world, tmp_path, given):
    arguments = [str(world / given), str(tmp_path / "o.csv"), str(world / "run.onnx")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments],
        capture_output=True,
        text=True,
    )
    expected = ("fewer members", "maps of 2x2 cells are too coarse")  # both are true
    if given.endswith(".rec"):
        expected += ("these images chose the checkpoints",)
    others = [x for x in done.stderr.splitlines() if not x.startswith(expected)]
    assert (done.returncode, done.stdout, others) == (0, "", [])
    assert len(read(tmp_path / "o.csv")) == 8
    assert len(list((tmp_path / "maps").rglob("*.cam.png"))) == 16


def test_onnxruntime_does_not_warn(world):
    """With all warnings enabled, in a process of its own."""
    code = """
import sys
import onnxruntime
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(world / "both.onnx")],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = (done.stdout + done.stderr).splitlines()
    # A warning about a computer without a GPU does not concern the file.
    assert [line for line in lines if "device_discovery" not in line] == []


@pytest.mark.parametrize("encoding", ["jpg", "png"])
def test_opencv_and_mxnet_decode_a_record_to_the_same_pixels(world, tmp_path, encoding):
    shutil.copytree(world / "MURA-v1.1" / "valid", tmp_path / "MURA-v1.1" / "valid")
    folder = tmp_path / "packed"
    pack.pack(PackConfig(tmp_path / "MURA-v1.1", folder, size=47, encoding=encoding))
    config = PredictConfig((folder / "valid.rec",), Path("o.csv"), (), batch_size=5)
    source = inputs.InputImages(config, Preprocessing(47, "stretch"))
    by_mxnet, by_opencv = list(source.batches()), list(source.batches(with_mxnet=False))
    for batches in (by_mxnet, by_opencv):
        assert [len(batch) for batch in batches] == [5, 5, 5, 1]
    np.testing.assert_array_equal(np.concatenate(by_opencv), np.concatenate(by_mxnet))


def test_both_readers_of_records_leave_the_same_ones_out(world, tmp_path, monkeypatch):
    """Records that show nothing, as an older xenon may have packed them."""
    root = tmp_path / "MURA-v1.1"
    shutil.copytree(world / "MURA-v1.1" / "valid", root / "valid")
    blank = sorted(root.rglob("*.png"))[3:6]
    for file in blank:
        cv2.imwrite(str(file), np.zeros((47, 47), np.uint8))
    folder = tmp_path / "packed"
    with monkeypatch.context() as patched:
        patched.setattr("xenon_mx.data.images.check_visible", lambda *_: None)
        pack.pack(PackConfig(root, folder, size=47, encoding="png"))
    rec = folder / "valid.rec"
    strict = inputs.InputImages(
        PredictConfig((rec,), "o.csv", ()), Preprocessing(47, "stretch")
    )
    config = PredictConfig((rec,), "o.csv", (), batch_size=2, skip_bad=True)
    found = []
    for with_mxnet in (True, False):
        with pytest.raises(XenonError, match="3 images cannot be read"):
            list(strict.batches(with_mxnet))
        source = inputs.InputImages(config, Preprocessing(47, "stretch"))
        pixels = np.concatenate(list(source.batches(with_mxnet)))
        assert len(pixels) == len(source.predicted) == len(source.images) - 3
        bad = [tmp_path / each.image for each in source.left_out]
        assert sorted(bad) == blank
        found.append((pixels, source.predicted, source.left_out))
    (pixels, *by_mxnet), (other, *by_opencv) = found
    np.testing.assert_array_equal(pixels, other)
    assert by_mxnet == by_opencv


def foreign(data):
    tensors = [helper.make_tensor_value_info(n, 1, [1]) for n in "ab"]
    node = helper.make_node("Relu", ["a"], ["b"])
    graph = helper.make_graph([node], "foreign", tensors[:1], tensors[1:])
    return helper.make_model(graph).SerializeToString()


def flipped(data):
    changed = bytearray(data)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


BAD = {
    "truncated": lambda data: data[: len(data) // 2],
    "without an end": lambda data: data[:-1],
    "with more": lambda data: data + b"\0",
    "flipped": flipped,
    "empty": lambda data: b"",
    "foreign": foreign,
    "text": lambda data: b"study,label\n",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_foreign_or_damaged_file_is_refused_in_one_line(world, tmp_path, kind):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(BAD[kind]((world / "run.onnx").read_bytes()))
    with pytest.raises(XenonError, match=r"bad\.onnx: neither a run") as caught:
        ask(world, tmp_path, INPUTS[0], runs=(bad,))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.csv").exists()


def test_a_file_of_a_later_format_is_refused(world, tmp_path):
    later = onnx.load_from_string(foreign(b""))
    helper.set_model_props(later, {"format": "2"})
    (tmp_path / "later.onnx").write_bytes(add_checksum(later.SerializeToString()))
    with pytest.raises(XenonError, match=r"later\.onnx: its format is not 1"):
        ask(world, tmp_path, INPUTS[0], runs=(tmp_path / "later.onnx",))


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        (("run.onnx", "run"), {}, "a whole ensemble"),
        (("run", "both.onnx"), {}, "a whole ensemble"),
        (("none.onnx",), {}, r"none\.onnx: No such file"),
        (("run.onnx",), {"ctx": "gpu(0)"}, "no CUDA.*onnxruntime-gpu.*cpu"),
        (("run.onnx",), {"ctx": "gpu(0),gpu(1)"}, "one device"),
    ],
)
def test_what_a_file_cannot_do_is_refused(world, tmp_path, runs, options, message):
    with pytest.raises(XenonError, match=message):
        ask(world, tmp_path, INPUTS[0], runs=runs, **options)
    assert not (tmp_path / "out.csv").exists()


def opened(file):
    """Return the engine of a file, with the default settings."""
    return open_engine(OnnxEnsemble(file, 3), PredictConfig((), Path("-"), (file,)))


def test_without_a_ctx_the_one_that_is_used_is_logged(world, caplog):
    engine = opened(world / "run.onnx")
    with caplog.at_level(logging.INFO):
        engine.logits([synthetic.blobs(1, SIZE)])
    assert "ctx: cpu(0)" in caplog.messages


def test_a_gpu_that_onnx_runtime_cannot_use_is_a_warning(world, caplog, monkeypatch):
    a10 = nvidia_driver.Gpu("NVIDIA A10", (8, 6), 24_000_000_000)
    monkeypatch.setattr(nvidia_driver, "gpus", lambda: [a10])
    engine = opened(world / "run.onnx")
    with caplog.at_level(logging.WARNING):
        engine.logits([synthetic.blobs(1, SIZE)])
    assert "ctx: cpu(0), not a GPU: this ONNX Runtime has no CUDA" in caplog.text


def test_a_missing_package_is_named(world, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(XenonError, match=r"onnxruntime is not installed.*\[onnx\]"):
        ask(world, tmp_path, INPUTS[0])
    monkeypatch.setitem(sys.modules, "onnx", None)
    config = ExportConfig((world / "run",), tmp_path / "x.onnx")
    with pytest.raises(XenonError, match=r"onnx is not installed.*\[export\]"):
        export.export(config)


def test_what_was_not_exported_is_not_overwritten(world, tmp_path):
    out = tmp_path / "precious.onnx"
    out.write_bytes(foreign(b""))
    with pytest.raises(XenonError, match=r"precious\.onnx: exists and was not written"):
        export.export(ExportConfig((world / "run",), out))
    assert out.read_bytes() == foreign(b"")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/such/x.onnx", "does not exist"),
        ("folder.onnx", "is a folder"),
        ("pipe.onnx", "not a regular file"),
        ("x.params", r"not named \.onnx"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(world, tmp_path, name, message):
    (tmp_path / "folder.onnx").mkdir()
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises((XenonError, ConfigError), match=message):
        export.export(ExportConfig((world / "run",), tmp_path / name))


def test_a_link_is_written_through(world, tmp_path):
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real.onnx")
    config = ExportConfig((world / "run",), tmp_path / "link.onnx", members=1)
    export.export(config)
    assert (tmp_path / "link.onnx").is_symlink()
    assert OnnxEnsemble(tmp_path / "real.onnx", 5).members[0].epoch > 0


def test_a_folder_that_is_no_run_is_refused(world, tmp_path):
    with pytest.raises(XenonError, match="not a run"):
        export.export(ExportConfig((world / "packed",), tmp_path / "x.onnx"))
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_the_next_command(world, tmp_path, capsys):
    out = tmp_path / "x.onnx"
    arguments = [str(world / "run"), str(out), "--members", "2"]
    cli.COMMANDS["export"].main(arguments, standalone_mode=False)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"2 members in {out}\n" in captured.err
    assert captured.err.endswith(f"next: xenon-predict INPUT OUT.csv --run {out}\n")


@pytest.mark.parametrize("wrong", [2e-5, np.nan])
def test_probabilities_that_differ_are_not_written(wrong):
    expected = np.array([[0.5, 0.25]])
    out, tolerance = "x.onnx", onnx_export.TOLERANCE
    onnx_export.check_equal(out, "members", expected, expected + 0.9e-5, tolerance)
    actual = expected + [[0, wrong]]
    with pytest.raises(XenonError, match=r"x\.onnx: not written: its members"):
        onnx_export.check_equal(out, "members", expected, actual, tolerance)


@pytest.mark.slow
def test_an_environment_without_mxnet_predicts(world, tmp_path):
    """Follow README: `pip install '.[onnx]'` in a new environment, then predict."""
    source = tmp_path / "source"
    shutil.copytree(paths.ROOT / "xenon_mx", source / "xenon_mx")
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(paths.ROOT / name, source)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    programs = tmp_path / "venv" / "bin"
    pip = [str(programs / "python"), "-m", "pip"]
    subprocess.run([*pip, "install", "--quiet", f"{source}[onnx]"], check=True)
    listed = subprocess.run([*pip, "list"], check=True, capture_output=True, text=True)
    names = {line.split()[0].lower() for line in listed.stdout.splitlines()}
    assert "onnxruntime" in names
    assert not {"mxnet", "mxnet-cu112", "gluoncv", "onnx"} & names
    for given in INPUTS:
        done = subprocess.run(
            [
                str(programs / "xenon-predict"),
                str(world / given),
                str(tmp_path / "there.csv"),
                "--overwrite",
                "--run",
                str(world / "run.onnx"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        expected, _, _ = ask(world, tmp_path, given, runs=("run",))
        rows = read(tmp_path / "there.csv")
        assert len(rows) == len(expected)
        for one, two in zip(rows, expected):
            assert one["study"] == two["study"]
            assert float(one["probability"]) == pytest.approx(
                float(two["probability"]), abs=1e-5
            )


def test_exporting_writes_no_file_but_its_own(world, tmp_path, monkeypatch):
    """MXNet's exporter writes a temporary file, in a folder that may be full."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    config = ExportConfig((world / "run",), tmp_path / "run.onnx", members=3)
    assert export.export(config) == 3
    assert (tmp_path / "run.onnx").read_bytes() == (world / "run.onnx").read_bytes()


@pytest.mark.slow
def test_exporting_beyond_a_limit_of_files_is_one_line(world, tmp_path):
    code = "from xenon_mx import cli; cli.export()"
    words = [sys.executable, "-c", code, str(world / "run"), "run.onnx"]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 100 && exec "$@"', "bash", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == "error: run.onnx: File too large\n"
    assert list(tmp_path.iterdir()) == []
