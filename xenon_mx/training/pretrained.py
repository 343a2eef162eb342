"""Where a net's first weights come from: a file, a run, Gluon's store, the hub.

Owns the order of the search, its time limits and what to say when nothing is found.
Knows neither what is in a file nor what becomes of it.
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
from typing import Any, Callable, NamedTuple

import huggingface_hub
import requests

from xenon_mx.errors import XenonError
from xenon_mx.runs import run_folder
from xenon_mx.runtime import progress
from xenon_mx.runtime.files import sha256
from xenon_mx.runtime.mxnet import model_zoo

GLUON, HUB = "gluon", "hub"  # what --pretrained takes beside a path

# How long a server may be silent. All are asked at once, so that a computer without a
# network has its answer within ten seconds, the import of MXNet included.
_LIMIT_S = 3.0

# The default of MXNet and gluoncv; the environment variable names another.
_GLUON_REPO = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/"
_GLUON_REPO_VARIABLE = "MXNET_GLUON_REPO"
_HUB_FILE = "model.safetensors"
_CHUNK = 1 << 20


class Weights(NamedTuple):
    """A weights file, and where it is from.

    Attributes:
        file: Its path.
        source: `file`, `run`, `gluon` or `hub`.
        origin: The path that was given, or the name of what was downloaded.
    """

    file: Path
    source: str
    origin: str

    def record(self) -> dict[str, str]:
        """Say for run.json which weights these are."""
        return {
            "source": self.source,
            "origin": self.origin,
            "file": str(self.file),
            "sha256": sha256(self.file),
        }


class _MissingError(Exception):
    """A place does not have the weights; says why."""


def find(
    model: str, wanted: str | None = None, bar: progress.Bar = progress.silent
) -> Weights:
    """Find the first weights of a net.

    Args:
        model: The net's name in Gluon's zoo.
        wanted: A weights file; a run folder, for the best of its epochs; `gluon` or
            `hub` for one of the two alone. None asks Gluon's cache on this disk, then
            the hub's, then Gluon's store, then the hub.
        bar: Shows the download from Gluon's store; the hub's own library shows its.

    Raises:
        XenonError: There are none; says what was tried, and what to do.
    """
    if wanted not in (None, GLUON, HUB):
        return _given(model, Path(str(wanted)))
    places = [place for place in _places(model) if wanted in (None, place.source)]
    if not places:
        raise XenonError(
            f"--pretrained {wanted or ''}: nobody is known to have ImageNet weights of "
            f"{model} there; xenon-train --list-models tells who has"
        )
    reasons = []
    for place in places:
        try:
            return place.cached()
        except _MissingError as reason:
            reasons.append(f"{place.source}, on this disk: {reason}")
    for place, answer in [(place, _Answer(place.ask)) for place in places]:
        try:
            answer.wait()
            return place.fetch(bar)
        except _MissingError as reason:
            reasons.append(f"{place.source}: {reason}")
    advice = ", or ".join(place.advice for place in reversed(places))
    raise XenonError(
        f"{model}: no ImageNet weights can be had from here: {advice}, and name the "
        f"file by --pretrained; or start from random weights by --no-pretrained",
        reasons,
    )


def known(model: str) -> list[str]:
    """Name the sources that have ImageNet weights of a net: `gluon`, `hub` or both."""
    return [place.source for place in _places(model)]


def _given(model: str, path: Path) -> Weights:
    """Take the file that the user named, or the best epoch of the run."""
    if path.is_dir():
        members = run_folder.Run.open(path).members()
        if not members:
            raise XenonError(f"{path}: the run has no finished epoch to start from")
        return _member(model, path, members[0].params)
    if not path.is_file():
        raise XenonError(
            f"--pretrained {path}: no such file or run; {GLUON!r} and {HUB!r} are the "
            f"names it knows"
        )
    run = path.resolve().parent.parent
    if path.suffix == ".params" and (run / run_folder.RUN_JSON).is_file():
        return _member(model, run, path)
    return Weights(path, "file", str(path))


def _member(model: str, folder: Path, params: Path) -> Weights:
    """Take an epoch of a run, whole as the run recorded it."""
    run = run_folder.Run.open(folder)
    theirs = run.meta["config"]["model"]
    if theirs != model:
        raise XenonError(
            f"--pretrained {params}: of a run of {theirs}, not of {model}: say --model "
            f"{theirs}, or name other weights"
        )
    for member in run.members():
        if member.params.resolve() == params.resolve():
            member.check()
    return Weights(params, "run", str(params))


def _places(model: str) -> list[_Gluon | _Hub]:
    """Everybody who is known to have weights of a net, in the order of asking."""
    places: list[_Gluon | _Hub] = []
    sha1 = model_zoo.model_store._model_sha1.get(model)
    if sha1:
        places.append(_Gluon(model, sha1))
    torchvisions = re.fullmatch(r"(densenet\d+|resnet\d+)(_v1b)?", model)
    if torchvisions and (model.startswith("densenet") or torchvisions.group(2)):
        # timm's copies of torchvision's first ImageNet weights.
        places.append(_Hub(f"timm/{torchvisions.group(1)}.tv_in1k"))
    return places


class _Answer:
    """What somebody answers, asked on a thread: looking up a name has no time limit."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self._reason: str | None = f"no answer within {_LIMIT_S:g} s"
        self._end = time.monotonic() + _LIMIT_S
        # A daemon, so that the program does not wait for it at its end.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._ask()
            self._reason = None
        except _MissingError as error:
            self._reason = str(error)

    def wait(self) -> None:
        """Wait until the answer has come or its time is over; raise if it is no."""
        self._thread.join(max(0.0, self._end - time.monotonic()))
        if self._reason:
            raise _MissingError(self._reason)


