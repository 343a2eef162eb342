"""xenon-export: a run's ensemble as one ONNX file, which needs no MXNet.

Owns the order of the work, and which form of export is asked for. Must not know the
command line.
"""

from __future__ import annotations

import importlib.metadata
import logging
from pathlib import Path
from typing import Any

from xenon_mx.commands import export_torch, recognition
from xenon_mx.config import ExportConfig
from xenon_mx.data import outputs
from xenon_mx.errors import XenonError
from xenon_mx.evaluation.decision import Decision
from xenon_mx.inference import (
    decisions,
    exported_properties,
    gluon_engine,
    onnx_metadata,
)
from xenon_mx.inference.run_ensemble import RunEnsemble
from xenon_mx.runtime import devices, mxnet, progress, text

_log = logging.getLogger(__name__)

# A Protocol Buffers message holds at most 2 GiB; the graph without its weights takes
# far less than the 16 MiB left for it here.
_MAX_WEIGHT_BYTES = 2**31 - 2**24


def export(config: ExportConfig, bar: progress.Bar = progress.silent) -> int:
    """Write the ensemble of one run or several as one ONNX file, or for PyTorch.

    Before an ONNX file is written, it is compared with MXNet's nets on noise. For what
    `--to torch` writes, see `export_torch`.

    Args:
        config: The settings of `xenon-export`.
        bar: Shows the members done.

    Returns:
        The number of members in the file or folder.

    Raises:
        XenonError: A run cannot be used, or the file cannot be written or would replace
            something else; nothing is written then.
    """
    if config.to == "torch":
        return export_torch.export(config, bar)
    recognition.check_runs(config.runs, are_exported=True)
    output = outputs.Output(
        config.out, "OUT.onnx", (".onnx",), onnx_metadata.OnnxRecord()
    )
    files = outputs.Outputs("xenon-export", [output], config.overwrite)
    ensemble = RunEnsemble(config.runs, config.members)
    origin = outputs.made_from({"runs": ensemble.identities})
    files.claim(origin, ensemble.files())
    _check_sizes(ensemble)
    decision = decisions.find(ensemble, is_exported=True)
    if decision is not None:
        _log.info("with the decision about the run: %s", decision.threshold)
    data = _convert(ensemble, config.out, origin, decision, bar)
    files.write({config.out: data})
    return len(ensemble.members)


def _convert(
    ensemble: RunEnsemble,
    out: Path,
    origin: str,
    decision: Decision | None,
    bar: progress.Bar,
) -> bytes:
    """Return the bytes of the ONNX file, after comparing it with MXNet's nets."""
    from xenon_mx.inference import onnx_export, onnx_graph  # load MXNet

    onnx_graph.check_packages()  # before the nets are built
    with mxnet.failures():
        ctxs = devices.contexts("cpu()")
        nets = gluon_engine.build_nets(ensemble, ctxs, reference=True)
        properties = {
            **_properties(ensemble, decision),
            onnx_metadata.MADE_FROM: origin,
        }
        with bar(total=len(nets) + 1, unit="net", desc="exporting") as progress_bar:
            return onnx_export.export(
                str(out),
                nets,
                ensemble.meta.preprocessing.size,
                properties,
                progress_bar,
            )


def _properties(ensemble: RunEnsemble, decision: Decision | None) -> dict[str, Any]:
    """Return the file's metadata: JSON values by key."""
    properties = exported_properties.build(ensemble, decision)
    versions = {**properties["versions"], "onnx": importlib.metadata.version("onnx")}
    return {**properties, "versions": versions}


def _check_sizes(ensemble: RunEnsemble) -> None:
    """Raise an error, before weights are read, if they exceed the limit of a file."""
    paths = [member.params for member in ensemble.members]
    total = sum(path.stat().st_size for path in paths if path.is_file())
    if total > _MAX_WEIGHT_BYTES:
        raise XenonError(
            f"{text.counted(len(ensemble.members), 'member')} of {total / 2**30:.1f} "
            f"GiB in all, and an ONNX file holds 2: export fewer --members"
        )
