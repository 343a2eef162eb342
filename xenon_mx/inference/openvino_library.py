"""OpenVINO as the library that computes exported graphs, on a CPU.

Owns its options, its precision and its errors. Must not know ensembles, run folders or
image files. One thread calls OpenVINO, and lets it compute on threads of its own: two
threads that call it can block each other for ever (seen with 2026.4.1, on the first
images).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.inference import onnx_metadata
from xenon_mx.inference.exported_graph import ExportedGraph
from xenon_mx.inference.graph_engine import Outputs, Plan, Start, Wait
from xenon_mx.runtime import devices, extras
from xenon_mx.runtime.threads import usable_cores

_CPU = "CPU"
_BF16 = "bf16"
# Chosen here, by measuring five DenseNet169 at 320 px on two cores: with all cores on
# four images, 4.9 images per second in bf16 and 2.3 in f32; with one image on each core
# 2.9 and 1.9; with eight images 3.7 and 2.4, in a quarter more memory.
_PLAN = Plan(parallel=1, images=4)


class OpenVino:
    """OpenVINO on the CPU: see `graph_engine.Library`.

    Args:
        ctx: The device, as `devices.parse_ctx` reads it; None is cpu().
        precision: One of `config.PRECISIONS`.
        reference: Compute one whole batch after another.
    """

    runtime = "openvino"

    def __init__(
        self, ctx: str | None = None, precision: str = "f32", reference: bool = False
    ) -> None:
        self.precision = precision
        self._ctx = ctx
        _check_ctx(ctx)
        self.plan = Plan() if reference else _PLAN
        self._core: Any = None

    def open(self) -> None:
        """Import OpenVINO: see `graph_engine.Library.open`."""
        self._core = _openvino().Core()
        if self.precision == _BF16:
            _check_bf16(self._core)
        if self._ctx is None:
            devices.log_cpu("xenon uses OpenVINO on CPUs only", is_cuda_build=False)

    def compile(self, graph: ExportedGraph) -> Start:
        """Load a graph: see `graph_engine.Library.compile`."""
        members = graph.members  # a reference to the graph would keep its bytes
        try:
            model = _members_only(self._core.read_model(graph.data), members)
            if self.precision == _BF16:
                _keep_last_layers(model)
            compiled = self._core.compile_model(model, _CPU, self._settings())
        except Exception as error:  # OpenVINO raises RuntimeError for everything
            raise _failure(f"{graph.name}: OpenVINO cannot load it", error) from error
        free = [compiled.create_infer_request() for _ in range(self.plan.parallel)]

        def start(pixels: np.ndarray) -> Wait:
            request = free.pop()
            request.start_async([pixels])

            def wait() -> Outputs:
                try:
                    request.wait()
                except Exception as error:
                    raise _failure("OpenVINO cannot compute", error) from error
                finally:
                    free.append(request)
                logits, maps = (
                    [request.get_output_tensor(number).data for number in numbers]
                    for numbers in (range(members), range(members, 2 * members))
                )
                # A copy of each: the next images use the same memory.
                maps = [cams[:, 0].copy() for cams in maps]
                return Outputs(np.concatenate(logits, axis=1), maps)

            return wait

        return start

    def versions(self) -> dict[str, str]:
        """Return the version of OpenVINO."""
        return {"openvino": _version()}

    def _settings(self) -> dict[str, Any]:
        return {
            # By default a processor that has bfloat16 computes in it.
            "INFERENCE_PRECISION_HINT": self.precision,
            # By default all cores of the machine, not those that this process may use.
            "INFERENCE_NUM_THREADS": usable_cores(),
            "NUM_STREAMS": self.plan.parallel,
        }


def _check_ctx(ctx: str | None) -> None:
    """Raise an error unless --ctx names the CPU."""
    if ctx is not None and devices.parse_ctx(ctx)[0][0] != "cpu":
        raise XenonError(
            f"--ctx {ctx}: xenon uses OpenVINO on CPUs only: use --ctx 'cpu()', or "
            f"another --runtime"
        )


def _check_bf16(core: Any) -> None:
    """Raise an error unless the processor computes in bfloat16."""
    if "BF16" not in core.get_property(_CPU, "OPTIMIZATION_CAPABILITIES"):
        raise XenonError(
            f"--precision {_BF16}: this processor has no bfloat16 arithmetic "
            f"(AVX512_BF16 or AMX): use --precision f32"
        )


def _members_only(model: Any, members: int) -> Any:
    """Return a model with the logit of each member, then the map of each, as outputs.

    The maps are those before they are resized to the number of cells of the largest.
    """
    named = _outputs_by_name(model)
    keys = (onnx_metadata.MEMBER_LOGIT, onnx_metadata.MEMBER_MAP)
    results = [
        named[onnx_metadata.member_prefix(number) + key]
        for key in keys
        for number in range(1, members + 1)
    ]
    return _openvino().Model(results, model.get_parameters())


def _outputs_by_name(model: Any) -> dict[str, Any]:
    return {
        name: output
        for node in model.get_ordered_ops()
        for output in node.outputs()
        for name in output.get_names()
    }


def _keep_last_layers(model: Any) -> None:
    """Write the last linear layers as sums of products, which stay in float32.

    OpenVINO computes whatever follows the last convolution or matrix product of a model
    in float32. As a matrix product, the last layer would round the logits to bfloat16:
    eight bits, so that many images would have the same probability.
    """
    ops = _operators()
    axis = ops.constant(np.array([1], np.int64))
    for result in model.get_results():
        node = result.input(0).get_source_output().get_node()
        while node.get_type_name() not in ("MatMul", "Convolution"):
            node = node.input(0).get_source_output().get_node()
        features, weights = (each.get_source_output() for each in node.inputs())
        # (1, C) beside (N, C) features, or (1, C, 1, 1) beside (N, C, h, h)
        products = ops.multiply(features, weights)
        total = ops.reduce_sum(products, axis, keep_dims=True)
        node.output(0).replace(total.output(0))


def _failure(message: str, error: Exception) -> Exception:
    """Return the error to raise for one of OpenVINO's; a bug of ours stays as it is."""
    text = str(error).strip()
    lines = text.splitlines() or [type(error).__name__]
    if "alloc" in text.lower() or isinstance(error, MemoryError):
        return XenonError("OpenVINO is out of memory: use a smaller --batch-size")
    return XenonError(f"{message} ({_version()}): {lines[-1]}")


def _version() -> str:
    """Return OpenVINO's version without its build."""
    return str(_openvino().__version__).split("-")[0]


def _operators() -> Any:
    try:
        from openvino import opset13
    except ImportError:  # until 2024
        from openvino.runtime import opset13
    return opset13


def _openvino() -> Any:
    return extras.load("openvino", "OpenVINO", "openvino")
