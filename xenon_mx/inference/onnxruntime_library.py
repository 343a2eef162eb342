"""ONNX Runtime as the library that computes exported graphs.

Owns the choice of its device, its options and its errors. Must not know ensembles, run
folders or image files.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.inference import onnx_metadata
from xenon_mx.inference.exported_graph import ExportedGraph
from xenon_mx.inference.graph_engine import Outputs, Plan, Start, plan_of_cpu
from xenon_mx.runtime import devices, extras
from xenon_mx.runtime.threads import usable_cores

_log = logging.getLogger(__name__)

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_LOG_ERRORS_ONLY = 3  # ONNX Runtime's severity level


class OnnxRuntime:
    """ONNX Runtime on one device: see `graph_engine.Library`.

    Args:
        ctx: The device, as `devices.parse_ctx` reads it; None is gpu(0) if ONNX Runtime
            can use it, else cpu().
        reference: Compute without the optimizations of the graph.
    """

    runtime = "onnxruntime"
    precision = "f32"

    def __init__(self, ctx: str | None = None, reference: bool = False) -> None:
        self._ctx, self._reference = ctx, reference
        _parse(ctx)
        self._providers: list[Any] = []  # once a graph has been loaded
        self._pool: ThreadPoolExecutor | None = None

    @property
    def plan(self) -> Plan:
        """How the device is shared: see `graph_engine.Library.plan`."""
        if self._reference or self._providers != [_CPU]:
            return Plan()
        return plan_of_cpu()

    def open(self) -> None:
        """Import ONNX Runtime: see `graph_engine.Library.open`."""
        _onnxruntime()

    def compile(self, graph: ExportedGraph) -> Start:
        """Load a graph: see `graph_engine.Library.compile`."""
        if not self._providers:
            self._providers, session = _open_session(graph, self._ctx, self._reference)
        else:
            session = _load(graph, self._providers, self._reference)

        names, count = [onnx_metadata.LOGITS, onnx_metadata.MAPS], graph.members

        def compute(pixels: np.ndarray) -> Outputs:
            try:
                logits, maps = session.run(names, {onnx_metadata.PIXELS: pixels})
            except Exception as error:  # ONNX Runtime's exceptions are not public
                if "memory" not in str(error).lower():
                    raise
                raise XenonError(
                    "ONNX Runtime is out of memory: use a smaller --batch-size or "
                    "another --ctx"
                ) from error
            return Outputs(logits[:, :count], [maps[:, i] for i in range(count)])

        # Made only now: the device, and so the plan, is known.
        pool = self._pool = self._pool or ThreadPoolExecutor(self.plan.parallel)
        return lambda pixels: pool.submit(compute, pixels).result

    def versions(self) -> dict[str, str]:
        """Return the version of ONNX Runtime."""
        return {"onnxruntime": _onnxruntime().__version__}


class _NoGpuError(Exception):
    """The reason why ONNX Runtime cannot use a GPU."""


def _parse(ctx: str | None) -> tuple[str, int]:
    """Return type and number of the only device; without --ctx, the preferred one."""
    if ctx is None:
        return "gpu", 0
    device, *others = devices.parse_ctx(ctx)
    if others:
        raise XenonError(f"--ctx {ctx}: ONNX Runtime uses one device: name only one")
    return device


def _open_session(
    graph: ExportedGraph, ctx: str | None, reference: bool
) -> tuple[list[Any], Any]:
    """Load a first graph onto the device that --ctx names.

    Without --ctx, use gpu(0) if ONNX Runtime can, else cpu(), and log which one.

    Returns:
        The providers that load other graphs onto the same device, and the session.
    """
    device_type, index = _parse(ctx)
    if device_type == "gpu":
        try:
            found = _load_on_gpu(graph, index, reference)
        except _NoGpuError as reason:
            if ctx is not None:
                raise XenonError(
                    f"--ctx gpu({index}): {reason}; or use --ctx 'cpu()'"
                ) from reason
            devices.log_cpu(str(reason), _has_cuda())
        else:
            if ctx is None:
                _log.info("ctx: gpu(0)")
            return found
    return [_CPU], _load(graph, [_CPU], reference)


def _has_cuda() -> bool:
    """Return whether this ONNX Runtime is a CUDA build."""
    return _CUDA in _onnxruntime().get_available_providers()


def _load_on_gpu(
    graph: ExportedGraph, index: int, reference: bool
) -> tuple[list[Any], Any]:
    if not _has_cuda():
        raise _NoGpuError(
            "this ONNX Runtime has no CUDA; for a GPU: pip uninstall onnxruntime, then "
            "pip install onnxruntime-gpu"
        )
    # TF32, the default on Ampere and later GPUs, keeps three digits of a float32.
    options = {"device_id": str(index), "use_tf32": "0"}
    providers = [(_CUDA, options), _CPU]
    session = _load(graph, providers, reference)
    if _CUDA not in session.get_providers():  # ONNX Runtime falls back to the CPU
        raise _NoGpuError(
            f"ONNX Runtime cannot use CUDA on gpu({index}): see its messages above, "
            f"and the output of nvidia-smi"
        )
    return providers, session


def _load(graph: ExportedGraph, providers: list[Any], reference: bool) -> Any:
    """Create a session that never falls back to another device while it runs."""
    ort = _onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    # The default counts the machine's cores, not those that this process may use.
    parts = 1 if reference else plan_of_cpu().parallel
    options.intra_op_num_threads = usable_cores() // parts
    if reference:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(
            graph.data, options, providers=providers, enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's exceptions are not public
        reason = str(error).splitlines()[0]
        raise XenonError(
            f"{graph.name}: ONNX Runtime {ort.__version__} cannot load it: {reason}"
        ) from error
    session.disable_fallback()
    return session


def _onnxruntime() -> Any:
    onnxruntime = extras.load("onnxruntime", "ONNX Runtime", "onnx")
    onnxruntime.set_default_logger_severity(_LOG_ERRORS_ONLY)
    return onnxruntime