class _Gluon:
    """Gluon's model store, and the folder in which MXNet keeps what it fetched."""

    source = GLUON

    def __init__(self, model: str, sha1: str) -> None:
        self._sha1 = sha1
        self._file = f"{model}-{sha1[:8]}.params"
        home = os.environ.get("MXNET_HOME", os.path.join("~", ".mxnet"))
        self._path = Path(home).expanduser() / "models" / self._file
        repo = os.environ.get(_GLUON_REPO_VARIABLE, _GLUON_REPO).rstrip("/")
        self._url = f"{repo}/gluon/models/{self._file[: -len('.params')]}.zip"
        self.advice = f"copy {self._file} from somebody who has it"

    def cached(self) -> Weights:
        """Take the file from the cache."""
        if not self._path.is_file():
            raise _MissingError(f"{self._path}: no such file")
        self._check(self._path)
        return Weights(self._path, self.source, self._file)

    def ask(self) -> None:
        """Ask the server whether it has the file."""
        with self._request("HEAD"):
            pass

    def fetch(self, bar: progress.Bar) -> Weights:
        """Download the file into the cache, where it appears when it is whole."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._path.parent) as folder:
                archive, part = Path(folder) / "zip", Path(folder) / "params"
                self._download(archive, bar)
                with zipfile.ZipFile(archive) as content:
                    part.write_bytes(content.read(self._file))
                self._check(part)
                os.replace(part, self._path)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise _MissingError(f"{self._url}: {error}") from error
        return Weights(self._path, self.source, self._url)

    def _download(self, archive: Path, bar: progress.Bar) -> None:
        with self._request("GET") as response, open(archive, "wb") as stream:
            size = int(response.headers.get("Content-Length", 0)) or None
            with bar(total=size, unit="B", unit_scale=True, desc=self._file) as shown:
                for chunk in response.iter_content(_CHUNK):
                    stream.write(chunk)
                    shown.update(len(chunk))

    def _request(self, method: str) -> Any:
        try:
            response = requests.request(
                method, self._url, timeout=_LIMIT_S, stream=True, allow_redirects=True
            )
        except requests.Timeout as error:
            raise _MissingError(
                f"{self._url}: no answer within {_LIMIT_S:g} s"
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
    """A repository of the Hugging Face hub, and the cache of the hub's library."""

    source = HUB

    def __init__(self, repo: str) -> None:
        self._repo = repo
        self._endpoint = os.environ.get("HF_ENDPOINT")
        self._url = huggingface_hub.hf_hub_url(repo, _HUB_FILE, endpoint=self._endpoint)
        self.advice = f"download {self._url} on a computer that can"

    def cached(self) -> Weights:
        """Take the file from the cache."""
        path = huggingface_hub.try_to_load_from_cache(self._repo, _HUB_FILE)
        if not isinstance(path, str):
            raise _MissingError(f"{self._repo} is not in the cache of huggingface_hub")
        return self._weights(path)

    def ask(self) -> None:
        """Ask the server whether it has the file."""
        self._call(huggingface_hub.get_hf_file_metadata, self._url, timeout=_LIMIT_S)

    def fetch(self, bar: progress.Bar) -> Weights:
        """Download the file into the cache."""
        return self._weights(
            self._call(
                huggingface_hub.hf_hub_download,
                self._repo,
                _HUB_FILE,
                etag_timeout=_LIMIT_S,
                endpoint=self._endpoint,
            )
        )

    def _weights(self, path: str) -> Weights:
        file = Path(path)  # .../snapshots/<commit>/model.safetensors
        return Weights(file, self.source, f"{self._repo}@{file.parent.name}")

    def _call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        # Its library has changed the one that it speaks HTTP with twice, and lets the
        # errors of each of them through.
        except Exception as error:
            why = str(error).strip().splitlines() or [type(error).__name__]
            raise _MissingError(f"{self._url}: {why[0]}") from error
