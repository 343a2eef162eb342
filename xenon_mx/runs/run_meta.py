"""run.json: what a run was trained with and on.

Owns the file's keys, their types and the checks when it is read. Must not know the
other files of a run.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Mapping, TypeVar

from xenon_mx.config import FITS
from xenon_mx.errors import FileError, XenonError
from xenon_mx.evaluation.seen import ELSEWHERE
from xenon_mx.models.weight_input import DRAWN_ANEW, IMAGENET

RUN_JSON = "run.json"
FORMAT = 1  # raised when an older xenon would misread the new content
# Recorded beside the net's name: the params alone do not show how the net pools.
ARCHITECTURE = {"pooling": "global", "logits": 1}
# Absent where a run does not have them, as those of xenon 0.1.0 have no id.
_OPTIONAL = ("id", "versions", "trained_on", "validated_on", "amp")

T = TypeVar("T")


@dataclass(frozen=True)
class Preprocessing:
    """How a radiograph becomes the input of a net.

    Attributes:
        size: Side of the square, px.
        fit: How the radiograph is fitted into the square: one of `config.FITS`.
        mean: Mean that is subtracted per channel, RGB on the scale 0-1.
        std: Standard deviation that each channel is divided by.
        pixels: `data.images.PIXELS` of the xenon that trained, for other programs; None
            in runs of xenon 0.1.0.
    """

    size: int
    fit: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    pixels: Mapping[str, Any] | None = field(default=None, compare=False)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Preprocessing:
        """Parse a JSON object; KeyError, TypeError or ValueError if it is not valid."""
        size, fit = content["size"], content["fit"]
        if type(size) is not int or size <= 0 or fit not in FITS:
            raise ValueError("size or fit is not valid")
        mean, std = content.get("mean"), content.get("std")
        pixels = content.get("pixels")
        return cls(size, fit, mean and tuple(mean), std and tuple(std), pixels)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            if value is not None
        }


@dataclass(frozen=True)
class PretrainedSource:
    """The weights that a run started from.

    Attributes:
        source: `file`, `run`, `gluon` or `hub`.
        origin: The path that the user gave, or the name of the download.
        file: Path of the weights file.
        sha256: SHA-256 of the weights file.
        head: What became of the file's last layer: `kept` or `drawn anew`; None where
            an older xenon did not record it.
        input: The input that its net was trained on, a value of --pretrained-input;
            None like `head`.
        trained_on: `seen.ELSEWHERE` if the net in the file, of which the last layer
            was kept, was not trained here: on which studies is not known. Else None.
    """

    source: str
    origin: str
    file: str
    sha256: str
    head: str | None = None
    input: str | None = None
    trained_on: str | None = None

    @property
    def words(self) -> str:
        """The origin, and what was changed in the weights."""
        changes = []
        if self.input not in (None, IMAGENET):
            changes.append(f"input {self.input} folded into the first convolution")
        if self.head == DRAWN_ANEW:
            changes.append(f"last layer {self.head}")
        return f"{self.origin} ({', '.join(changes)})" if changes else self.origin

    def to_json(self) -> dict[str, str]:
        """Return the JSON object."""
        return {k: value for k, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class SplitSize:
    """A split and the number of its images."""

    split: str
    images: int


NOT_TRAINED_HERE = SplitSize(ELSEWHERE, 0)


@dataclass(frozen=True)
class DataMeta:
    """The data that nets were trained on.

    Attributes:
        data: Fingerprint of the packed folder.
        study_types: The study types, in the order of their numbers in records.
        weights: Loss weights of a normal and an abnormal image, per study type.
        preprocessing: How the radiographs became the input of the net.
    """

    data: str
    study_types: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    preprocessing: Preprocessing

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> DataMeta:
        """Parse a JSON object; KeyError, TypeError or ValueError if it is not valid."""
        return DataMeta(**_parse_data(content))


@dataclass(frozen=True)
class RunMeta(DataMeta):
    """The content of run.json.

    Attributes:
        settings: The settings of `xenon-train`, `config` in the file.
        architecture: See `ARCHITECTURE`.
        pretrained: The first weights; None if they were random.
        id: A random identifier; None in runs of xenon 0.1.0.
        versions: Package to version.
        trained_on: The training split; `NOT_TRAINED_HERE` of `--epochs 0`.
        validated_on: The split that the checkpoints were chosen on; of `--epochs 0`,
            that the net was validated on.
        amp: The 16-bit type of `--amp`, as MXNet names it; None is float32.
        unknown: What a later xenon may add to the file.
    """

    settings: Mapping[str, Any]
    architecture: Mapping[str, Any]
    pretrained: PretrainedSource | None = None
    id: str | None = None
    versions: Mapping[str, str] | None = None
    trained_on: SplitSize | None = None
    validated_on: SplitSize | None = None
    amp: str | None = None
    unknown: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, content: Mapping[str, Any], file: Path | str = "") -> RunMeta:
        """Parse the content of run.json.

        Args:
            content: A JSON object.
            file: Path of the file, for error messages.

        Raises:
            XenonError: It is of another format, or a value is missing or not valid.
        """
        if content.get("format") != FORMAT:
            raise XenonError(f"{file}: not of format {FORMAT}, which this xenon reads")
        try:
            return _parse_run(content)
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(file) from error

    def to_json(self) -> dict[str, Any]:
        """Return the content of run.json, its keys in the order of the file."""
        content = {
            "format": FORMAT,
            "id": self.id,
            "config": dict(self.settings),
            "versions": self.versions,
            "data": self.data,
            "trained_on": self.trained_on and asdict(self.trained_on),
            "validated_on": self.validated_on and asdict(self.validated_on),
            "study_types": list(self.study_types),
            "weights": [list(pair) for pair in self.weights],
            "preprocessing": self.preprocessing.to_json(),
            "architecture": self.architecture,
            "pretrained": self.pretrained and self.pretrained.to_json(),
            "amp": self.amp,
            **self.unknown,
        }
        absent = {key for key in _OPTIONAL if content[key] is None}
        return {key: value for key, value in content.items() if key not in absent}

    @property
    def model(self) -> str:
        """The name of the net."""
        return str(self.settings["model"])

    @property
    def is_from_elsewhere(self) -> bool:
        """Whether the net was not trained here: `--epochs 0`."""
        return self.trained_on == NOT_TRAINED_HERE

    @property
    def may_have_seen_any(self) -> bool:
        """Whether any study may have trained the net, for all that is known."""
        return self.is_from_elsewhere or self.began_elsewhere

    @property
    def began_elsewhere(self) -> bool:
        """Whether the first weights were those of a net that was not trained here."""
        return bool(self.pretrained and self.pretrained.trained_on == ELSEWHERE)

    @property
    def identity(self) -> str:
        """An identifier of the run, the same after more epochs or a move."""
        if self.id is not None:
            return self.id
        # For runs of xenon 0.1.0, a digest of what resuming cannot change.
        pretrained = self.pretrained and self.pretrained.to_json()
        fixed = [self.data, self.versions, pretrained]
        fixed += [self.settings.get(key) for key in ("model", "seed", "lr")]
        return hashlib.sha256(json.dumps(fixed, allow_nan=False).encode()).hexdigest()


def damaged(file: Path | str) -> FileError:
    """Return the error of a file of a run whose values are missing or not valid."""
    return FileError(file, "damaged: it is not as xenon-train wrote it")


def _parse_data(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a `DataMeta`."""
    data, study_types = content["data"], tuple(content["study_types"])
    weights = tuple(tuple(pair) for pair in content["weights"])
    if not all(isinstance(value, str) for value in (data, *study_types)):
        raise TypeError("data and study types are strings")
    if [len(pair) for pair in weights] != [2] * len(study_types):
        raise ValueError("each study type has two weights")
    return {
        "data": data,
        "study_types": study_types,
        "weights": weights,
        "preprocessing": Preprocessing.from_json(content["preprocessing"]),
    }


