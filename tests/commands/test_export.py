"""One ONNX file: what the run gives, by ONNX Runtime, and without MXNet."""

from __future__ import annotations

import csv
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

from xenon_mx import cli
from xenon_mx.commands import export, pack, predict, train
from xenon_mx.config import ExportConfig, PackConfig, PredictConfig, TrainConfig
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.inference import inputs, onnx_graph
from xenon_mx.inference.onnx_ensemble import OnnxEnsemble, sealed
from xenon_mx.models import forward, network
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import Preprocessing
from xenon_mx.runtime.mxnet import mx

SIZE = 64
MODELS = {"run": "mobilenet0.25", "other": "resnet18_v1b"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Radiographs in MURA's layout, packed; two runs; the file of one, and of both."""
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
    """The Gluon nets of some runs with their losses, the lowest first."""
    found = [
        (member, MODELS[run])
        for run in runs
        for member in Run.open(world / run).members()
    ]
    return sorted(found, key=lambda pair: pair[0].loss)


def by_gluon(world, pixels, *runs, count):
    """Each member's probabilities, (N, M), a net at a time."""
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
    found = session(world / file).run(None, {"pixels": pixels})
    probability, members, logits, _ = found
    expected = by_gluon(world, pixels, *runs, count=held)
    assert expected.std() > 1e-4  # or all would be alike, whatever goes in
    assert members.shape == logits.shape == (count, held)
    np.testing.assert_allclose(members, expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(probability, expected.mean(axis=1), atol=1e-5, rtol=0)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), members, atol=1e-6, rtol=0)


def test_the_door_is_gray_pixels_and_nothing_else(world):
    model = onnx.load(str(world / "both.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert [each.name for each in model.graph.input] == ["pixels"]
    ours = session(world / "both.onnx")
    (pixels,) = ours.get_inputs()
    assert (pixels.type, pixels.shape) == ("tensor(uint8)", ["N", SIZE, SIZE])
    assert {each.name: each.shape for each in ours.get_outputs()} == {
        "probability": ["N"],
        "members": ["N", 4],
        "logits": ["N", 4],
        "maps": ["N", 4, 2, 2],
    }
    assert all(each.type == "tensor(float)" for each in ours.get_outputs())
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 13)]


