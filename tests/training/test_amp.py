"""`--amp`: exact resume, float32 in what is saved, and what is refused.

Tests in this process leave MXNet's sums of gradients as they are, since a process has
one kind. MXNet's CPU build has no float16 convolution: where a test trains in float16,
the layers compute in bfloat16, and the rest is float16's.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import synthetic
from support.outcome import outcome
from support.runs import train_config

from xenon_mx.commands import train
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.models import mixed_precision, weight_files
from xenon_mx.runs.run_folder import Run
from xenon_mx.runtime import files, gradient_sums, half_precision
from xenon_mx.runtime.half_precision import BFLOAT16, FLOAT16
from xenon_mx.runtime.mxnet import mx

NET = "resnet18_v1"  # the smallest that gains
config = partial(train_config, model=NET, amp=True, lr=1e-3, batch_size=4, epochs=1)
needs_bfloat16 = pytest.mark.skipif(
    not half_precision.can_gain([mx.cpu()]), reason="this processor has no bfloat16"
)


@pytest.fixture(autouse=True)
def sums_as_they_are(monkeypatch):
    monkeypatch.setattr(gradient_sums, "choose", lambda in_place: None)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("amp") / "packed"
    splits = {"train": synthetic.labelled(12), "valid": synthetic.labelled(8, seed=9)}
    return synthetic.pack(folder, splits)


@pytest.fixture
def trains_in(monkeypatch):
    """Have this device train in a type."""

    def patch(dtype):
        monkeypatch.setattr(half_precision, "dtype", lambda ctxs: dtype)
        monkeypatch.setattr(half_precision, "can_gain", lambda ctxs: True)

    cast = mixed_precision.cast_features
    monkeypatch.setattr(
        mixed_precision, "cast_features", lambda net, dtype: cast(net, BFLOAT16)
    )
    return patch


@needs_bfloat16
@pytest.mark.parametrize(
    "dtype", [BFLOAT16, pytest.param(FLOAT16, marks=pytest.mark.slow)]
)
def test_resumed_a_run_ends_with_the_bytes_of_one_that_was_not_stopped(
    packed, tmp_path, trains_in, dtype
):
    trains_in(dtype)
    train.train(config(packed, tmp_path / "whole", epochs=3))
    train.train(config(packed, tmp_path / "parts", epochs=1))
    train.train(config(packed, tmp_path / "parts", epochs=3, resume=True))
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")
    meta = Run.open(tmp_path / "whole").meta
    assert (meta.amp, meta.settings["amp"]) == (dtype, True)


@needs_bfloat16
@pytest.mark.slow
def test_frozen_epochs_resume_exactly(packed, tmp_path):
    train.train(config(packed, tmp_path / "first", epochs=1))
    options = {"no_pretrained": False, "pretrained": str(tmp_path / "first")}
    options["freeze_epochs"] = 1
    train.train(config(packed, tmp_path / "whole", epochs=2, **options))
    train.train(config(packed, tmp_path / "parts", epochs=1, **options))
    train.train(config(packed, tmp_path / "parts", epochs=2, resume=True, **options))
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


@needs_bfloat16
def test_the_loss_scale_is_part_of_the_state(packed, tmp_path, trains_in):
    trains_in(FLOAT16)
    run = tmp_path / "run"
    train.train(config(packed, run, epochs=1))
    path = run / "last" / "state.json"
    state = files.read_json(path)
    scale = state["handlers"].pop("loss_scale")
    assert scale["scale"] * 2 ** scale["unskipped"] >= 1
    files.write_json(path, state)
    with pytest.raises(XenonError, match=f"{run}: damaged: .* loss scale"):
        train.train(config(packed, run, epochs=2, resume=True))


@needs_bfloat16
def test_what_is_saved_is_float32_and_not_rounded_to_16_bits(packed, tmp_path):
    train.train(config(packed, tmp_path / "run"))
    for file in (tmp_path / "run").glob("*/*.[ps][at]*"):
        for name, array in weight_files.read(file).items():
            assert array.dtype == "float32"
            if name.endswith("conv0.weight"):
                assert (array.view("uint32") & 0xFFFF).any()


@needs_bfloat16
def test_a_run_on_two_contexts_works_whole(packed, tmp_path):
    options = {"ctx": "cpu(0),cpu(1)", "epochs": 2}
    train.train(config(packed, tmp_path / "run", **options))
    assert len(outcome(tmp_path / "run")[0]) == 2


@needs_bfloat16
def test_without_amp_one_line_says_that_there_is_amp(packed, tmp_path, caplog):
    said = "this device has bfloat16: --amp would train faster"
    for amp, model in ((False, NET), (True, NET), (False, "mobilenet0.25")):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            train.train(
                config(packed, tmp_path / f"{model} {amp}", amp=amp, model=model)
            )
        assert (said in caplog.messages) is (not amp and model == NET)
        assert ("computing in bfloat16, with float32 weights" in caplog.messages) is amp


def test_a_net_that_would_gain_nothing_is_refused(packed, tmp_path, trains_in):
    trains_in(BFLOAT16)
    with pytest.raises(ConfigError, match="--amp: mobilenet0.25 would gain nothing"):
        train.train(config(packed, tmp_path / "run", model="mobilenet0.25"))
    assert not (tmp_path / "run").exists()


def test_a_device_that_would_gain_nothing_is_refused(packed, tmp_path, monkeypatch):
    monkeypatch.setattr(half_precision, "cpu_flags", lambda: {"avx2"})
    with pytest.raises(ConfigError, match="--amp: this processor has no bfloat16"):
        train.train(config(packed, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@needs_bfloat16
def test_a_run_is_not_resumed_in_another_type(packed, tmp_path, trains_in):
    trains_in(FLOAT16)
    run = tmp_path / "run"
    train.train(config(packed, run))
    before = outcome(run)
    trains_in(BFLOAT16)
    with pytest.raises(XenonError, match="trained in float16, .* it in bfloat16"):
        train.train(config(packed, run, epochs=2, resume=True))
    with pytest.raises(XenonError, match="--amp was True and is False"):
        train.train(config(packed, run, epochs=2, resume=True, amp=False))
    assert outcome(run) == before


FLAGS = ("--model", NET, "--no-pretrained", "--ctx=cpu()", "--lr=1e-3", "--amp")
PROGRAMS = Path(sys.executable).parent


def start(name, *arguments):
    """Start a program of xenon's in a process group of its own."""
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [PROGRAMS / name, *map(str, arguments)],
        env={**os.environ, "PATH": path},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(*command):
    with start(*command) as process:
        said = process.stderr.read()
    assert process.returncode == 0, said
    return said


@needs_bfloat16
@pytest.mark.slow
def test_killed_and_resumed_in_processes_of_their_own(packed, tmp_path):
    run, whole = tmp_path / "run", tmp_path / "whole"
    with start("xenon-train", packed.folder, run, *FLAGS, "--epochs=500") as process:
        for line in process.stderr:
            if line.startswith("epoch 2/"):
                break
        os.killpg(process.pid, signal.SIGKILL)
    epochs = f"--epochs={len(outcome(run)[0]) + 2}"
    finish("xenon-train", packed.folder, run, "--resume", epochs)
    finish("xenon-train", packed.folder, whole, *FLAGS, epochs)
    assert outcome(run) == outcome(whole)


@needs_bfloat16
@pytest.mark.slow
def test_two_workers_end_with_one_net(packed, tmp_path):
    run = tmp_path / "run"
    command = ["xenon-train", packed.folder, run, *FLAGS, "--epochs=2"]
    command += ["--kvstore=dist_sync", "--batch-size=3"]
    said = finish("xenon-launch", "-n", 2, "--", *command)
    assert len(outcome(run)[0]) == 2
    assert Run.open(run).meta.amp == BFLOAT16
    assert "computing in bfloat16, with float32 weights" in said
