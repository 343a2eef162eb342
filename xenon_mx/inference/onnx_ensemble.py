"""What is known of an ensemble from the ONNX file that `xenon-export` wrote of it.

Owns what the file's properties say of its members. Must not know engines, run folders
or image files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

from xenon_mx.config import MEMBERS
from xenon_mx.data import outputs
from xenon_mx.errors import XenonError, os_error
from xenon_mx.evaluation.decision import Decision
from xenon_mx.evaluation.provenance import (
    EnsembleSource,
    MemberSource,
    RunSource,
    TrainingData,
)
from xenon_mx.inference import onnx_metadata
from xenon_mx.inference.exported_graph import ExportedGraph
from xenon_mx.runs.checkpoints import Checkpoint
from xenon_mx.runs.run_meta import DataMeta
from xenon_mx.runs.seen_studies import SeenStudies
from xenon_mx.runtime import progress


class OnnxEnsemble:
    """The members of one ONNX file.

    Args:
        file: The file.
        members: The largest number of members, the lowest validation losses first; None
            is 5. Of exported folds, the number of each fold; None is all.

    Attributes:
        meta: See `ensembles.Ensemble`, as for the other attributes.
        identities: What identifies the runs that the file was exported from.
        members: The checkpoints; `params` names a place in the file, not a path.
        asked: The number of members that was asked for.
        folds: The number of folds that were exported, or 0.
        limit_reason: Why there are no more members.

    Raises:
        XenonError: The file cannot be read, was not written by xenon-export, or was
            changed since.
    """

    def __init__(self, file: Path, members: int | None) -> None:
        self._file = file
        self._data: bytes | None = _read(file)
        properties = onnx_metadata.read_properties(self._data)
        if properties.get("format") != onnx_metadata.FORMAT:
            raise XenonError(
                f"{file}: its format is not {onnx_metadata.FORMAT}, the one that this "
                f"xenon reads"
            )
        try:
            self.meta = DataMeta.from_json(properties)
            exported = properties["members"]
            checkpoints = [
                Checkpoint(
                    loss=member["loss"],
                    epoch=member["epoch"],
                    params=file / f"member_{number}" / member["params"],
                    sha256=member["sha256"],
                )
                for number, member in enumerate(exported, 1)
            ]
            self._extents = onnx_metadata.extents(properties)
            self._models = [str(member["model"]) for member in exported]
            decided = properties.get(onnx_metadata.DECISION)
            self._decision = None if decided is None else Decision.from_json(decided)
        except (KeyError, TypeError, ValueError) as error:
            raise XenonError(
                f"{file}: lacks properties that xenon-export writes"
            ) from error
        self.identities = [_identity(properties, checkpoints)]
        # Absent in files of xenon 0.1.0.
        self._splits = {
            key: (properties.get(key) or {}).get("split")
            for key in ("trained_on", "validated_on")
        }
        self._pretrained_on = properties.get(onnx_metadata.PRETRAINED_ON)
        total = len(checkpoints)
        self.limit_reason = f"the file holds only {total}"
        self.folds: int = properties.get(onnx_metadata.FOLDS, 0)
        self.asked = MEMBERS if members is None else members
        if self.folds:  # in the file, the best of each, then the second of each, ...
            self.asked = total if members is None else members * self.folds
        self.members = checkpoints[: self.asked]

    def graphs(self, bar: progress.Bar = progress.silent) -> Iterator[ExportedGraph]:
        """Yield the graph of all members: see `exported_graph.Source.graphs`."""
        data, self._data = self._data or _read(self._file), None
        extents = self._extents[: len(self.members)]
        yield ExportedGraph(str(self._file), data, extents)

    def files(self) -> list[Path]:
        """Return the file."""
        return [self._file]

    def source(self) -> EnsembleSource:
        """Return members and file: see `ensembles.Ensemble.source`."""
        name = self._file.resolve().name
        run = RunSource("onnx", name, str(self._file), self.identities[0])
        members = [
            MemberSource(
                run=0,
                model=model,
                epoch=member.epoch,
                loss=member.loss,
                params=member.params.name,
                sha256=member.sha256,
            )
            for member, model in zip(self.members, self._models)
        ]
        return EnsembleSource((run,), tuple(members))

    def training_data(self) -> TrainingData:
        """Return the data: see `ensembles.Ensemble.training_data`."""
        return TrainingData(
            fingerprint=self.meta.data,
            study_types=self.meta.study_types,
            trained_on=self._splits["trained_on"],
            validated_on=self._splits["validated_on"],
            pretrained_on=self._pretrained_on,
        )

    def seen_studies(self) -> SeenStudies | None:
        """Return None: hashes of patients stay with the run, and out of its export."""
        return None

    def decisions(self) -> dict[str, Decision]:
        """Return the decision that was exported with the members, if there was one."""
        return {} if self._decision is None else {str(self._file): self._decision}


def _read(file: Path) -> bytes:
    """Read a file of xenon-export, and check that it is whole."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise os_error(file, error) from error
    if not onnx_metadata.has_checksum(data):
        raise XenonError(
            f"{file}: neither a run of xenon-train nor an unchanged ONNX file of "
            f"xenon-export: export the run again"
        )
    return data


def _identity(properties: dict[str, Any], checkpoints: list[Checkpoint]) -> str:
    """Return what identifies the exported runs; xenon 0.1.0 recorded nothing."""
    sums = [member.sha256 for member in checkpoints]
    recorded = properties.get(onnx_metadata.MADE_FROM)
    return str(recorded) if recorded else outputs.made_from({"": sums})
