"""MXNet as the engine of an ensemble: its members as Gluon nets.

Owns loading the members. Must not know image files or CSVs. Imports MXNet only when the
members are loaded: the number of members decides how MXNet shares the cores.
"""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Sequence

import numpy as np

from xenon_mx.inference.run_ensemble import RunEnsemble
from xenon_mx.models.cam_average import CamBatch
from xenon_mx.runtime import devices, mxnet, progress


class GluonEngine:
    """The nets of an ensemble of runs, computed by MXNet: see `engines.Engine`.

    Args:
        ensemble: The members.
        ctx: Devices, as `devices.parse_ctx` reads them; None is gpu(0) if MXNet can use
            it, else cpu().
        reference: Compute without optimizations.
    """

    runtime = "mxnet"
    precision = "f32"
    uses_mxnet = True

    def __init__(
        self, ensemble: RunEnsemble, ctx: str | None = None, reference: bool = False
    ) -> None:
        self._ensemble, self._ctx, self._reference = ensemble, ctx, reference
        self._nets: list[Any] = []
        self._ctxs: list[Any] = []

    def load(self, bar: progress.Bar = progress.silent) -> None:
        """Load the members: see `engines.Engine.load`."""
        if self._nets:
            return
        if not self._reference:  # before MXNet is imported
            mxnet.share_cores(len(self._ensemble.members))
        self._ctxs = devices.contexts(self._ctx)
        with mxnet.failures():
            self._nets = build_nets(self._ensemble, self._ctxs, self._reference)

    def logits(self, batches: Iterable[np.ndarray]) -> np.ndarray:
        """Compute the members' logits: see `engines.Engine.logits`."""
        self.load()
        from xenon_mx.models import forward

        with mxnet.failures():
            return forward.logits(self._nets, batches, self._ctxs, self._reference)

    def cams(
        self, batches: Iterable[np.ndarray]
    ) -> tuple[list[float], Iterator[CamBatch]]:
        """Compute the ensemble's maps: see `engines.Engine.cams`."""
        self.load()
        from xenon_mx.models import cam_block, forward

        def cam_batches() -> Iterator[CamBatch]:
            with mxnet.failures():
                yield from forward.cams(
                    self._nets, batches, self._ctxs, self._reference
                )

        size = self._ensemble.meta.preprocessing.size
        extents = [cam_block.cam_extent(net, size) for net in self._nets]
        return np.mean(extents, axis=0).tolist(), cam_batches()

    def versions(self) -> dict[str, str]:
        """Return the version of MXNet."""
        return {"mxnet": mxnet.mx.__version__}


def build_nets(
    ensemble: RunEnsemble, ctxs: Sequence[Any], reference: bool = False
) -> list[Any]:
    """Build the nets, after checking the SHA-256 that their runs recorded.

    Args:
        ensemble: The members.
        ctxs: The devices, each of which gets all nets.
        reference: Build them without optimizations.
    """
    from xenon_mx.models import network

    return [
        network.build(model, member.params, list(ctxs), reference, sha256=member.sha256)
        for model, member in zip(ensemble.models, ensemble.members)
    ]
