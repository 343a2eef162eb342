"""The members of runs as exported graphs, from the cache or else made for it.

Owns the key of a member in the cache, and when an export is due. Must not know engines,
nor how a net is converted.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Iterator

from xenon_mx.inference import export_process, onnx_metadata
from xenon_mx.inference.export_cache import ExportCache, default_folder
from xenon_mx.inference.export_process import Net
from xenon_mx.inference.exported_graph import ExportedGraph
from xenon_mx.inference.run_ensemble import RunEnsemble
from xenon_mx.runtime import files, progress, text

_log = logging.getLogger(__name__)

FORM = 1  # of the graphs; raised when `onnx_graph` makes others of the same params


class ExportedRun:
    """The graphs of an ensemble of runs, one per member: see `exported_graph.Source`.

    Args:
        ensemble: The members.
        cache: Where they are kept; by default `export_cache.default_folder`.
    """

    def __init__(self, ensemble: RunEnsemble, cache: ExportCache | None = None) -> None:
        self._cache = cache or ExportCache(default_folder())
        self._members = ensemble.members
        self._nets = {}  # by key, in the order of the members
        for model, member in zip(ensemble.models, ensemble.members):
            size = ensemble.meta.preprocessing.size
            net = Net(model, str(member.params), member.sha256, size)
            self._nets[_key(net)] = net

    def graphs(self, bar: progress.Bar = progress.silent) -> Iterator[ExportedGraph]:
        """Yield the graph of each member: see `exported_graph.Source.graphs`.

        Raises:
            XenonError: A member's params are missing or were changed, also if their
                graph is in the cache; or they cannot be exported, or not be kept.
        """
        for member in self._members:
            files.check_sha256(member.params, member.sha256)
        missing = [key for key in self._nets if self._cache.read(key) is None]
        if missing:
            self._export(missing, bar)
        else:
            _log.info("using the nets exported into %s", self._cache.folder)
        for key, net in self._nets.items():
            data = self._cache.read(key)
            while data is None:  # removed in the meantime
                self._export([key], bar)
                data = self._cache.read(key)
            properties = onnx_metadata.read_properties(data)
            yield ExportedGraph(net.params, data, onnx_metadata.extents(properties))

    def _export(self, keys: list[str], bar: progress.Bar) -> None:
        """Export members into the cache, except for those that others export."""
        export_process.check_installed()
        needed = sum(Path(self._nets[key].params).stat().st_size for key in keys)
        with self._cache.making(needed):
            keys = [key for key in keys if self._cache.read(key) is None]
            if not keys:
                return
            nets = [self._nets[key] for key in keys]
            _log.info(
                "exporting %s once, into %s",
                text.counted(len(nets), "net"),
                self._cache.folder,
            )
            with bar(total=len(nets), unit="net", desc="exporting") as progress_bar:
                for key, data in zip(keys, export_process.export(nets)):
                    self._cache.write(key, data)
                    progress_bar.update()
            self._cache.trim(keep=set(self._nets))


def _key(net: Net) -> str:
    """Return the key of a member's graph, which depends on all that shapes it."""
    content = json.dumps(
        [FORM, net.model, net.sha256, net.size], allow_nan=False, sort_keys=True
    )
    return hashlib.sha256(content.encode()).hexdigest()
