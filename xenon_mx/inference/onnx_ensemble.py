"""An ensemble in one ONNX file, as `xenon-export` writes it: no MXNet is needed.

Owns how such a file is told from any other, what it says of itself, and the way of
images through it by ONNX Runtime. Knows no run folders and no image files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator

import numpy as np

from xenon_mx.data import outputs
from xenon_mx.errors import XenonError
from xenon_mx.models.cam import CamBatch
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.run_meta import DataMeta
from xenon_mx.runtime import mxnet
from xenon_mx.runtime.threads import usable_cores

_log = logging.getLogger(__name__)

FORMAT = 1  # of the properties; raised when a reader of the old would misread the new
PIXELS = "pixels"  # (N, S, S) uint8
PROBABILITY, MEMBERS, LOGITS = "probability", "members", "logits"  # (N,), (N, M) twice
MAPS = "maps"  # (N, M, h, h)
MADE_FROM = "made_from"  # a property: the fingerprint of the runs

# What ends a file: a property `sha256`, of all the bytes before it. Protocol Buffers
# take a message followed by a field for one message, so that it can be told from any
# other, and from what is left of it, before anything parses it. The numbers are
# onnx.proto's: metadata_props is field 14 of a model, key and value 1 and 2 of it.
_SEAL = b'\x72\x4c\x0a\x06sha256\x12\x42"%s"'
_SEALED = re.compile(_SEAL.replace(b"%s", b"[0-9a-f]{64}") + rb"\Z")
_SEAL_BYTES = 78
_PROPERTY, _KEY, _VALUE = 14, 1, 2
_VARINT, _LENGTH = 0, 2  # the kinds of fields that a model has

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_ERRORS_ONLY = 3  # ONNX Runtime's own number
_INSTALL = "pip install 'xenon-mx[onnx]'"


def sealed(model: bytes) -> bytes:
    """End a model's bytes with their SHA-256, as one of its properties."""
    return model + _seal(model)


def _seal(model: bytes | memoryview) -> bytes:
    return _SEAL % hashlib.sha256(model).hexdigest().encode()


class SealRecord:
    """The record of an ONNX file as an output: its last property, and one before."""

    def read(self, file: Path) -> outputs.Found | None:
        """Return what a file's properties say of it; None if it is not sealed."""
        data = file.read_bytes()
        if not _SEALED.match(data[-_SEAL_BYTES:]):
            return None
        is_whole = data[-_SEAL_BYTES:] == _seal(memoryview(data)[:-_SEAL_BYTES])
        origin = _properties(data).get(MADE_FROM, "") if is_whole else ""
        return outputs.Found("xenon-export", origin, is_whole)

    def add(
        self, file: Path, data: bytes, writer: str, origin: str
    ) -> dict[Path, bytes]:
        """Return the file, which is sealed already."""
        return {file: data}

    def files(self, file: Path) -> list[Path]:
        """Return the file."""
        return [file]


def is_onnx_file(path: Path) -> bool:
    """Tell what --run names: a file, or the folder of a run."""
    return path.is_file() or (path.suffix == ".onnx" and not path.exists())


class OnnxEnsemble:
    """The members of one ONNX file.

    Args:
        file: Where it came from; errors call it so.
        data: Its bytes.
        members: How many of its members to take at most, the lowest validation losses
            first.

    Attributes:
        meta: The part of run.json in which the runs of all members agree. See
            `ensembles.Ensemble`, as of the others.
        identities: What tells the runs that it was exported from apart from others.
        members: The checkpoints that it was made of; `params` is no path but the place
            in the file.
        extent: Why there are no more of them.

    Raises:
        XenonError: It is no file of xenon-export, or not as that wrote it.
    """

    uses_mxnet = False

    def __init__(self, file: Path, data: bytes, members: int) -> None:
        if data[-_SEAL_BYTES:] != _seal(memoryview(data)[:-_SEAL_BYTES]):
            raise XenonError(
                f"{file}: neither a run of xenon-train nor an ONNX file as "
                f"xenon-export wrote it: export the run again"
            )
        self._file, self._data = file, data
        properties = _properties(data)
        if properties.get("format") != FORMAT:
            raise XenonError(f"{file}: not of format {FORMAT}, which this xenon reads")
        try:
            self.meta = DataMeta.from_json(properties)
            self._exported = properties["members"]
        except (KeyError, TypeError, ValueError) as error:
            raise XenonError(
                f"{file}: lacks properties that xenon-export writes"
            ) from error
        # xenon 0.1.0 wrote nothing of the runs.
        sums = [each["sha256"] for each in self._exported]
        self.identities = [properties.get(MADE_FROM) or outputs.made_from({"": sums})]
        self._held = len(self._exported)
        self.extent = f"the file holds {self._held} only"
        self.members = [
            Checkpoint(
                each["loss"],
                each["epoch"],
                file / f"member_{number}" / each["params"],
                each["sha256"],
            )
            for number, each in enumerate(self._exported[:members], 1)
        ]

    @classmethod
    def open(cls, file: Path, members: int) -> OnnxEnsemble:
        """Read a file whole."""
        try:
            data = file.read_bytes()
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise XenonError(f"{file}: {reason}") from error
        return cls(file, data, members)

    def files(self) -> list[Path]:
        """Return the file."""
        return [self._file]

    def logits(
        self,
        batches: Iterable[np.ndarray],
        ctx: str | None = None,
        reference: bool = False,
    ) -> np.ndarray:
        """Run images through all members: see `ensembles.Ensemble.logits`.

        Raises:
            XenonError: ONNX Runtime is not there, cannot use the device, or runs out
                of memory.
        """
        run = self._runner([LOGITS], ctx, reference)
        results = [np.zeros((0, self._held), np.float32)]
        results += [run(pixels)[0] for pixels in batches]
        return np.concatenate(results)[:, : len(self.members)]

    def cams(
        self,
        batches: Iterable[np.ndarray],
        ctx: str | None = None,
        reference: bool = False,
    ) -> tuple[list[float], Iterator[CamBatch]]:
        """See where all members looked: see `ensembles.Ensemble.maps`.

        Raises:
            XenonError: As for `logits`.
        """
        run = self._runner([LOGITS, MAPS], ctx, reference)
        chosen = len(self.members)

        def looked() -> Iterator[CamBatch]:
            for pixels in batches:
                logits, cams = run(pixels)
                mean = cams[:, :chosen].mean(axis=1)
                yield CamBatch(pixels, logits[:, :chosen], mean)

        fields = [each["field"] for each in self._exported[:chosen]]
        return np.mean(fields, axis=0).tolist(), looked()

    def _runner(
        self, outputs: list[str], ctx: str | None, reference: bool
    ) -> Callable[[np.ndarray], list[np.ndarray]]:
        """Give what brings (n, S, S) uint8 pixels to some of the outputs."""
        session = _session(self._file, self._data, ctx, reference)

        def run(pixels: np.ndarray) -> list[np.ndarray]:
            try:
                found: list[np.ndarray] = session.run(outputs, {PIXELS: pixels})
                return found
            except Exception as error:  # ONNX Runtime's own have no public names
                if "memory" not in str(error).lower():
                    raise
                raise XenonError(
                    "ONNX Runtime's memory is full: use a smaller --batch-size or "
                    "another --ctx"
                ) from error

        return run


