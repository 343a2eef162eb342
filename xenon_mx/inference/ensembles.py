"""Which checkpoints make an ensemble, of one run or several, or of an ONNX file.

Owns what an ensemble is to those who use one, the choice of the members, whether they
may be averaged, and which engine runs them. Knows no image files and no CSVs, and MXNet
only once the members are loaded: how many they are decides how MXNet is to use the
cores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, Iterator, Protocol, Sequence

import numpy as np

from xenon_mx.config import MEAN, STD
from xenon_mx.errors import XenonError
from xenon_mx.inference.onnx_ensemble import OnnxEnsemble, is_onnx_file
from xenon_mx.models.cam import CamBatch
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.run_folder import Run
from xenon_mx.runs.run_meta import ARCHITECTURE, DataMeta
from xenon_mx.runtime import mxnet

# What runs must share, for one set of pixels to suit all of their nets, and for their
# validation losses to be comparable.
_AGREE = ("data", "preprocessing", "study_types", "weights")


class Ensemble(Protocol):
    """Members whose predictions are averaged, whatever engine runs them."""

    @property
    def uses_mxnet(self) -> bool:
        """Whether MXNet runs the members; else nothing on their way may need it."""

    @property
    def meta(self) -> DataMeta:
        """The part of run.json in which the runs of all members agree."""

    @property
    def identities(self) -> list[str]:
        """What tells the runs that it was made from apart from all others."""

    @property
    def members(self) -> list[Checkpoint]:
        """The checkpoints, the lowest validation loss first."""

    def files(self) -> list[Path]:
        """Return every file that is read."""

    @property
    def extent(self) -> str:
        """Why there are no more members."""

    def logits(
        self,
        batches: Iterable[np.ndarray],
        ctx: str | None = None,
        reference: bool = False,
    ) -> np.ndarray:
        """Run images through all members in one pass over the images.

        Args:
            batches: (n, S, S) uint8 each, N images altogether.
            ctx: Devices, as `engine.parse_ctx` reads them; None takes gpu(0) if the
                engine can use it, else cpu().
            reference: Compute by the engine's plain way.

        Returns:
            (N, M) float32.
        """

    def cams(
        self,
        batches: Iterable[np.ndarray],
        ctx: str | None = None,
        reference: bool = False,
    ) -> tuple[list[float], Iterator[CamBatch]]:
        """Run images through all members, and see where they looked.

        Args:
            batches: As for `logits`.
            ctx: As for `logits`.
            reference: As for `logits`.

        Returns:
            The mean `models.field` of the members, and what they say of some images at
            a time. Maps of nets of different kinds are averaged cell by cell, whatever
            their fields: a cell is then up to half a cell off.
        """


def open_ensemble(paths: Sequence[Path], members: int) -> Ensemble:
    """Open what --run names: the one place where Gluon or ONNX is chosen.

    Args:
        paths: Run folders, or one ONNX file.
        members: How many members at most, the lowest validation losses first.

    Raises:
        XenonError: As the two classes say, or an ONNX file is not alone.
    """
    exported = [path for path in paths if is_onnx_file(path)]
    if not exported:
        return GluonEnsemble(paths, members)
    if len(paths) > 1:
        raise XenonError(
            f"{exported[0]}: an ONNX file is an ensemble by itself: give no other "
            f"--run, or export all of the runs into one file"
        )
    return OnnxEnsemble.open(exported[0], members)


def _check_compatible(run: Run) -> None:
    """Refuse a run whose nets saw other pixels, or are others, than ours would be."""
    preprocessing = run.meta.preprocessing
    if (preprocessing.mean, preprocessing.std) != (MEAN, STD):
        raise XenonError(f"{run.folder}: trained with another mean or std than xenon's")
    if run.meta.architecture != ARCHITECTURE:
        raise XenonError(f"{run.folder}: trained with another kind of net than xenon's")


class GluonEnsemble:
    """The best checkpoints of one run or several.

    Args:
        folders: The run folders.
        members: How many checkpoints at most, the lowest validation losses first.

    Attributes:
        meta: See `Ensemble`, as of the others.
        identities: The identity of each run, in the order of the alphabet.
        members: The checkpoints.
        extent: Why there are no more of them.

    Raises:
        XenonError: A folder is no run, has no finished epoch, or the runs were
            trained on different data or with different preprocessing.
    """

    uses_mxnet = True

    def __init__(self, folders: Sequence[Path], members: int) -> None:
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise XenonError("--run names a run twice")
        first, *others = runs = [Run.open(folder) for folder in folders]
        for run in runs:
            _check_compatible(run)
        for run in others:
            for key in _AGREE:
                if getattr(run.meta, key) != getattr(first.meta, key):
                    raise XenonError(
                        f"{run.folder} and {first.folder} differ in {key}: their nets "
                        f"cannot be averaged"
                    )
        ranked = sorted(
            ((member, run) for run in runs for member in run.members()),
            key=lambda pair: pair[0][:2],
        )
        if not ranked:
            names = ", ".join(str(folder) for folder in folders)
            raise XenonError(f"{names}: no finished epoch to predict with")
        self._runs = runs
        self._chosen = ranked[:members]
        self.meta = first.meta
        self.identities = sorted(run.identity for run in runs)
        self.members = [member for member, _ in self._chosen]
        several, count = "s" * (len(folders) > 1), len(self._chosen)
        epochs = "epoch" + "s" * (count > 1)
        self.extent = f"the run{several} finished {count} {epochs} only"

    def files(self) -> list[Path]:
        """Return every file that is read: all those of the runs."""
        return [file for run in self._runs for file in run.contents()]

    def described(self) -> list[dict[str, Any]]:
        """What an export says of each member, the lowest validation loss first."""
        return [
            {
                "model": run.meta.model,
                "epoch": member.epoch,
                "loss": member.loss,
                "params": member.params.name,
                "sha256": member.sha256,
            }
            for member, run in self._chosen
        ]

    def logits(
        self,
        batches: Iterable[np.ndarray],
        ctx: str | None = None,
        reference: bool = False,
    ) -> np.ndarray:
        """Run images through all members: see `Ensemble.logits`."""
        nets, ctxs = self._at_work(ctx, reference)
        from xenon_mx.models import forward

        with mxnet.failures():
            return forward.logits(nets, batches, ctxs, reference)

    def cams(
        self,
        batches: Iterable[np.ndarray],
        ctx: str | None = None,
        reference: bool = False,
    ) -> tuple[list[float], Iterator[CamBatch]]:
        """See where all members looked: see `Ensemble.maps`."""
        nets, ctxs = self._at_work(ctx, reference)
        from xenon_mx.models import forward, network

        def looked() -> Iterator[CamBatch]:
            with mxnet.failures():
                yield from forward.cams(nets, batches, ctxs, reference)

        size = self.meta.preprocessing.size
        # Where nets differ, their maps are averaged cell by cell all the same.
        fields = [network.cam_extent(net, size) for net in nets]
        return np.mean(fields, axis=0).tolist(), looked()

    def _at_work(self, ctx: str | None, reference: bool) -> tuple[list[Any], list[Any]]:
        """Load the members, and let MXNet know before how it is to use the cores."""
        if not reference:
            mxnet.share_cores(len(self.members))
        ctxs = mxnet.contexts(ctx)
        with mxnet.failures():
            return self.load(ctxs, reference), ctxs

    def load(self, ctxs: Sequence[Any], reference: bool = False) -> list[Any]:
        """Build the nets, checked against the SHA-256 that their run recorded."""
        from xenon_mx.models import network

        nets = []
        for member, run in self._chosen:
            member.check()
            model = run.meta.model
            nets.append(network.build(model, member.params, list(ctxs), reference))
        return nets
