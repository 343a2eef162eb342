"""The search for a net's first weights: a file, a run, Gluon's model store, the hub.

Owns the order of the search, its time limits and its error messages. Must not know the
content of weights files.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

import huggingface_hub
import requests

from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.models import torch_config
from xenon_mx.models.weight_input import IMAGENET, Taken
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import RUN_JSON, PretrainedSource
from xenon_mx.runtime import progress
from xenon_mx.runtime.files import sha256
from xenon_mx.runtime.mxnet import model_zoo

GLUON, HUB = "gluon", "hub"  # values of --pretrained beside a path

# Chosen here: time for a server to answer. All are asked at once, so that a computer
# without a network has its error within ten seconds, the import of MXNet included.
_TIMEOUT_S = 3.0

# The default of MXNet and gluoncv, which the environment variable overrides.
_GLUON_REPO = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/"
_GLUON_REPO_VARIABLE = "MXNET_GLUON_REPO"
_HUB_FILE = torch_config.WEIGHTS
_CHUNK = 1 << 20


class Weights(NamedTuple):
    """A weights file and its source.

    Attributes:
        file: Its path.
        source: `file`, `run`, `gluon` or `hub`.
        origin: The path that the user gave, or the name of the download.
        trained_on: The input that its net was trained on, a value of
            --pretrained-input; None to see it from the file's layout.
    """

    file: Path
    source: str
    origin: str
    trained_on: str | None = None

    def record(self, taken: Taken | None = None) -> PretrainedSource:
        """Return the entry for run.json.

        Args:
            taken: How a net took the weights, if one has.
        """
        return PretrainedSource(
            self.source, self.origin, str(self.file), sha256(self.file), *(taken or ())
        )


class _MissingError(Exception):
    """The reason why a place does not have the weights."""


def find(
    model: str,
    wanted: str | None = None,
    bar: progress.Bar = progress.silent,
    trained_on: str | None = None,
) -> Weights:
    """Find the first weights of a net.

    Args:
        model: The net's name in Gluon's zoo.
        wanted: A weights file; a run folder, for its best epoch; a folder of
            model.safetensors and config.json; `gluon` or `hub` for that source alone.
            None searches Gluon's cache on this disk, then the hub's, then Gluon's
            store, then the hub.
        bar: Shows the download from Gluon's store; the hub's library has its own bar.
        trained_on: The value of --pretrained-input.

    Raises:
        XenonError: There are none; the message lists what was tried and what to do. Or
            their input is another one than `trained_on`.
    """
    if wanted not in (None, GLUON, HUB):
        return _from_path(model, Path(str(wanted)), trained_on)
    _check_imagenet(trained_on, "ImageNet weights: name a file with --pretrained")
    places = [place for place in _places(model) if wanted in (None, place.source)]
    if not places:
        raise XenonError(
            f"--pretrained {wanted or ''}: there are no ImageNet weights of {model} "
            f"there; xenon-train --list-models lists the sources of each net"
        )
    reasons: list[str] = []
    weights = _from_caches(places, reasons) or _from_servers(places, bar, reasons)
    if weights:
        return weights
    advice = ", or ".join(place.advice for place in reversed(places))
    raise XenonError(
        f"{model}: no ImageNet weights can be found or downloaded: {advice}, and name "
        f"the file with --pretrained; or start from random weights with "
        f"--no-pretrained",
        reasons,
    )


def _check_imagenet(trained_on: str | None, source: str) -> None:
    """Check that no other input was given for weights whose input is known."""
    if trained_on not in (None, IMAGENET):
        raise ConfigError("--pretrained-input", f"{trained_on} contradicts {source}")


def _from_caches(places: Sequence[_Gluon | _Hub], reasons: list[str]) -> Weights | None:
    """Return the first weights on this disk; append to `reasons` why there are none."""
    for place in places:
        try:
            return place.cached()
        except _MissingError as reason:
            reasons.append(f"{place.source}, on this disk: {reason}")
    return None


def _from_servers(
    places: Sequence[_Gluon | _Hub], bar: progress.Bar, reasons: list[str]
) -> Weights | None:
    """Download from the first server that answers; append to `reasons` why none did."""
    checks = [_Request(place.check_server) for place in places]
    for place, check in zip(places, checks):
        try:
            check.wait()
            return place.download(bar)
        except _MissingError as reason:
            reasons.append(f"{place.source}: {reason}")
    return None


def sources(model: str) -> list[str]:
    """Return the sources of a net's ImageNet weights: `gluon`, `hub`, both or none."""
    return [place.source for place in _places(model)]


