"""The members of one ONNX file of `xenon-export`, run by ONNX Runtime without MXNet.

Owns the choice of ONNX Runtime's device and the forward pass. Must not know run folders
or image files.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator

import numpy as np

from xenon_mx.config import MEMBERS
from xenon_mx.data import outputs
from xenon_mx.errors import XenonError, os_error
from xenon_mx.evaluation.decision import Decision
from xenon_mx.evaluation.provenance import (
    EnsembleSource,
    MemberSource,
    RunSource,
    TrainingData,
)
from xenon_mx.inference import onnx_metadata
from xenon_mx.models.cam_average import CamBatch
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.run_meta import DataMeta
from xenon_mx.runs.seen_studies import SeenStudies
from xenon_mx.runtime import devices, extras
from xenon_mx.runtime.threads import usable_cores

_log = logging.getLogger(__name__)

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_LOG_ERRORS_ONLY = 3  # ONNX Runtime's severity level
_INSTALL = extras.install("onnx")


class OnnxEnsemble:
    """The members of one ONNX file.

    Args:
        file: The file, as messages name it.
        data: Its bytes.
        members: The largest number of members, the lowest validation losses first; None
            is 5. Of exported folds, the number of each fold; None is all.

    Attributes:
        meta: The part of run.json in which the runs of all members agree. See
            `ensembles.Ensemble`, as for the other attributes.
        identities: What identifies the runs that the file was exported from.
        members: The checkpoints; `params` names a place in the file, not a path.
        asked: The number of members that was asked for.
        folds: The number of folds that were exported, or 0.
        limit_reason: Why there are no more members.

    Raises:
        XenonError: The file was not written by xenon-export, or was changed since.
    """

    uses_mxnet = False

    def __init__(self, file: Path, data: bytes, members: int | None) -> None:
        if not onnx_metadata.has_checksum(data):
            raise XenonError(
                f"{file}: neither a run of xenon-train nor an unchanged ONNX file of "
                f"xenon-export: export the run again"
            )
        self._file, self._data = file, data
        properties = onnx_metadata.read_properties(data)
        if properties.get("format") != onnx_metadata.FORMAT:
            raise XenonError(
                f"{file}: its format is not {onnx_metadata.FORMAT}, the one that this "
                f"xenon reads"
            )
        try:
            self.meta = DataMeta.from_json(properties)
            exported = properties["members"]
            checkpoints = [
                Checkpoint(
                    loss=member["loss"],
                    epoch=member["epoch"],
                    params=file / f"member_{number}" / member["params"],
                    sha256=member["sha256"],
                )
                for number, member in enumerate(exported, 1)
            ]
            self._extents = [member["field"] for member in exported]
            self._models = [str(member["model"]) for member in exported]
            decided = properties.get(onnx_metadata.DECISION)
            self._decision = None if decided is None else Decision.from_json(decided)
        except (KeyError, TypeError, ValueError) as error:
            raise XenonError(
                f"{file}: lacks properties that xenon-export writes"
            ) from error
        # xenon 0.1.0 recorded nothing that identifies the runs.
        sums = [member.sha256 for member in checkpoints]
        self.identities = [
            properties.get(onnx_metadata.MADE_FROM) or outputs.made_from({"": sums})
        ]
        # Absent in files of xenon 0.1.0.
        self._splits = {
            key: (properties.get(key) or {}).get("split")
            for key in ("trained_on", "validated_on")
        }
        self._total = len(checkpoints)
        self.limit_reason = f"the file holds only {self._total}"
        self.folds: int = properties.get(onnx_metadata.FOLDS, 0)
        self.asked = MEMBERS if members is None else members
        if self.folds:  # in the file, the best of each, then the second of each, ...
            self.asked = self._total if members is None else members * self.folds
        self.members = checkpoints[: self.asked]
        self._sessions: dict[tuple[str | None, bool], Any] = {}

    @classmethod
    def open(cls, file: Path, members: int | None) -> OnnxEnsemble:
        """Read a file into memory, and return its ensemble."""
        try:
            data = file.read_bytes()
        except OSError as error:
            raise os_error(file, error) from error
        return cls(file, data, members)

    def files(self) -> list[Path]:
        """Return the file."""
        return [self._file]

    def source(self) -> EnsembleSource:
        """Return members and file: see `ensembles.Ensemble.source`."""
        name = self._file.resolve().name
        run = RunSource("onnx", name, str(self._file), self.identities[0])
        members = [
            MemberSource(
                run=0,
                model=model,
                epoch=member.epoch,
                loss=member.loss,
                params=member.params.name,
                sha256=member.sha256,
            )
            for member, model in zip(self.members, self._models)
        ]
        return EnsembleSource((run,), tuple(members))

    def training_data(self) -> TrainingData:
        """Return the data: see `ensembles.Ensemble.training_data`."""
        return TrainingData(
            fingerprint=self.meta.data,
            study_types=self.meta.study_types,
            trained_on=self._splits["trained_on"],
            validated_on=self._splits["validated_on"],
        )

    def seen_studies(self) -> SeenStudies | None:
        """Return None: hashes of patients stay with the run, and out of its export."""
        return None

    def decisions(self) -> dict[str, Decision]:
        """Return the decision that was exported with the members, if there was one."""
        return {} if self._decision is None else {str(self._file): self._decision}

    def versions(self) -> dict[str, str]:
        """Return the version of ONNX Runtime."""
        import onnxruntime

        return {"onnxruntime": onnxruntime.__version__}

    def logits(
        self,
        batches: Iterable[np.ndarray],
        ctx: str | None = None,
        reference: bool = False,
    ) -> np.ndarray:
        """Compute the members' logits: see `ensembles.Ensemble.logits`.

        Raises:
            XenonError: ONNX Runtime is not installed, cannot use the device, or runs
                out of memory.
        """
        run = self._runner([onnx_metadata.LOGITS], ctx, reference)
        results = [np.zeros((0, self._total), np.float32)]
        results += [run(pixels)[0] for pixels in batches]
        return np.concatenate(results)[:, : len(self.members)]

    def cams(
        self,
        batches: Iterable[np.ndarray],
        ctx: str | None = None,
        reference: bool = False,
    ) -> tuple[list[float], Iterator[CamBatch]]:
        """Compute the ensemble's maps: see `ensembles.Ensemble.cams`.

        Raises:
            XenonError: As for `logits`.
        """
        run = self._runner([onnx_metadata.LOGITS, onnx_metadata.MAPS], ctx, reference)
        count = len(self.members)

        def cam_batches() -> Iterator[CamBatch]:
            for pixels in batches:
                logits, cams = run(pixels)
                mean = cams[:, :count].mean(axis=1)
                yield CamBatch(pixels, logits[:, :count], mean)

        return np.mean(self._extents[:count], axis=0).tolist(), cam_batches()

    def _runner(
        self, names: list[str], ctx: str | None, reference: bool
    ) -> Callable[[np.ndarray], list[np.ndarray]]:
        """Return the function from (n, S, S) uint8 pixels to some of the outputs."""
        key = ctx, reference
        if key not in self._sessions:
            self._sessions[key] = _open_session(self._file, self._data, ctx, reference)
        session = self._sessions[key]

        def run(pixels: np.ndarray) -> list[np.ndarray]:
            try:
                results: list[np.ndarray] = session.run(
                    names, {onnx_metadata.PIXELS: pixels}
                )
                return results
            except Exception as error:  # ONNX Runtime's exceptions are not public
                if "memory" not in str(error).lower():
                    raise
                raise XenonError(
                    "ONNX Runtime is out of memory: use a smaller --batch-size or "
                    "another --ctx"
                ) from error

        return run


class _NoGpuError(Exception):
    """The reason why ONNX Runtime cannot use a GPU."""


def _open_session(file: Path, data: bytes, ctx: str | None, reference: bool) -> Any:
    """Load a model onto the device that --ctx names.

    Without --ctx, use gpu(0) if ONNX Runtime can, else cpu(), and log which one.
    `reference` turns the optimizations of the graph off.
    """
    if ctx is None:
        try:
            session = _load_on_gpu(file, data, 0, reference)
        except _NoGpuError as reason:
            devices.log_cpu(str(reason), _has_cuda())
            return _load(file, data, [_CPU], reference)
        _log.info("ctx: gpu(0)")
        return session
    (device_type, index), *others = devices.parse_ctx(ctx)
    if others:
        raise XenonError(f"--ctx {ctx}: an ONNX file runs on one device: name only one")
    if device_type == "cpu":
        return _load(file, data, [_CPU], reference)
    try:
        return _load_on_gpu(file, data, index, reference)
    except _NoGpuError as reason:
        raise XenonError(
            f"--ctx gpu({index}): {reason}; or use --ctx 'cpu()'"
        ) from reason


def _has_cuda() -> bool:
    """Return whether this ONNX Runtime is a CUDA build."""
    return _CUDA in _onnxruntime().get_available_providers()


def _load_on_gpu(file: Path, data: bytes, index: int, reference: bool) -> Any:
    if not _has_cuda():
        raise _NoGpuError(
            "this ONNX Runtime has no CUDA; for a GPU: pip uninstall onnxruntime, then "
            "pip install onnxruntime-gpu"
        )
    # TF32, the default on Ampere and later GPUs, keeps three digits of a float32.
    options = {"device_id": str(index), "use_tf32": "0"}
    session = _load(file, data, [(_CUDA, options), _CPU], reference)
    if _CUDA not in session.get_providers():  # ONNX Runtime falls back to the CPU
        raise _NoGpuError(
            f"ONNX Runtime cannot use CUDA on gpu({index}): see its messages above, "
            f"and the output of nvidia-smi"
        )
    return session


def _load(file: Path, data: bytes, providers: list[Any], reference: bool) -> Any:
    """Create a session that never falls back to another device while it runs."""
    ort = _onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    # The default counts the machine's cores, not those that this process may use.
    options.intra_op_num_threads = usable_cores()
    if reference:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(
            data, options, providers=providers, enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions are not public
        reason = str(error).splitlines()[0]
        raise XenonError(
            f"{file}: ONNX Runtime {ort.__version__} cannot load it: {reason}"
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
    onnxruntime.set_default_logger_severity(_LOG_ERRORS_ONLY)
    return onnxruntime