def _parse_run(content: Mapping[str, Any]) -> RunMeta:
    settings = dict(content["config"])
    if "workers" in settings:  # the name of --threads in xenon 0.1.0
        settings["threads"] = settings.pop("workers")
    strings = [settings["model"], content.get("id", "")]
    objects = [content["architecture"], content.get("versions", {})]
    if not all(isinstance(value, str) for value in strings):
        raise TypeError("model and id are strings")
    if not all(isinstance(value, dict) for value in objects):
        raise TypeError("architecture and versions are objects")
    known = {"format", "config", *(attribute.name for attribute in fields(RunMeta))}
    return RunMeta(
        **_parse_data(content),
        settings=settings,
        architecture=content["architecture"],
        pretrained=_parse(PretrainedSource, content.get("pretrained")),
        id=content.get("id"),
        versions=content.get("versions"),
        trained_on=_parse(SplitSize, content.get("trained_on")),
        validated_on=_parse(SplitSize, content.get("validated_on")),
        amp=content.get("amp"),
        unknown={k: v for k, v in content.items() if k not in known},
    )


def _parse(cls: type[T], content: Mapping[str, Any] | None) -> T | None:
    """Return a dataclass with the values of a JSON object; None for null."""
    if content is None:
        return None
    keys = [key.name for key in fields(cls)]  # type: ignore[arg-type]
    # KeyError for one that is missing and has no default.
    return cls(**{k: content[k] for k in keys if k in content or not hasattr(cls, k)})