def _from_path(model: str, path: Path, trained_on: str | None) -> Weights:
    """Return the file at a path, or in the folder or the run there."""
    if not (path / RUN_JSON).is_file() and torch_config.is_folder(path):
        torch_config.check_architecture(path, model)
        given = trained_on or torch_config.trained_on(path)
        return Weights(path / torch_config.WEIGHTS, "file", str(path), given)
    if path.is_dir():
        _check_imagenet(trained_on, f"--pretrained {path}, a run of xenon")
        members = Run.open(path).members()
        if not members:
            raise XenonError(f"{path}: the run has no finished epoch to start from")
        return _from_run(model, path, members[0].params)
    if not path.is_file():
        raise XenonError(
            f"--pretrained {path}: no such file or run; other values are {GLUON!r} and "
            f"{HUB!r}"
        )
    run = path.resolve().parent.parent
    if path.suffix == ".params" and (run / RUN_JSON).is_file():
        _check_imagenet(trained_on, f"--pretrained {path}, of a run of xenon")
        return _from_run(model, run, path)
    return Weights(path, "file", str(path), trained_on)


def _from_run(model: str, folder: Path, params: Path) -> Weights:
    """Return a checkpoint of a run, checked against its SHA-256."""
    run = Run.open(folder)
    if run.meta.model != model:
        raise XenonError(
            f"--pretrained {params}: of a run of {run.meta.model}, not of {model}: use "
            f"--model {run.meta.model}, or name other weights"
        )
    for member in run.members():
        if member.params.resolve() == params.resolve():
            member.check()
    return Weights(params, "run", str(params))


def _places(model: str) -> list[_Gluon | _Hub]:
    """Return the sources that have weights of a net, in the order of the search."""
    places: list[_Gluon | _Hub] = []
    sha1 = model_zoo.model_store._model_sha1.get(model)
    if sha1:
        places.append(_Gluon(model, sha1))
    name = re.fullmatch(r"(densenet\d+|resnet\d+)(_v1b)?", model)
    if name and (model.startswith("densenet") or name.group(2)):
        # timm's copies of torchvision's first ImageNet weights.
        places.append(_Hub(f"timm/{name.group(1)}.tv_in1k"))
    return places


class _Request:
    """A request on a thread of its own, because a DNS lookup has no time limit."""

    def __init__(self, send: Callable[[], None]) -> None:
        self._send = send
        self._failure: str | None = f"no answer within {_TIMEOUT_S:g} s"
        self._deadline = time.monotonic() + _TIMEOUT_S
        # A daemon, so that the program's exit does not wait for it.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._send()
            self._failure = None
        except _MissingError as error:
            self._failure = str(error)

    def wait(self) -> None:
        """Wait for the answer, at most until the deadline.

        Raises:
            _MissingError: The request failed, or there was no answer.
        """
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if self._failure:
            raise _MissingError(self._failure)


