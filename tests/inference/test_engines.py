"""Three engines, one ensemble: the same members, the same probabilities."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import openvino
import pytest
from support import processes, untrained
from support.predictions import predict_tables, read

import xenon_mx as xenon
from xenon_mx.commands import export
from xenon_mx.config import ExportConfig, PredictConfig
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.evaluation import metrics
from xenon_mx.inference import engines, ensembles, export_cache, export_process

SIZE = 64
OTHERS = ("onnxruntime", "openvino")
HAS_BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
needs_bf16 = pytest.mark.skipif(not HAS_BF16, reason="the processor has no bfloat16")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two runs whose maps differ in size, their ONNX file, images, and a cache."""
    base = tmp_path_factory.mktemp("world")
    untrained.write_run(base / "run", "mobilenet0.25", SIZE)
    untrained.write_run(base / "other", "squeezenet1.1", SIZE, members=1)
    export.export(ExportConfig((base / "run", base / "other"), base / "both.onnx"))
    untrained.images(base / "MURA-v1.1", 11, 50)
    return base


@pytest.fixture(autouse=True)
def cache(world, monkeypatch):
    """The folder of the cache, which the tests of this module share."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(world / "cache"))
    return export_cache.default_folder()


def ask(world, tmp_path, *runs, **options):
    """Predict; return the rows of OUT.csv, those of --images, and the record."""
    paths = [world / run for run in runs]
    images = [world / "MURA-v1.1" / "valid"]
    tables = predict_tables(tmp_path, images, paths, **options)[:2]
    record = json.loads((tmp_path / "out.csv.json").read_text())["provenance"]
    return (*tables, record)


def numbers(rows):
    """Return the columns of probabilities, (N, k) float64."""
    keys = [k for k in rows[0] if k == "probability" or k.startswith("member_")]
    return np.array([[float(row[key]) for key in keys] for row in rows])


def texts(rows):
    """Return all other columns."""
    return [
        {k: v for k, v in r.items() if k != "probability" and "member_" not in k}
        for r in rows
    ]


@pytest.mark.parametrize("runtime", OTHERS)
@pytest.mark.parametrize(
    ("runs", "options"),
    [
        (("run",), {"members": 2, "batch_size": 4}),
        (("both.onnx",), {}),
        pytest.param(("run",), {}, marks=pytest.mark.slow),
        pytest.param(("run", "other"), {"reference": True}, marks=pytest.mark.slow),
    ],
)
def test_an_engine_predicts_what_mxnet_predicts(
    world, tmp_path, runtime, runs, options
):
    by_mxnet = ("run", "other") if runs == ("both.onnx",) else runs
    *tables, record = ask(world, tmp_path, *by_mxnet, **options)
    *others, other = ask(world, tmp_path, *runs, runtime=runtime, **options)
    for expected, actual in zip(tables, others):
        assert np.ptp(numbers(expected)) > 0.01  # images differ, and so do members
        np.testing.assert_allclose(
            numbers(actual), numbers(expected), rtol=0, atol=1e-5
        )
        assert texts(actual) == texts(expected)
    sums = [
        [member["sha256"] for member in each["ensemble"]["members"]]
        for each in (record, other)
    ]
    assert sums[0] == sums[1]
    if runs == by_mxnet:
        assert other["ensemble"] == record["ensemble"]


@pytest.mark.parametrize("runtime", OTHERS)
def test_the_maps_are_those_of_mxnet(world, tmp_path, runtime):
    """Also of nets with different numbers of cells."""
    found = {}
    for name in ("mxnet", runtime):
        folder = tmp_path / name
        ask(world, tmp_path, "run", "other", runtime=name, cam=folder)
        files = sorted(folder.rglob("*.npy"))
        found[name] = np.stack([np.load(file) for file in files])
    scale = np.abs(found["mxnet"]).max()
    np.testing.assert_allclose(
        found[runtime] / scale, found["mxnet"] / scale, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(
    ("runs", "runtime", "resolved"),
    [
        ("run", None, "mxnet"),
        ("both.onnx", None, "onnxruntime"),
        ("run", "onnxruntime", "onnxruntime"),
        ("both.onnx", "openvino", "openvino"),
    ],
)
def test_the_record_says_what_computed(world, tmp_path, runs, runtime, resolved):
    *_, record = ask(world, tmp_path, runs, runtime=runtime)
    assert record["command"]["runtime"] == resolved
    assert record["command"]["precision"] == "f32"
    others = {"mxnet", *OTHERS} - {resolved}
    assert resolved in record["versions"]
    assert not others & set(record["versions"])


WITHOUT = """
import sys
from pathlib import Path
for name in ("mxnet", "gluoncv", "onnx"):
    sys.modules[name] = None