def _properties(data: bytes) -> dict[str, Any]:
    """Read what a sealed file says of itself, without the package onnx."""
    found = {}
    for number, content in _fields(memoryview(data)):
        if number == _PROPERTY:
            entry = dict(_fields(content))
            found[str(entry[_KEY], "utf-8")] = json.loads(str(entry[_VALUE], "utf-8"))
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the number and the bytes of each field with a length, of a message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind not in (_VARINT, _LENGTH):
            raise ValueError(f"field {number} of a model is of kind {kind}")
        value, at = _varint(message, at)
        if kind == _LENGTH:
            yield number, message[at : at + value]
            at += value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, the lowest first; and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


class _NoGpuError(Exception):
    """Why ONNX Runtime does not work on a GPU."""


def _session(file: Path, data: bytes, ctx: str | None, reference: bool) -> Any:
    """Load a model onto the device that --ctx names.

    Without one, gpu(0) is taken if ONNX Runtime can use it, else cpu(), and said on the
    log. By the reference way, no nodes are fused.
    """
    if ctx is None:
        try:
            session = _load_on_gpu(file, data, 0, reference)
        except _NoGpuError as reason:
            _log.info("ctx: cpu(0) (%s)", reason)
            return _load(file, data, [_CPU], reference)
        _log.info("ctx: gpu(0)")
        return session
    (kind, index), *others = mxnet.parse_ctx(ctx)
    if others:
        raise XenonError(f"--ctx {ctx}: an ONNX file runs on one device: name one")
    if kind == "cpu":
        return _load(file, data, [_CPU], reference)
    try:
        return _load_on_gpu(file, data, index, reference)
    except _NoGpuError as reason:
        raise XenonError(
            f"--ctx gpu({index}): {reason}; or use --ctx 'cpu()'"
        ) from reason


def _load_on_gpu(file: Path, data: bytes, index: int, reference: bool) -> Any:
    if _CUDA not in _onnxruntime().get_available_providers():
        raise _NoGpuError(
            "this ONNX Runtime has no CUDA; for a GPU: pip uninstall onnxruntime, then "
            "pip install onnxruntime-gpu"
        )
    # TF32, which Ampere and later GPUs would use, keeps three digits of a float32.
    options = {"device_id": str(index), "use_tf32": "0"}
    session = _load(file, data, [(_CUDA, options), _CPU], reference)
    if _CUDA not in session.get_providers():  # it goes on without, and does not say so
        raise _NoGpuError(
            f"ONNX Runtime cannot use CUDA on gpu({index}): see what it says above, "
            f"and what nvidia-smi says"
        )
    return session


def _load(file: Path, data: bytes, providers: list[Any], reference: bool) -> Any:
    """Make a session that stays with the devices it was given."""
    ort = _onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    # Its own count is of the machine's cores, not of those that we may use.
    options.intra_op_num_threads = usable_cores()
    if reference:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(
            data, options, providers=providers, enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's own have no public names
        first = str(error).splitlines()[0]
        raise XenonError(
            f"{file}: ONNX Runtime {ort.__version__} cannot load it: {first}"
        ) from error
    session.disable_fallback()
    return session


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise XenonError(f"{error.name} is not installed: {_INSTALL}") from error
    except ImportError as error:
        raise XenonError(
            f"ONNX Runtime cannot be loaded: {error}; reinstall it: {_INSTALL}"
        ) from error
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    return onnxruntime
