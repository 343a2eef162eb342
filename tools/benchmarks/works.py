"""Which contenders are compared with which, and what xenon aims at.

Owns the rule that a ratio compares two rates of one precision, unless it is named as
one of two. Must not know how contenders are run.
"""

from __future__ import annotations

from typing import NamedTuple


class Contender(NamedTuple):
    """A program that does the work.

    Attributes:
        name: Its function in the module of the work, with `-` for `_`.
        precision: Of its nets: `f32` or `bf16`; empty where no net is run.
        venv: The environment it runs in: `xenon`, or `peers`, which has no MXNet.
        compiled: Whether torch.compile takes minutes first: only with --compiled.
    """

    name: str
    precision: str
    venv: str = "peers"
    compiled: bool = False


class Comparison(NamedTuple):
    """A ratio of xenon's rate to that of another contender.

    Attributes:
        xenon: The contender of xenon's.
        other: The contender that it is compared with.
        target: The ratio of rates that xenon aims at, or more.
        memory_target: The ratio of peak memories that xenon aims at, or less.
        of_two_precisions: Whether the two differ in precision, as the name then says.
    """

    xenon: str
    other: str
    target: float | None = None
    memory_target: float | None = None
    of_two_precisions: bool = False


class Work(NamedTuple):
    """What the contenders do.

    Attributes:
        contenders: The first is the one whose outputs the others' must equal.
        comparisons: Which of them are compared.
        preparations: Contenders to run once, before any is timed.
    """

    contenders: list[Contender]
    comparisons: list[Comparison]
    preparations: list[Contender] = []

    def ratio_name(self, comparison: Comparison) -> str:
        """Return the name of a ratio.

        Raises:
            ValueError: The two contenders differ in precision and the comparison does
                not say so, or the reverse.
        """
        of = {contender.name: contender.precision for contender in self.contenders}
        xenon, other = of[comparison.xenon], of[comparison.other]
        name = f"{comparison.xenon} / {comparison.other}"
        if (xenon != other) != comparison.of_two_precisions:
            raise ValueError(
                f"{name} is a ratio of {xenon or 'none'} to {other or 'none'}, and "
                f"of_two_precisions is {comparison.of_two_precisions}"
            )
        if comparison.of_two_precisions:
            name += f" (two precisions: {xenon} / {other})"
        return name

    def without_compiled(self) -> Work:
        """Return the work without torch.compile."""
        left_out = {c.name for c in self.contenders if c.compiled}
        return Work(
            [c for c in self.contenders if not c.compiled],
            [c for c in self.comparisons if c.other not in left_out],
            self.preparations,
        )


SGEMM = Contender("arithmetic-sgemm", "f32")
DATA = Contender("prepare-data", "", "xenon")
START = Contender("start-xenon", "f32", "xenon")
_ONNX = Contender("prepare-onnx", "f32")
_CACHE = Contender("prepare-cache", "f32", "xenon")

WORKS = {
    "pack": Work(
        [
            Contender("xenon", "", "xenon"),
            Contender("im2rec", "", "xenon"),
            Contender("opencv", "", "xenon"),
            Contender("limit", ""),
        ],
        [
            Comparison("xenon", "im2rec", 1.5),
            Comparison("xenon", "opencv"),
            Comparison("xenon", "limit", 0.65),
        ],
    ),
    "load": Work(
        [
            Contender("xenon", "", "xenon"),
            Contender("xenon2", "", "xenon"),
            Contender("torch", ""),
            Contender("limit", ""),
        ],
        [
            Comparison("xenon", "torch", 2.5),
            Comparison("xenon2", "torch", 2.5),
            Comparison("xenon2", "limit"),
        ],
    ),
    "train": Work(
        [
            Contender("xenon", "f32", "xenon"),
            Contender("xenon-amp", "bf16", "xenon"),
            Contender("torch", "f32"),
            Contender("torch-channels-last", "f32"),
            Contender("torch-compiled", "f32", compiled=True),
            Contender("torch-bf16", "bf16"),
            Contender("torch-bf16-channels-last", "bf16"),
            Contender("torch-bf16-compiled", "bf16", compiled=True),
            Contender("limit", "f32"),
        ],
        [
            Comparison("xenon", "torch", 1.3),
            Comparison("xenon", "torch-channels-last", 1.15),
            Comparison("xenon", "torch-compiled"),
            Comparison("xenon", "limit"),
            # The faster of the two layouts counts.
            Comparison("xenon-amp", "torch-bf16", 1.05, 1.15),
            Comparison("xenon-amp", "torch-bf16-channels-last", 1.05, 1.15),
            Comparison("xenon-amp", "torch-bf16-compiled"),
        ],
    ),
    "predict:files": Work(
        [
            Contender("xenon-mxnet", "f32", "xenon"),
            # In the peers' environment, so that both have the same engine.
            Contender("xenon-onnxruntime", "f32"),
            Contender("xenon-openvino", "f32"),
            Contender("xenon-openvino-bf16", "bf16"),
            Contender("onnxruntime", "f32"),
            Contender("openvino", "f32"),
            Contender("openvino-bf16", "bf16"),
            Contender("torch", "f32"),
            Contender("torch-bf16", "bf16"),
            Contender("limit", "f32"),
        ],
        [
            Comparison("xenon-mxnet", "openvino", 1.0),
            Comparison("xenon-mxnet", "onnxruntime", 1.3),
            Comparison("xenon-mxnet", "torch", 1.3),
            Comparison("xenon-mxnet", "limit"),
            # The faster of the two engines counts.
            Comparison("xenon-onnxruntime", "onnxruntime", 1.0, 1.0),
            Comparison("xenon-openvino", "openvino", 1.0, 1.0),
            Comparison("xenon-openvino-bf16", "openvino-bf16", None, 1.0),
            Comparison("xenon-openvino-bf16", "torch-bf16"),
            Comparison(
                "xenon-openvino-bf16", "xenon-mxnet", 1.9, of_two_precisions=True
            ),
        ],
        [_ONNX, _CACHE],
    ),
    "predict:packed": Work(
        [
            Contender("xenon-mxnet", "f32", "xenon"),
            Contender("onnxruntime", "f32"),
            Contender("openvino", "f32"),
            Contender("torch", "f32"),
        ],
        [
            Comparison("xenon-mxnet", "openvino", 1.0),
            Comparison("xenon-mxnet", "onnxruntime", 1.3),
            Comparison("xenon-mxnet", "torch", 1.3),
        ],
        [_ONNX],
    ),
}
