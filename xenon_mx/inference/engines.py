"""What runs the members of an ensemble: its interface, and the choice of --runtime.

Owns what an engine offers to its users, which engines there are, and which one runs
what. Must not know how an engine works, image files or CSVs.
"""

from __future__ import annotations

from typing import Iterable, Iterator, Protocol

import numpy as np

from xenon_mx.config import PredictConfig
from xenon_mx.errors import XenonError
from xenon_mx.inference.ensembles import AnyEnsemble
from xenon_mx.inference.exported_run import ExportedRun
from xenon_mx.inference.gluon_engine import GluonEngine
from xenon_mx.inference.graph_engine import GraphEngine
from xenon_mx.inference.onnxruntime_library import OnnxRuntime
from xenon_mx.inference.openvino_library import OpenVino
from xenon_mx.inference.run_ensemble import RunEnsemble
from xenon_mx.models.cam_average import CamBatch
from xenon_mx.runtime import progress


class Engine(Protocol):
    """What computes the logits and maps of M members.

    It is loaded once, by `load` or by what needs it first, and stays loaded.
    """

    @property
    def runtime(self) -> str:
        """Its name: one of `config.RUNTIMES`."""

    @property
    def precision(self) -> str:
        """The precision of its arithmetic: one of `config.PRECISIONS`."""

    @property
    def uses_mxnet(self) -> bool:
        """Whether MXNet runs the members; if not, nothing else may import it."""

    def load(self, bar: progress.Bar = progress.silent) -> None:
        """Load the members onto the devices.

        Args:
            bar: Shows the progress of an export, if one has to come first.

        Raises:
            XenonError: The engine is not installed or cannot use the devices, or a
                member is missing or damaged.
        """

    def logits(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Compute the logits of all M members in one pass over the images.

        Args:
            batches: (n, S, S) uint8 each, N images in total.

        Returns:
            (N, M) float32.

        Raises:
            XenonError: As for `load`, or memory does not suffice.
        """

    def cams(
        self, batches: Iterable[np.ndarray]
    ) -> tuple[list[float], Iterator[CamBatch]]:
        """Compute the logits and the class activation maps of all members.

        Args:
            batches: As for `logits`.

        Returns:
            The mean `cam_block.cam_extent` of the members, and logits and maps, a few
            images at a time. Maps of different nets are averaged cell by cell, whatever
            their extents: a cell is then up to half a cell off.

        Raises:
            XenonError: As for `logits`.
        """

    def versions(self) -> dict[str, str]:
        """Return the version of what runs the members, once it is loaded."""


def open_engine(ensemble: AnyEnsemble, config: PredictConfig) -> Engine:
    """Return the engine of an ensemble, not yet loaded.

    Args:
        ensemble: The members, of runs or of an ONNX file.
        config: The settings of `xenon-predict`, of which `runtime`, `precision`, `ctx`
            and `reference` are used.

    Raises:
        XenonError: The engine that is asked for cannot compute them.
    """
    is_run = isinstance(ensemble, RunEnsemble)
    runtime = config.runtime or ("mxnet" if is_run else "onnxruntime")
    if runtime == "mxnet":
        if isinstance(ensemble, RunEnsemble):
            return GluonEngine(ensemble, config.ctx, config.reference)
        raise XenonError(
            f"{ensemble.files()[0]}: MXNet cannot compute an ONNX file: name the run "
            f"instead, or leave --runtime out"
        )
    source = ExportedRun(ensemble) if isinstance(ensemble, RunEnsemble) else ensemble
    if runtime == "onnxruntime":
        return GraphEngine(OnnxRuntime(config.ctx, config.reference), source)
    library = OpenVino(config.ctx, config.precision, config.reference)
    return GraphEngine(library, source)