from xenon_mx.commands import predict
from xenon_mx.config import PredictConfig
given, out, run = map(Path, sys.argv[1:4])
predict.predict(PredictConfig((given,), out, (run,), runtime=sys.argv[4]))
"""


def without_mxnet(world, out, runtime, **variables):
    """Predict in a process that cannot import MXNet and onnx."""
    arguments = [world / "MURA-v1.1" / "valid", out, world / "run", runtime]
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *map(str, arguments)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize("runtime", OTHERS)
def test_a_run_that_was_exported_needs_no_mxnet(world, tmp_path, runtime):
    expected, *_ = ask(world, tmp_path, "run", runtime=runtime)
    done = without_mxnet(world, tmp_path / "there.csv", runtime)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "there.csv") == expected


def test_a_run_that_was_not_exported_names_what_to_install(world, tmp_path):
    cold = {"XDG_CACHE_HOME": str(tmp_path / "cold")}
    done = without_mxnet(world, tmp_path / "there.csv", "openvino", **cold)
    last = done.stderr.splitlines()[-1]
    assert "needs MXNet, gluoncv, onnx: pip install '.[cpu,export]'" in last
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("runtime", OTHERS)
def test_an_engine_that_is_missing_is_named_before_anything_is_exported(
    world, tmp_path, monkeypatch, runtime
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cold"))
    monkeypatch.setitem(sys.modules, runtime, None)
    extra = {"onnxruntime": "onnx"}.get(runtime, runtime)
    with pytest.raises(XenonError, match=rf"{runtime} is not installed.*\[{extra}\]"):
        ask(world, tmp_path, "run", runtime=runtime)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("runs", "options", "message"),
    [
        (
            "both.onnx",
            {"runtime": "mxnet"},
            r"both\.onnx: MXNet cannot compute an ONNX",
        ),
        ("run", {"runtime": "openvino", "ctx": "gpu(0)"}, "on CPUs only"),
        ("run", {"runtime": "onnxruntime", "ctx": "gpu(0),gpu(1)"}, "name only one"),
        ("run", {"runtime": "onnxruntime", "ctx": "gpu(0)"}, "no CUDA.*cpu"),
    ],
)
def test_what_an_engine_cannot_do_is_one_error(world, tmp_path, runs, options, message):
    with pytest.raises(XenonError, match=message):
        ask(world, tmp_path, runs, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "bf16"}, "give --runtime openvino"),
        ({"precision": "bf16", "runtime": "mxnet"}, "mxnet gains nothing"),
        ({"precision": "bf16", "runtime": "onnxruntime"}, "onnxruntime has none"),
        ({"precision": "fp16"}, "must be f32 or bf16"),
        ({"runtime": "tensorrt"}, "must be mxnet or onnxruntime or openvino"),
        (
            {"precision": "bf16", "runtime": "openvino", "reference": True},
            "contradicts --reference",
        ),
    ],
)
def test_a_precision_that_an_engine_does_not_have_is_wrong_usage(options, message):
    with pytest.raises(ConfigError, match=message):
        PredictConfig((), Path("-"), (), **options)


def test_bfloat16_is_refused_where_the_processor_has_none(world, tmp_path, monkeypatch):
    core = type("Core", (), {"get_property": staticmethod(lambda *_: ["FP32", "INT8"])})
    monkeypatch.setattr(openvino, "Core", core)
    with pytest.raises(XenonError, match="has no bfloat16 arithmetic.*f32"):
        ask(world, tmp_path, "run", runtime="openvino", precision="bf16")


def logits_of(world, run, precision, pixels):
    config = PredictConfig(
        (), Path("-"), (), runtime="openvino", precision=precision, ctx="cpu()"
    )
    ensemble = ensembles.open_ensemble([world / run], None)
    engine = engines.open_engine(ensemble, config)
    _, batches = engine.cams([pixels])
    logits, maps = zip(*[(batch.logits, batch.maps) for batch in batches])
    return np.concatenate(logits), np.concatenate(maps)


@needs_bf16
@pytest.mark.parametrize("run", ["run", "both.onnx"])
def test_bfloat16_is_near_and_rounds_neither_logits_nor_maps(world, run):
    """bfloat16 has the upper 16 bits of a float32: rounded, the lower ones are 0."""
    pixels = np.random.RandomState(3).randint(0, 256, (40, SIZE, SIZE), np.uint8)
    exact, _ = logits_of(world, run, "f32", pixels)
    logits, maps = logits_of(world, run, "bf16", pixels)
    assert np.abs(logits - exact).max() > 1e-6  # it is another arithmetic
    difference = metrics.sigmoid(logits) - metrics.sigmoid(exact)
    assert np.abs(difference).max() < 0.05
    for array in (logits, maps):
        lower = np.ascontiguousarray(array).view(np.uint32) & 0xFFFF
        assert np.mean(lower == 0) < 0.1
    for column in logits.T:
        assert len(np.unique(column)) == len(column)


@needs_bf16
def test_openvino_computes_in_float32_unless_it_is_asked_not_to(world, tmp_path):
    """By default, it takes bfloat16 wherever the processor has it."""
    exact, _, record = ask(world, tmp_path, "run", runtime="openvino")
    rounded, _, other = ask(
        world, tmp_path, "run", runtime="openvino", precision="bf16"
    )
    by_mxnet, *_ = ask(world, tmp_path, "run")
    expected = numbers(by_mxnet)
    assert np.abs(numbers(exact) - expected).max() < 1e-5
    assert np.abs(numbers(rounded) - expected).max() > 1e-5
    assert [r["command"]["precision"] for r in (record, other)] == ["f32", "bf16"]


def test_params_that_changed_are_refused_although_their_graphs_are_kept(
    world, tmp_path
):
    ask(world, tmp_path, "run", runtime="openvino")
    shutil.copytree(world / "run", tmp_path / "run")
    (tmp_path / "MURA-v1.1").symlink_to(world / "MURA-v1.1")
    first, *_ = sorted((tmp_path / "run" / "params").iterdir())
    first.write_bytes(first.read_bytes()[:-1] + b"\1")
    with pytest.raises(XenonError, match="damaged: its SHA-256 is not the one"):
        ask(tmp_path, tmp_path, "run", runtime="openvino")
    first.unlink()
    with pytest.raises(XenonError, match="No such file"):
        ask(tmp_path, tmp_path, "run", runtime="openvino")


def test_damaged_entries_are_made_anew(world, tmp_path, cache, caplog):
    expected, *_ = ask(world, tmp_path, "run", members=2, runtime="openvino")
    entries = {entry: entry.read_bytes() for entry in cache.glob("*.onnx")}
    for entry, whole in entries.items():
        entry.write_bytes(whole[:1000] + b"\0" + whole[1001:])
    found, *_ = ask(world, tmp_path, "run", members=2, runtime="openvino")
    assert found == expected
    repaired = [e for e, whole in entries.items() if e.read_bytes() == whole]
    assert len(repaired) == 2
    for entry in repaired:
        assert f"{entry}: damaged: exporting that net again" in caplog.text


def test_a_loaded_ensemble_takes_an_engine(world):
    image = np.arange(40 * 60, dtype=np.uint8).reshape(40, 60)
    by_mxnet = xenon.load(world / "run", ctx="cpu()").predict_images([image])
    ensemble = xenon.load(world / "run", ctx="cpu()", runtime="openvino")
    found = ensemble.predict_images([image])
    np.testing.assert_allclose(found.probability, by_mxnet.probability, atol=1e-5)
    assert ensemble.predict_images([]).empty
    with pytest.raises(ConfigError, match="bf16"):
        xenon.load(world / "run", precision="bf16")


def test_an_error_of_the_exporting_process_is_one_of_its_caller(world):
    net = export_process.Net("no such net", str(world / "x.params"), "0" * 64, SIZE)
    with pytest.raises(XenonError, match="there is no net 'no such net'"):
        list(export_process.export([net]))


def test_an_exporting_process_that_dies_is_one_error(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/true")
    net = export_process.Net("mobilenet0.25", "x.params", "0" * 64, SIZE)
    with pytest.raises(XenonError, match="ended without a result"):
        list(export_process.export([net]))


def start(world, out, cold):
    """Start xenon-predict with a cold cache."""
    arguments = [world / "MURA-v1.1" / "valid", out, "--run", world / "run"]
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "xenon_mx", "predict"),
            *map(str, arguments),
            "--runtime=onnxruntime",
        ],
        env={**os.environ, "XDG_CACHE_HOME": str(cold)},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_at_once_export_once(world, tmp_path):
    cold = tmp_path / "cold"
    outs = [tmp_path / f"{number}.csv" for number in range(2)]
    started = [start(world, out, cold) for out in outs]
    messages = [each.communicate(timeout=200)[1] for each in started]
    assert [each.returncode for each in started] == [0, 0], messages
    assert read(outs[0]) == read(outs[1])
    assert sum("exporting 3 nets once" in text for text in messages) == 1
    assert sum("waiting for another xenon" in text for text in messages) == 1
    assert len(list((cold / "xenon").iterdir())) == 3


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_export_leaves_no_process_and_nothing_unfinished(
    world, tmp_path, number
):
    cold = tmp_path / "cold"
    started = start(world, tmp_path / "out.csv", cold)
    processes.wait_for(lambda: (cold / "xenon").exists())
    processes.wait_for(lambda: len(processes.left_over(str(cold))) >= 2)
    started.send_signal(number)
    _, message = started.communicate(timeout=100)
    if number != signal.SIGKILL:
        assert started.returncode == 128 + number
        assert message.splitlines()[-1] in ("terminated", "interrupted")
    processes.wait_for(lambda: not processes.left_over(str(cold)))
    assert not (tmp_path / "out.csv").exists()
    again = start(world, tmp_path / "out.csv", cold)
    again.communicate(timeout=100)
    assert again.returncode == 0
    assert len(list((cold / "xenon").iterdir())) == 3