class _Gluon:
    """Gluon's model store, and MXNet's cache of its downloads."""

    source = GLUON

    def __init__(self, model: str, sha1: str) -> None:
        self._sha1 = sha1
        self._file = f"{model}-{sha1[:8]}.params"
        home = os.environ.get("MXNET_HOME", os.path.join("~", ".mxnet"))
        self._path = Path(home).expanduser() / "models" / self._file
        repo = os.environ.get(_GLUON_REPO_VARIABLE, _GLUON_REPO).rstrip("/")
        self._url = f"{repo}/gluon/models/{self._file[: -len('.params')]}.zip"
        self.advice = f"copy {self._file} from a computer that has it"

    def cached(self) -> Weights:
        """Return the file in the cache."""
        if not self._path.is_file():
            raise _MissingError(f"{self._path}: no such file")
        self._check(self._path)
        return Weights(self._path, self.source, self._file)

    def check_server(self) -> None:
        """Check that the server has the file."""
        with self._request("HEAD"):
            pass

    def download(self, bar: progress.Bar) -> Weights:
        """Download the file into the cache, under its name once it is complete."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._path.parent) as folder:
                archive, part = Path(folder) / "zip", Path(folder) / "params"
                self._download_archive(archive, bar)
                with zipfile.ZipFile(archive) as content:
                    part.write_bytes(content.read(self._file))
                self._check(part)
                os.replace(part, self._path)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise _MissingError(f"{self._url}: {error}") from error
        return Weights(self._path, self.source, self._url)

    def _download_archive(self, archive: Path, bar: progress.Bar) -> None:
        with self._request("GET") as response, open(archive, "wb") as stream:
            size = int(response.headers.get("Content-Length", 0)) or None
            options = {"unit": "B", "unit_scale": True, "desc": self._file}
            with bar(total=size, **options) as progress_bar:
                for chunk in response.iter_content(_CHUNK):
                    stream.write(chunk)
                    progress_bar.update(len(chunk))

    def _request(self, method: str) -> Any:
        try:
            response = requests.request(
                method, self._url, timeout=_TIMEOUT_S, stream=True, allow_redirects=True
            )
        except requests.Timeout as error:
            raise _MissingError(
                f"{self._url}: no answer within {_TIMEOUT_S:g} s"
            ) from error
        except requests.RequestException as error:
            raise _MissingError(f"{self._url}: cannot be reached") from error
        if not response.ok:
            raise _MissingError(f"{self._url}: answers {response.status_code}")
        return response

    def _check(self, path: Path) -> None:
        if hashlib.sha1(path.read_bytes()).hexdigest() != self._sha1:
            raise _MissingError(f"{path}: its SHA-1 is not {self._sha1}: damaged")


class _Hub:
    """A repository of the Hugging Face hub, and the cache of huggingface_hub."""

    source = HUB

    def __init__(self, repo: str) -> None:
        self._repo = repo
        self._endpoint = os.environ.get("HF_ENDPOINT")
        self._url = huggingface_hub.hf_hub_url(repo, _HUB_FILE, endpoint=self._endpoint)
        self.advice = f"download {self._url} on a computer with access to it"

    def cached(self) -> Weights:
        """Return the file in the cache."""
        path = huggingface_hub.try_to_load_from_cache(self._repo, _HUB_FILE)
        if not isinstance(path, str):
            raise _MissingError(f"{self._repo} is not in the cache of huggingface_hub")
        return self._weights(path)

    def check_server(self) -> None:
        """Check that the server has the file."""
        self._call(huggingface_hub.get_hf_file_metadata, self._url, timeout=_TIMEOUT_S)

    def download(self, bar: progress.Bar) -> Weights:
        """Download the file into the cache."""
        return self._weights(
            self._call(
                huggingface_hub.hf_hub_download,
                self._repo,
                _HUB_FILE,
                etag_timeout=_TIMEOUT_S,
                endpoint=self._endpoint,
            )
        )

    def _weights(self, path: str) -> Weights:
        file = Path(path)  # .../snapshots/<commit>/model.safetensors
        return Weights(file, self.source, f"{self._repo}@{file.parent.name}")

    def _call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        # huggingface_hub has changed its HTTP library twice, and passes on the errors
        # of each.
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise _MissingError(f"{self._url}: {lines[0]}") from error
