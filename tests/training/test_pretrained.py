"""Where first weights come from: each source alone, their order, and none at all."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import huggingface_hub.constants
import huggingface_hub.file_download
import numpy as np
import pytest
import synthetic
from safetensors.numpy import save_file

import xenon_mx as xenon
from xenon_mx.commands import train
from xenon_mx.config import TrainConfig
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.models import net_names, network
from xenon_mx.runs.run_folder import Run
from xenon_mx.runtime.mxnet import model_zoo, mx
from xenon_mx.training import pretrained, weight_places

COMMIT = "8c033a1f91d746e37e23229bf0445fff2125c89e"
HUB_PATH = f"timm/densenet121.tv_in1k/resolve/main/{weight_places.HUB_FILE}"


class _Server(http.server.SimpleHTTPRequestHandler):
    """Serves files as the hub does: with the headers that its library asks for."""

    def send_head(self):
        path = Path(self.translate_path(self.path))
        if path.is_file():
            self._etag = hashlib.sha256(path.read_bytes()).hexdigest()
        return super().send_head()

    def end_headers(self):
        if hasattr(self, "_etag"):
            self.send_header("ETag", f'"{self._etag}"')
            self.send_header("X-Repo-Commit", COMMIT)
        super().end_headers()

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving(folder):
    """Serve a folder on loopback; give the URL."""
    handler = functools.partial(_Server, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def silence():
    """Listen on loopback and never answer, as a filtered network does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _nobody(tmp_path, monkeypatch):
    """Empty caches, and servers that refuse every connection."""
    nowhere = "http://127.0.0.1:9"  # RFC 863's discard service: not in use
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "mxnet"))
    monkeypatch.setenv("MXNET_GLUON_REPO", nowhere)
    monkeypatch.setenv("HF_ENDPOINT", nowhere)
    cache = str(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", cache)
    # Where versions before 0.26 keep a copy.
    old = huggingface_hub.file_download
    monkeypatch.setattr(old, "HF_HUB_CACHE", cache, raising=False)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A folder that Gluon's store could be served from, with a small `densenet121`."""
    content = b"not really weights, but their bytes"
    sha1 = hashlib.sha1(content).hexdigest()
    table = {**model_zoo.model_store._model_sha1, "densenet121": sha1}
    monkeypatch.setattr(model_zoo.model_store, "_model_sha1", table)
    folder = tmp_path / "store" / "gluon" / "models"
    folder.mkdir(parents=True)
    name = f"densenet121-{sha1[:8]}"
    (folder / f"{name}.params").write_bytes(content)
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        archive.write(folder / f"{name}.params", f"{name}.params")
    return tmp_path / "store"


def gluon_file(store, end):
    (file,) = (store / "gluon" / "models").glob(f"*{end}")
    return file


@pytest.fixture
def hub(tmp_path):
    """A folder that the hub could be served from, with a small `densenet121`."""
    file = tmp_path / "served" / HUB_PATH
    file.parent.mkdir(parents=True)
    save_file({"a": np.zeros(3, np.float32)}, file)
    return tmp_path / "served"


def test_gluons_store_is_asked_once_and_then_its_cache(store, monkeypatch):
    with serving(store) as url:
        monkeypatch.setenv("MXNET_GLUON_REPO", url)
        first = pretrained.find("densenet121", "gluon")
    again = pretrained.find("densenet121", "gluon")  # the server is gone
    assert first.source == again.source == "gluon"
    assert first.file == again.file
    assert first.file.read_bytes() == gluon_file(store, ".params").read_bytes()
    assert first.origin.startswith(url)
    assert list(first.file.parent.iterdir()) == [first.file]


def test_the_hub_is_asked_once_and_then_its_cache(hub, monkeypatch):
    with serving(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        first = pretrained.find("densenet121", "hub")
    again = pretrained.find("densenet121", "hub")
    assert first.file.read_bytes() == (hub / HUB_PATH).read_bytes()
    assert first == again
    assert first.origin == f"timm/densenet121.tv_in1k@{COMMIT}"


def test_by_default_disks_come_before_servers_and_gluon_before_the_hub(
    store, hub, monkeypatch
):
    with serving(hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        assert pretrained.find("densenet121").source == "hub"  # gluon's is silent
        with serving(store) as gluons:
            monkeypatch.setenv("MXNET_GLUON_REPO", gluons)
            assert pretrained.find("densenet121").source == "hub"  # cached by now
            shutil.rmtree(huggingface_hub.constants.HF_HUB_CACHE)
            assert pretrained.find("densenet121").source == "gluon"


def test_a_damaged_file_in_gluons_cache_is_not_used(store, tmp_path, monkeypatch):
    cache = tmp_path / "mxnet" / "models"
    cache.mkdir(parents=True)
    good = gluon_file(store, ".params")
    (cache / good.name).write_bytes(good.read_bytes()[:-1])
    with pytest.raises(XenonError) as caught:
        pretrained.find("densenet121", "gluon")
    assert "SHA-1" in caught.value.details[0]
    with serving(store) as url:
        monkeypatch.setenv("MXNET_GLUON_REPO", url)
        assert pretrained.find("densenet121").file.read_bytes() == good.read_bytes()


@pytest.mark.parametrize("content", [b"", b"<html>moved</html>"])
def test_a_damaged_download_is_not_kept(store, tmp_path, monkeypatch, content):
    gluon_file(store, ".zip").write_bytes(content)
    with serving(store) as url:
        monkeypatch.setenv("MXNET_GLUON_REPO", url)
        with pytest.raises(XenonError) as caught:
            pretrained.find("densenet121", "gluon")
    assert "zip" in caught.value.details[-1]
    assert list((tmp_path / "mxnet" / "models").iterdir()) == []


def test_a_server_that_has_moved_on_is_named_with_its_answer(tmp_path, monkeypatch):
    with serving(tmp_path) as url:
        monkeypatch.setenv("MXNET_GLUON_REPO", url)
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(XenonError) as caught:
            pretrained.find("densenet169")
    assert "answers 404" in caught.value.details[2]
    assert "404" in caught.value.details[3]


def test_when_nobody_has_it_the_error_says_what_was_tried_and_what_to_do():
    with pytest.raises(XenonError) as caught:
        pretrained.find("densenet169")
    tried = "\n".join(caught.value.details)
    assert "densenet169-2603f878.params" in tried
    assert "timm/densenet169.tv_in1k" in tried
    for word in ("model.safetensors", "--pretrained", "--no-pretrained"):
        assert word in str(caught.value)


def test_a_silent_server_is_not_waited_for_longer_than_the_limit(monkeypatch):
    monkeypatch.setattr(weight_places, "_TIMEOUT_S", 0.3)
    with silence() as url:
        monkeypatch.setenv("MXNET_GLUON_REPO", url)
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(XenonError) as caught:
            pretrained.find("densenet169")
    assert "no answer within 0.3 s" in caught.value.details[2]


def test_a_name_server_that_never_answers_is_not_waited_for(monkeypatch):
    """Looking a name up has no time limit in Python."""
    monkeypatch.setattr(weight_places, "_TIMEOUT_S", 0.3)
    never = threading.Event()

    def look_up(*args, **kwargs):
        never.wait(60)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        with pytest.raises(XenonError) as caught:
            pretrained.find("densenet169")
    finally:
        never.set()
    assert all("no answer within" in each for each in caught.value.details[2:])


def test_a_source_that_does_not_know_the_net_says_so():
    with pytest.raises(XenonError, match="resnet50_v1 there.*--list-models"):
        pretrained.find("resnet50_v1", "hub")
    assert pretrained.sources("resnet50_v1") == ["gluon"]
    assert pretrained.sources("resnet50_v1b") == ["gluon", "hub"]


def test_a_path_that_is_not_there_is_refused_with_the_names_it_could_have_been():
    with pytest.raises(XenonError, match=r"hbu: no such file.*'gluon' and 'hub'"):
        pretrained.find("densenet121", "hbu")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of three epochs."""
    folder = tmp_path_factory.mktemp("sources")
    packed = synthetic.pack(
        folder / "packed",
        {"train": synthetic.labelled(16), "valid": synthetic.labelled(8)},
    )
    config = TrainConfig(
        packed.folder,
        folder / "run",
        model="mobilenet0.25",
        no_pretrained=True,
        ctx="cpu()",
        epochs=3,
        patience=3,
    )
    train.train(config)
    return folder / "run"


def test_a_run_gives_its_best_epoch_and_any_of_its_five(run):
    best, *others = json.loads((run / "best.json").read_text())["best"]
    found = pretrained.find("mobilenet0.25", str(run))
    assert (found.source, found.file) == ("run", run / best["params"])
    assert found.record().sha256 == best["sha256"]
    named = run / others[0]["params"]
    assert pretrained.find("mobilenet0.25", str(named)).file == named


def test_a_run_of_another_net_is_refused_by_both_names(run):
    with pytest.raises(XenonError, match=r"of mobilenet0\.25, not of mobilenet0\.5"):
        pretrained.find("mobilenet0.5", str(run))


def test_a_damaged_epoch_of_a_run_is_refused(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    params = copy / json.loads((copy / "best.json").read_text())["best"][0]["params"]
    content = bytearray(params.read_bytes())
    content[len(content) // 2] ^= 1
    params.write_bytes(content)
    for named in (copy, params):
        with pytest.raises(XenonError, match="damaged"):
            pretrained.find("mobilenet0.25", str(named))


def test_a_run_started_from_a_run_begins_with_its_net_whole(run, tmp_path):
    config = TrainConfig(
        run.parent / "packed",
        tmp_path / "next",
        model="mobilenet0.25",
        pretrained=str(run),
        ctx="cpu()",
        epochs=1,
        lr=1e-30,
        min_lr=0.0,
    )
    train.train(config)
    meta = json.loads((tmp_path / "next" / "run.json").read_text())["pretrained"]
    assert (meta["source"], meta["head"], meta["input"]) == ("run", "kept", "imagenet")
    before = mx.nd.load(meta["file"])
    after = mx.nd.load(str(tmp_path / "next" / "params" / "mobilenet0.25-0001.params"))
    still = [k for k in before if "running" not in k]
    assert all((before[k] == after[k]).asnumpy().all() for k in still)


@pytest.mark.parametrize("source", ["run", "gluon", "hub", None])
def test_another_input_than_that_of_the_source_is_refused(run, tmp_path, source):
    wanted = str(run) if source == "run" else source
    with pytest.raises(ConfigError, match="-input: xrv contradicts") as caught:
        pretrained.find("mobilenet0.25", wanted, pretrained_input="xrv")
    assert ("a run of xenon" in str(caught.value)) == (source == "run")
    if source == "run":
        found = pretrained.find("mobilenet0.25", wanted, pretrained_input="imagenet")
        assert found.source == "run"


def test_a_malformed_input_is_refused_before_anything_is_read(tmp_path):
    config = TrainConfig(
        tmp_path / "no", tmp_path / "run", pretrained="x", pretrained_input="2"
    )
    with pytest.raises(ConfigError, match=r"--pretrained-input: must be .*; not '2'"):
        train.train(config)


def one_channel(file):
    """Write weights of a MobileNet for one channel, without its last layer."""
    arrays = network.state_dict(network.build("mobilenet0.25"))
    arrays["features.0.weight"] = arrays["features.0.weight"][:, :1]
    del arrays["output.weight"], arrays["output.bias"]
    save_file({k: np.ascontiguousarray(a) for k, a in arrays.items()}, file)


def test_a_run_records_how_it_took_the_weights_and_resumes(run, tmp_path, caplog):
    one_channel(tmp_path / "x.safetensors")
    options = {
        "model": "mobilenet0.25",
        "pretrained": str(tmp_path / "x.safetensors"),
        "ctx": "cpu()",
        "epochs": 1,
        "progress": False,
    }
    with pytest.raises(XenonError, match="one input channel.*--pretrained-input: xrv"):
        xenon.train(run.parent / "packed", tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    with caplog.at_level(logging.INFO):
        options["pretrained_input"] = "2048,-1024"
        xenon.train(run.parent / "packed", tmp_path / "run", **options)
    changes = "(input xrv folded into the first convolution, last layer drawn anew)"
    assert f"from file: {tmp_path / 'x.safetensors'} {changes}" in caplog.text
    content = json.loads((tmp_path / "run" / "run.json").read_text())
    assert content["config"]["pretrained_input"] == "2048,-1024"
    assert content["pretrained"]["input"] == "xrv"
    assert content["pretrained"]["head"] == "drawn anew"
    xenon.train(
        run.parent / "packed", tmp_path / "run", resume=True, epochs=2, progress=False
    )
    assert len(Run.open(tmp_path / "run").log()) == 2


def xenon_train(*arguments, **environment):
    command = [Path(sys.executable).with_name("xenon-train"), *map(str, arguments)]
    started = time.monotonic()
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True
    )
    return done, time.monotonic() - started


@pytest.mark.slow
def test_without_an_answer_xenon_train_stops_soon(run, tmp_path):
    with silence() as url:
        done, seconds = xenon_train(
            run.parent / "packed",
            tmp_path / "run",
            MXNET_GLUON_REPO=url,
            HF_ENDPOINT=url,
            HF_HOME=str(tmp_path / "hub"),
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: densenet169: no ImageNet")
    assert not (tmp_path / "run").exists()
    assert (
        seconds < 40
    )  # two servers, three seconds each; MXNet itself waits for minutes


def test_weights_named_by_timm_start_a_run(run, tmp_path, monkeypatch, caplog):
    from models.test_weight_names import state_dict

    repository = "timm/resnet18.tv_in1k"
    served = (
        tmp_path / "served" / HUB_PATH.replace("timm/densenet121.tv_in1k", repository)
    )
    served.parent.mkdir(parents=True)
    save_file(state_dict("resnet18"), served)
    with serving(tmp_path / "served") as url, caplog.at_level(logging.INFO):
        monkeypatch.setenv("HF_ENDPOINT", url)
        options = {"model": "resnet18_v1b", "ctx": "cpu()", "epochs": 1}
        train.train(TrainConfig(run.parent / "packed", tmp_path / "run", **options))
    meta = json.loads((tmp_path / "run" / "run.json").read_text())["pretrained"]
    assert meta["source"] == "hub"
    assert meta["origin"] == f"{repository}@{COMMIT}"
    assert meta["sha256"] == hashlib.sha256(served.read_bytes()).hexdigest()
    assert f"from hub: {repository}@{COMMIT}" in caplog.text


@pytest.mark.slow
def test_weights_named_by_timm_start_a_run_of_densenet169(run, tmp_path):
    from goldens import state_dict

    served = tmp_path / "served" / HUB_PATH.replace("121", "169")
    served.parent.mkdir(parents=True)
    save_file(state_dict("densenet169"), served)
    with serving(tmp_path / "served") as url:
        done, _ = xenon_train(
            run.parent / "packed",
            tmp_path / "run",
            "--epochs=1",
            "--ctx=cpu()",
            MXNET_GLUON_REPO="http://127.0.0.1:9",
            HF_ENDPOINT=url,
            HF_HOME=str(tmp_path / "hub"),
        )
    assert done.returncode == 0, done.stderr
    meta = json.loads((tmp_path / "run" / "run.json").read_text())["pretrained"]
    assert meta["source"] == "hub"
    assert meta["origin"] == f"timm/densenet169.tv_in1k@{COMMIT}"
    assert meta["sha256"] == hashlib.sha256(served.read_bytes()).hexdigest()
    assert f"from hub: timm/densenet169.tv_in1k@{COMMIT}" in done.stderr


def test_every_net_with_weights_on_the_hub_has_names_for_them():
    from xenon_mx.models import weight_names

    for name in net_names.NAMES:
        assert ("hub" in pretrained.sources(name)) == (
            weight_names.torchvision_naming(name) is not None
        )
