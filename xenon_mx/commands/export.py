"""xenon-export: a run's ensemble as one ONNX file, which needs no MXNet.

Owns the order of the work, the file's properties, and the comparison of the file with
MXNet's nets. Must not know the command line.
"""

from __future__ import annotations

import importlib.metadata
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xenon_mx import __version__
from xenon_mx.commands import recognition
from xenon_mx.config import ExportConfig
from xenon_mx.data import outputs
from xenon_mx.errors import XenonError
from xenon_mx.evaluation import metrics
from xenon_mx.evaluation.decision import Decision
from xenon_mx.inference import decisions, gluon_ensemble, onnx_ensemble, onnx_metadata
from xenon_mx.runtime import devices, mxnet, progress, text

_log = logging.getLogger(__name__)

# A Protocol Buffers message holds at most 2 GiB; the graph without its weights takes
# far less than the 16 MiB left for it here.
_MAX_WEIGHT_BYTES = 2**31 - 2**24
# The largest difference allowed between the probabilities of file and run.
TOLERANCE = 1e-5
# The same for their maps, relative to the largest value.
_MAPS_TOLERANCE = 1e-4
_NOISE_IMAGES = 4  # on which file and run are compared


def export(config: ExportConfig, bar: progress.Bar = progress.silent) -> int:
    """Write the ensemble of one run or several as one ONNX file.

    Before the file is written, it is compared with MXNet's nets on noise.

    Args:
        config: The settings of `xenon-export`.
        bar: Shows the members done.

    Returns:
        The number of members in the file.

    Raises:
        XenonError: A run cannot be used, or the file cannot be written or would replace
            something else; nothing is written then.
    """
    recognition.check_runs(config.runs, are_exported=True)
    output = outputs.Output(
        config.out, "OUT.onnx", (".onnx",), onnx_metadata.OnnxRecord()
    )
    files = outputs.Outputs("xenon-export", [output], config.overwrite)
    ensemble = gluon_ensemble.GluonEnsemble(config.runs, config.members)
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
    ensemble: gluon_ensemble.GluonEnsemble,
    out: Path,
    origin: str,
    decision: Decision | None,
    bar: progress.Bar,
) -> bytes:
    """Return the bytes of the ONNX file, after comparing it with MXNet's nets."""
    from xenon_mx.inference import onnx_graph  # loads MXNet
    from xenon_mx.models import cam_block

    onnx_graph.check_packages()
    size = ensemble.meta.preprocessing.size
    with mxnet.failures():
        nets = ensemble.load(devices.contexts("cpu()"), reference=True)
        with bar(total=len(nets) + 1, unit="net", desc="exporting") as progress_bar:
            converted = []
            for net in nets:
                converted.append(onnx_graph.convert(net, size))
                progress_bar.update()
            extents = [cam_block.cam_extent(net, size) for net in nets]
            properties = {
                **_properties(ensemble, extents, decision),
                onnx_metadata.MADE_FROM: origin,
            }
            model = onnx_graph.merge(converted, size, properties)
            data = onnx_metadata.add_checksum(model.SerializeToString())
            _compare(out, nets, data, size)
            progress_bar.update()
    return data


def _properties(
    ensemble: gluon_ensemble.GluonEnsemble,
    extents: list[tuple[float, float]],
    decision: Decision | None,
) -> dict[str, Any]:
    """Return the file's metadata: JSON values by key."""
    meta = ensemble.meta.to_json()
    keys = ("data", "study_types", "weights", "preprocessing", "architecture")
    splits = ("trained_on", "validated_on")  # absent in runs of xenon 0.1.0
    return {
        "format": onnx_metadata.FORMAT,
        "notice": "Not for medical use.",
        "threshold": decisions.threshold_of(decision, given=None),
        **{key: meta[key] for key in keys},
        **{key: meta[key] for key in splits if key in meta},
        **({onnx_metadata.FOLDS: ensemble.folds} if ensemble.folds else {}),
        "members": [
            {**member, "field": extent}
            for member, extent in zip(ensemble.describe_members(), extents)
        ],
        **_decision_property(decision),
        "versions": {
            "xenon": __version__,
            "mxnet": mxnet.mx.__version__,
            "onnx": importlib.metadata.version("onnx"),
        },
    }


def _decision_property(decision: Decision | None) -> dict[str, Any]:
    """Return the property of a decision, which holds no hash of a name."""
    if decision is None:
        return {}
    return {onnx_metadata.DECISION: replace(decision, names=None).to_json()}


def _compare(out: Path, nets: list[Any], data: bytes, size: int) -> None:
    """Raise an error unless the file and the nets it was made of agree on noise."""
    from xenon_mx.models import forward

    noise = np.random.RandomState(0).randint(0, 256, (_NOISE_IMAGES, size, size))
    # From dark to bright, so that probabilities are not all close to 0 or all to 1.
    brightness = np.linspace(0.25, 1, _NOISE_IMAGES)[:, None, None]
    pixels = (noise * brightness).astype(np.uint8)
    (gluon,) = forward.cams(nets, [pixels], [mxnet.mx.cpu()], reference=True)
    exported = onnx_ensemble.OnnxEnsemble(out, data, len(nets))
    _, (onnx,) = exported.cams([pixels], "cpu()")
    check_equal(
        out,
        what="probabilities",
        expected=metrics.sigmoid(gluon.logits),
        actual=metrics.sigmoid(onnx.logits),
        tolerance=TOLERANCE,
    )
    largest = float(np.abs(gluon.maps).max()) or 1.0
    check_equal(
        out,
        what="activation maps",
        expected=gluon.maps / largest,
        actual=onnx.maps / largest,
        tolerance=_MAPS_TOLERANCE,
    )


def check_equal(
    out: Path, what: str, expected: np.ndarray, actual: np.ndarray, tolerance: float
) -> None:
    """Raise an error unless MXNet's values and those of the file agree."""
    difference = float(np.abs(expected - actual).max())
    if not difference <= tolerance:  # also true of NaN
        raise XenonError(
            f"{out}: not written: its {what} would differ from MXNet's by "
            f"{difference:.1e}, which is more than {tolerance:.0e}"
        )


def _check_sizes(ensemble: gluon_ensemble.GluonEnsemble) -> None:
    """Raise an error, before weights are read, if they exceed the limit of a file."""
    paths = [member.params for member in ensemble.members]
    total = sum(path.stat().st_size for path in paths if path.is_file())
    if total > _MAX_WEIGHT_BYTES:
        raise XenonError(
            f"{text.counted(len(ensemble.members), 'member')} of {total / 2**30:.1f} "
            f"GiB in all, and an ONNX file holds 2: export fewer --members"
        )
