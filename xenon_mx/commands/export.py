"""xenon-export: a run's ensemble as one ONNX file, which needs no MXNet.

Puts `ensembles`, `onnx_graphs` and `onnx_ensembles` together. Knows no command line.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np

from xenon_mx import __version__
from xenon_mx.config import THRESHOLD, ExportConfig
from xenon_mx.data import outputs
from xenon_mx.errors import XenonError
from xenon_mx.evaluation import metrics
from xenon_mx.inference import ensembles, onnx_ensemble
from xenon_mx.runtime import mxnet, progress

# Protocol Buffers hold 2 GiB at most; the rest of a graph takes far less than this.
_MOST_BYTES = 2**31 - 2**24
# The largest difference between the probabilities of the file and of the run.
TOLERANCE = 1e-5
# The same between their maps, as a share of the largest value.
_MAPS_TOLERANCE = 1e-4
_PROBES = 4  # images that both are compared on


def export(config: ExportConfig, bar: progress.Bar = progress.silent) -> int:
    """Write the ensemble of one run or several as one ONNX file.

    The file is compared with MXNet's nets, on noise, before it is written.

    Args:
        config: What `xenon-export` was told.
        bar: Shows the members done.

    Returns:
        How many members it holds.

    Raises:
        XenonError: A run cannot be used, the file cannot be written or would replace
            something else; nothing is written then.
    """
    output = outputs.Output(
        config.out, "OUT.onnx", (".onnx",), onnx_ensemble.SealRecord()
    )
    held = outputs.Outputs("xenon-export", [output], config.overwrite)
    ensemble = ensembles.GluonEnsemble(config.runs, config.members)
    origin = outputs.made_from({"runs": ensemble.identities})
    held.claim(origin, ensemble.files())
    _check_sizes(ensemble)
    from xenon_mx.inference import onnx_graph
    from xenon_mx.models import network  # loads MXNet

    onnx_graph.check_packages()
    size = ensemble.meta.preprocessing.size
    with mxnet.failures():
        nets = ensemble.load(mxnet.contexts("cpu()"), reference=True)
        with bar(total=len(nets) + 1, unit="net", desc="exporting") as shown:
            converted = []
            for net in nets:
                converted.append(onnx_graph.convert(net, size))
                shown.update()
            fields = [network.cam_extent(net, size) for net in nets]
            properties = {
                **_properties(ensemble, fields),
                onnx_ensemble.MADE_FROM: origin,
            }
            model = onnx_graph.merge(converted, size, properties)
            data = onnx_ensemble.sealed(model.SerializeToString())
            _compare(config.out, nets, data, size)
            shown.update()
    held.write({config.out: data})
    return len(nets)


def _properties(
    ensemble: ensembles.GluonEnsemble, fields: list[tuple[float, float]]
) -> dict[str, Any]:
    """What the file says of itself: a JSON value a key."""
    meta = ensemble.meta.to_json()
    keys = ("data", "study_types", "weights", "preprocessing", "architecture")
    return {
        "format": onnx_ensemble.FORMAT,
        "notice": "Not for medical use.",
        "threshold": THRESHOLD,
        **{key: meta[key] for key in keys},
        "members": [
            {**member, "field": field}
            for member, field in zip(ensemble.described(), fields)
        ],
        "versions": {
            "xenon": __version__,
            "mxnet": mxnet.mx.__version__,
            "onnx": importlib.metadata.version("onnx"),
        },
    }


def _compare(out: Path, nets: list[Any], data: bytes, size: int) -> None:
    """Stop unless a file gives what the nets give that it was made of."""
    from xenon_mx.models import forward

    noise = np.random.RandomState(0).randint(0, 256, (_PROBES, size, size))
    # From dark to bright, lest all of them be surely normal or surely abnormal.
    pixels = (noise * np.linspace(0.25, 1, _PROBES)[:, None, None]).astype(np.uint8)
    (ours,) = forward.cams(nets, [pixels], [mxnet.mx.cpu()], reference=True)
    exported = onnx_ensemble.OnnxEnsemble(out, data, len(nets))
    _, (theirs,) = exported.cams([pixels], "cpu()")
    probs = metrics.sigmoid(ours.logits), metrics.sigmoid(theirs.logits)
    check_equal(out, "probabilities", *probs, TOLERANCE)
    largest = float(np.abs(ours.maps).max()) or 1.0
    maps = ours.maps / largest, theirs.maps / largest
    check_equal(out, "activation maps", *maps, _MAPS_TOLERANCE)


def check_equal(
    out: Path, what: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float
) -> None:
    """Stop unless what MXNet gives and what a file gives agree."""
    difference = float(np.abs(ours - theirs).max())
    if not difference <= tolerance:  # so that NaN, too, is refused
        raise XenonError(
            f"{out}: not written: its {what} would differ from MXNet's by "
            f"{difference:.1e}, which is more than {tolerance:.0e}"
        )


def _check_sizes(ensemble: ensembles.GluonEnsemble) -> None:
    """Refuse more weights than a file can hold, before they are read."""
    paths = [member.params for member in ensemble.members]
    total = sum(path.stat().st_size for path in paths if path.is_file())
    if total > _MOST_BYTES:
        raise XenonError(
            f"{len(ensemble.members)} members take {total / 2**30:.1f} GiB, and an "
            f"ONNX file holds 2: export fewer --members"
        )