def test_a_file_says_what_it_is(world):
    told = session(world / "both.onnx").get_modelmeta().custom_metadata_map
    told = {key: json.loads(value) for key, value in told.items()}
    meta = Run.open(world / "run").meta.to_json()
    for key in ("data", "study_types", "weights", "preprocessing"):
        assert told[key] == meta[key]
    assert told["notice"] == "Not for medical use."
    assert told["threshold"] == 0.5
    assert told["versions"]["mxnet"] == "1.9.1"
    expected = members_of(world, "run", "other")[:4]
    assert told["members"] == [
        {
            "model": model,
            "epoch": member.epoch,
            "loss": member.loss,
            "params": member.params.name,
            "sha256": member.sha256,
            "field": list(network.cam_extent(network.build(model), SIZE)),
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
    """MXNet's exporter gives it a handler: each later line would be there twice."""
    before = logging.root.handlers[:]
    logging.root.handlers.clear()
    try:
        onnx_graph.convert(network.build("mobilenet0.25", reference=True), SIZE)
        assert logging.root.handlers == []
    finally:
        logging.root.handlers[:] = before


def logits_by(net, tmp_path, size=SIZE):
    """The same net's logits by Gluon and by ONNX Runtime, on the same pixels.

    And, on the way, whether the mean of the file's map plus the bias is its logit.
    """
    # First, since a pass sets to one what MXNet takes for one.
    model = onnx_graph.merge([onnx_graph.convert(net, size)], size, {})
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    pixels = synthetic.blobs(3, size)
    expected = net(network.normalise(mx.nd.array(pixels, dtype="uint8"))).asnumpy()
    found, maps = session(tmp_path / "net.onnx").run(
        ["logits", "maps"], {"pixels": pixels}
    )
    means = maps.mean(axis=(2, 3), dtype=np.float64)
    bias = net.output.bias.data().asnumpy()
    scale = max(1.0, float(np.abs(maps).max()))
    np.testing.assert_allclose(means + bias, found, rtol=0, atol=1e-4 * scale)
    return expected, found


def test_a_gamma_that_mxnet_takes_for_one_is_one(tmp_path):
    """ResNet v2 begins with a BatchNorm without a scale, but with a gamma."""
    net = network.build("resnet18_v2", reference=True)
    gamma = net.features[0].gamma
    assert net.features[0]._kwargs["fix_gamma"]
    gamma.set_data(mx.nd.full(gamma.shape, 3.0))
    expected, found = logits_by(net, tmp_path)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", network.NAMES)
def test_every_net_can_be_exported(tmp_path, name):
    """At a size whose maps are not what the zoo's pooling windows expect."""
    expected, found = logits_by(network.build(name, reference=True), tmp_path, size=96)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.slow
def test_five_densenets_at_320_px_pool_all_of_the_map(tmp_path):
    """The zoo's pool the top left only: a change at the bottom right must count."""
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
    """Predict and give (rows of OUT.csv, rows of --images, what predict returned)."""
    config = PredictConfig(
        tuple(world / each for each in inputs_),
        tmp_path / "out.csv",
        tuple(world / run for run in runs),
        images=tmp_path / "images.csv",
        **{"ctx": "cpu()", "overwrite": True, **options},
    )
    result = predict.predict(config)
    return read(tmp_path / "out.csv"), read(tmp_path / "images.csv"), result


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


INPUTS = ("MURA-v1.1/valid_image_paths.csv", "MURA-v1.1/valid", "packed/valid.rec")


@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("options", [{}, {"members": 2}, {"reference": True}])
def test_predicting_by_the_file_is_predicting_by_the_run(
    world, tmp_path, given, options
):
    theirs = ask(world, tmp_path, given, runs=("run",), **options)
    ours = ask(world, tmp_path, given, **options)
    for our_rows, their_rows in zip(ours[:2], theirs[:2]):
        assert len(our_rows) == len(their_rows) > 1
        for our, their in zip(our_rows, their_rows):
            assert our.keys() == their.keys()
            for column, value in our.items():
                if column == "probability" or column.startswith("member_"):
                    assert float(value) == pytest.approx(float(their[column]), abs=1e-5)
                elif column != "prediction":
                    assert value == their[column]
    assert len(ours[2].losses) == options.get("members", 3)
    for our, their in zip(ours[2].losses.items(), theirs[2].losses.items()):
        assert our[0].name == their[0].name
        assert our[1] == pytest.approx(their[1], abs=1e-5)


def test_several_runs_in_one_file_predict_as_they_do_together(world, tmp_path):
    given = INPUTS[0]
    together, _, _ = ask(world, tmp_path, given, runs=("run", "other"), members=4)
    exported, _, _ = ask(world, tmp_path, given, runs=("both.onnx",), members=4)
    for one, two in zip(together, exported):
        assert one["study"] == two["study"]
        assert float(one["probability"]) == pytest.approx(
            float(two["probability"]), abs=1e-5
        )


@pytest.mark.parametrize("members", [2, 4])
def test_maps_by_the_file_are_those_of_the_runs(world, tmp_path, members):
    """Two of four members, too, whose mean is not that of all."""
    given, found = INPUTS[0], {}
    for name, runs in {"run": ("run", "other"), "file": ("both.onnx",)}.items():
        ask(world, tmp_path, given, runs=runs, members=members, cam=tmp_path / name)
        found[name] = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
    assert len(found["run"]) == 2 * 16 + 1
    for ours, theirs in zip(found["file"], found["run"]):
        assert ours.relative_to(tmp_path / "file") == theirs.relative_to(
            tmp_path / "run"
        )
        if ours.suffix == ".npy":
            one, two = np.load(ours), np.load(theirs)
            assert (one.dtype, one.shape) == (two.dtype, two.shape)
            np.testing.assert_allclose(one, two, rtol=0, atol=1e-4)
        elif ours.suffix == ".json":
            differ = ("made_from", "sha256", "checksum")
            one, two = (json.loads(each.read_text()) for each in (ours, theirs))
            assert [one.pop(key) != two.pop(key) for key in differ]
            assert one == two
        else:
            one, two = cv2.imread(str(ours)), cv2.imread(str(theirs))
            assert np.abs(one.astype(int) - two).max() <= 2


def test_maps_of_nets_whose_maps_differ_in_size_keep_their_means(tmp_path):
    """A SqueezeNet's map is finer than a ResNet's: all come in the finer size."""
    nets = [network.build(n, reference=True) for n in ("squeezenet1.1", "resnet18_v1b")]
    model = onnx_graph.merge([onnx_graph.convert(net, 96) for net in nets], 96, {})
    (tmp_path / "two.onnx").write_bytes(model.SerializeToString())
    pixels = synthetic.blobs(2, 96)
    logits, maps = session(tmp_path / "two.onnx").run(
        ["logits", "maps"], {"pixels": pixels}
    )
    (looked,) = forward.cams(nets, [pixels], [mx.cpu()], reference=True)
    assert maps.shape[:2] == (2, 2)
    scale = np.abs(looked.maps).max()
    np.testing.assert_allclose(
        maps.mean(axis=1) / scale, looked.maps / scale, rtol=0, atol=1e-5
    )
    bias = [net.output.bias.data().asscalar() for net in nets]
    np.testing.assert_allclose(
        (maps.mean(axis=(2, 3)) + bias) / scale, logits / scale, rtol=0, atol=1e-4
    )


def test_a_file_with_fewer_members_than_asked_for_is_said(world, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        ask(world, tmp_path, INPUTS[0])
    assert "fewer members than the paper's 5: the file holds 3 only" in caplog.text


def test_the_images_that_trained_a_file_are_known(world, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        ask(world, tmp_path, "packed/train.rec")
    assert "trained the nets" in caplog.text


WITHOUT = """
import sys
import tempfile
from pathlib import Path
sys.modules["mxnet"] = sys.modules["gluoncv"] = None
from xenon_mx.commands import predict as predicting
from xenon_mx.config import PredictConfig
given, out, run = map(Path, sys.argv[1:])
predicting.predict(PredictConfig((given,), out, (run,), cam=out.with_name("maps")))
"""


@pytest.mark.parametrize("given", [INPUTS[0], INPUTS[2]])
def test_no_mxnet_is_needed_and_nothing_is_grumbled(world, tmp_path, given):
    arguments = [str(world / given), str(tmp_path / "o.csv"), str(world / "run.onnx")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments],
        capture_output=True,
        text=True,
    )
    expected = ("fewer members", "maps of 2x2 cells are too coarse")  # both are true
    said = [x for x in done.stderr.splitlines() if not x.startswith(expected)]
    assert (done.returncode, done.stdout, said) == (0, "", [])
    assert len(read(tmp_path / "o.csv")) == 8
    assert len(list((tmp_path / "maps").rglob("*.cam.png"))) == 16


def test_onnxruntime_has_nothing_to_warn_of(world):
    """As any program would use it: with all warnings on, in a process of its own."""
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
    # What it says of a machine without a GPU is not of the file.
    assert [line for line in lines if "device_discovery" not in line] == []


@pytest.mark.parametrize("encoding", ["jpg", "png"])
def test_opencv_and_mxnet_decode_a_record_to_the_same_pixels(world, tmp_path, encoding):
    shutil.copytree(world / "MURA-v1.1" / "valid", tmp_path / "MURA-v1.1" / "valid")
    folder = tmp_path / "packed"
    pack.pack(PackConfig(tmp_path / "MURA-v1.1", folder, size=47, encoding=encoding))
    config = PredictConfig((folder / "valid.rec",), Path("o.csv"), (), batch_size=5)
    source = inputs.InputImages(config, Preprocessing(47, "stretch"))
    theirs, ours = list(source.batches()), list(source.batches(with_mxnet=False))
    assert (
        [len(each) for each in ours] == [len(each) for each in theirs] == [5, 5, 5, 1]
    )
    np.testing.assert_array_equal(np.concatenate(ours), np.concatenate(theirs))


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
def test_what_is_no_whole_file_of_ours_is_refused_in_one_line(world, tmp_path, kind):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(BAD[kind]((world / "run.onnx").read_bytes()))
    with pytest.raises(XenonError, match=r"bad\.onnx: neither a run") as caught:
        ask(world, tmp_path, INPUTS[0], runs=(bad,))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.csv").exists()


def test_a_file_of_a_later_format_is_refused(world, tmp_path):
    later = onnx.load_from_string(foreign(b""))
    helper.set_model_props(later, {"format": "2"})
    (tmp_path / "later.onnx").write_bytes(sealed(later.SerializeToString()))
    with pytest.raises(XenonError, match=r"later\.onnx: not of format 1"):
        ask(world, tmp_path, INPUTS[0], runs=(tmp_path / "later.onnx",))


@pytest.mark.parametrize(
    ("runs", "options", "said"),
    [
        (("run.onnx", "run"), {}, "an ensemble by itself"),
        (("run", "both.onnx"), {}, "an ensemble by itself"),
        (("none.onnx",), {}, r"none\.onnx: no such file"),
        (("run.onnx",), {"ctx": "gpu(0)"}, "no CUDA.*onnxruntime-gpu.*cpu"),
        (("run.onnx",), {"ctx": "gpu(0),gpu(1)"}, "one device"),
    ],
)
def test_what_a_file_cannot_do_is_said(world, tmp_path, runs, options, said):
    with pytest.raises(XenonError, match=said):
        ask(world, tmp_path, INPUTS[0], runs=runs, **options)
    assert not (tmp_path / "out.csv").exists()


def test_without_a_ctx_the_one_that_is_taken_is_said(world, caplog):
    ensemble = OnnxEnsemble.open(world / "run.onnx", 3)
    with caplog.at_level(logging.INFO):
        ensemble.logits([synthetic.blobs(1, SIZE)])
    assert "ctx: cpu(0) (this ONNX Runtime has no CUDA" in caplog.text


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
    ("name", "said"),
    [
        ("no/such/x.onnx", "does not exist"),
        ("folder.onnx", "is a folder"),
        ("pipe.onnx", "no ordinary file"),
        ("x.params", r"not named \.onnx"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(world, tmp_path, name, said):
    (tmp_path / "folder.onnx").mkdir()
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises((XenonError, ConfigError), match=said):
        export.export(ExportConfig((world / "run",), tmp_path / name))


def test_a_link_is_written_through(world, tmp_path):
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real.onnx")
    config = ExportConfig((world / "run",), tmp_path / "link.onnx", members=1)
    export.export(config)
    assert (tmp_path / "link.onnx").is_symlink()
    assert OnnxEnsemble.open(tmp_path / "real.onnx", 5).members[0].epoch > 0


def test_a_folder_that_is_no_run_is_refused(world, tmp_path):
    with pytest.raises(XenonError, match="not a run"):
        export.export(ExportConfig((world / "packed",), tmp_path / "x.onnx"))
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_comes_next(world, tmp_path, capsys):
    out = tmp_path / "x.onnx"
    arguments = [str(world / "run"), str(out), "--members", "2"]
    cli._export.main(arguments, standalone_mode=False)
    said = capsys.readouterr()
    assert said.out == ""
    assert f"2 members in {out}\n" in said.err
    assert said.err.endswith(f"next: xenon-predict INPUT OUT.csv --run {out}\n")


@pytest.mark.parametrize("wrong", [2e-5, np.nan])
def test_probabilities_that_differ_are_not_written(wrong):
    ours = np.array([[0.5, 0.25]])
    out = Path("x.onnx")
    export.check_equal(out, "members", ours, ours + 0.9e-5, export.TOLERANCE)
    wrongly = ours + [[0, wrong]]
    with pytest.raises(XenonError, match=r"x\.onnx: not written: its members"):
        export.check_equal(out, "members", ours, wrongly, export.TOLERANCE)


@pytest.mark.slow
def test_an_environment_without_mxnet_predicts(world, tmp_path):
    """As README says: `pip install '.[onnx]'` in a fresh one, then xenon-predict."""
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "data", "tests")
    shutil.copytree(paths.ROOT, source, ignore=ignored)
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
        found = read(tmp_path / "there.csv")
        assert len(found) == len(expected)
        for one, two in zip(found, expected):
            assert one["study"] == two["study"]
            assert float(one["probability"]) == pytest.approx(
                float(two["probability"]), abs=1e-5
            )


def test_exporting_writes_no_file_but_its_own(world, tmp_path, monkeypatch):
    """MXNet's exporter writes one, in a folder that may be small."""
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
