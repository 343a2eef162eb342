"""The places of ImageNet weights: Gluon's model store and the hub, with their caches.

Owns the addresses, the time limits and the downloads. Must not know the order in which
the places are searched, or the content of weights files.
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
from typing import Any, Callable, NamedTuple, Union

import huggingface_hub
import requests

from xenon_mx.evaluation.seen import ELSEWHERE
from xenon_mx.models import torch_config
from xenon_mx.models.weight_input import KEPT, Taken
from xenon_mx.runs.run_meta import PretrainedSource
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
HUB_FILE = torch_config.WEIGHTS  # of each repository
_CHUNK = 1 << 20


class Weights(NamedTuple):
    """A weights file and its source.

    Attributes:
        file: Its path.
        source: `file`, `run`, `gluon` or `hub`.
        origin: The path that the user gave, or the name of the download.
        pretrained_input: The input that its net was trained on, a value of
            --pretrained-input; None to see it from the file's layout.
        began_elsewhere: Whether they are of a run whose net, or the net that it began
            as, was not trained here.
    """

    file: Path
    source: str
    origin: str
    pretrained_input: str | None = None
    began_elsewhere: bool = False

    def record(self, taken: Taken | None = None) -> PretrainedSource:
        """Return the entry for run.json.

        Args:
            taken: How a net took the weights, if one has.
        """
        is_kept = taken is not None and taken.head == KEPT
        is_foreign = self.began_elsewhere or (self.source == "file" and is_kept)
        return PretrainedSource(
            source=self.source,
            origin=self.origin,
            file=str(self.file),
            sha256=sha256(self.file),
            head=taken.head if taken else None,
            input=taken.input if taken else None,
            trained_on=ELSEWHERE if is_foreign else None,
        )


class MissingError(Exception):
    """The reason why a place does not have the weights."""


def places_of(model: str) -> list[Place]:
    """Return the sources that have weights of a net, in the order of the search."""
    places: list[Place] = []
    sha1 = model_zoo.model_store._model_sha1.get(model)
    if sha1:
        places.append(GluonStore(model, sha1))
    name = re.fullmatch(r"(densenet\d+|resnet\d+)(_v1b)?", model)
    if name and (model.startswith("densenet") or name.group(2)):
        # timm's copies of torchvision's first ImageNet weights.
        places.append(Hub(f"timm/{name.group(1)}.tv_in1k"))
    return places


class Request:
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
        except MissingError as error:
            self._failure = str(error)

    def wait(self) -> None:
        """Wait for the answer, at most until the deadline.

        Raises:
            MissingError: The request failed, or there was no answer.
        """
        self._thread.join(max(0.0, self._deadline - time.monotonic()))
        if self._failure:
            raise MissingError(self._failure)


class GluonStore:
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
            raise MissingError(f"{self._path}: no such file")
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
            raise MissingError(f"{self._url}: {error}") from error
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
            raise MissingError(
                f"{self._url}: no answer within {_TIMEOUT_S:g} s"
            ) from error
        except requests.RequestException as error:
            raise MissingError(f"{self._url}: cannot be reached") from error
        if not response.ok:
            raise MissingError(f"{self._url}: answers {response.status_code}")
        return response

    def _check(self, path: Path) -> None:
        if hashlib.sha1(path.read_bytes()).hexdigest() != self._sha1:
            raise MissingError(f"{path}: its SHA-1 is not {self._sha1}: damaged")


class Hub:
    """A repository of the Hugging Face hub, and the cache of huggingface_hub."""

    source = HUB

    def __init__(self, repo: str) -> None:
        self._repo = repo
        self._endpoint = os.environ.get("HF_ENDPOINT")
        self._url = huggingface_hub.hf_hub_url(repo, HUB_FILE, endpoint=self._endpoint)
        self.advice = f"download {self._url} on a computer with access to it"

    def cached(self) -> Weights:
        """Return the file in the cache."""
        path = huggingface_hub.try_to_load_from_cache(self._repo, HUB_FILE)
        if not isinstance(path, str):
            raise MissingError(f"{self._repo} is not in the cache of huggingface_hub")
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
                HUB_FILE,
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
            raise MissingError(f"{self._url}: {lines[0]}") from error


Place = Union[GluonStore, Hub]
