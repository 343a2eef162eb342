"""pack.json as a frozen, typed object: what a packed folder holds and how it was made.

Owns the format of pack.json, its checks, and the fingerprint of the data; must not know
what is in the other files of a packed folder.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any, Mapping

from xenon_mx.data.mura import ClassWeights
from xenon_mx.errors import XenonError
from xenon_mx.runtime import files

FORMAT = 1  # of pack.json; raised when a reader of the old one would misread the new
KINDS = ("rec", "idx", "lst")  # of the files of one split
# A fourth, which tells what the records are where MURA's paths in .lst do not.
MANIFEST = "csv"
REPACK = "the file is damaged; pack again with --overwrite"

_FIRST_VERSION = "0.1.0"


@dataclass(frozen=True)
class FileMeta:
    """Size and SHA-256 of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class TypeCounts:
    """Number of packed images, their studies, and unreadable images of a study type.

    `abnormal` and `normal` count images. `abnormal_studies` is None in what an older
    xenon packed.
    """

    images: int
    studies: int
    abnormal: int
    normal: int
    missing: int
    abnormal_studies: int | None = None

    @classmethod
    def from_json(cls, content: Any) -> TypeCounts:
        """Build the object from its JSON value; a ValueError if it is not valid."""
        required = dict.fromkeys(cls.__annotations__, int)
        optional = {"abnormal_studies": required.pop("abnormal_studies")}
        if optional.keys() <= content.keys():
            required.update(optional)
        _expect(content, **required)
        return cls(**{key: content[key] for key in required})


@dataclass(frozen=True)
class SplitMeta:
    """One split: its number of records, its files by name, its counts by study type."""

    records: int
    files: Mapping[str, FileMeta]
    counts: Mapping[str, TypeCounts]

    @property
    def total(self) -> TypeCounts:
        """Return the counts of all study types together, whose studies differ."""
        columns = zip(*(astuple(counts) for counts in self.counts.values()))
        sums: list[Any] = [None if None in each else sum(each) for each in columns]
        return TypeCounts(*sums)

    @classmethod
    def from_json(cls, name: str, content: Any) -> SplitMeta:
        """Build the object from its JSON value.

        Args:
            name: The split's name.
            content: The value in pack.json.

        Raises:
            ValueError: A value is missing or of another type.
        """
        _expect(content, records=int, files=dict, counts=dict)
        manifest = f"{name}.{MANIFEST}"
        if {*content["files"]} - {manifest} != {f"{name}.{kind}" for kind in KINDS}:
            raise ValueError(f"the files of {name} are not {', '.join(KINDS)}")
        for file in content["files"].values():
            _expect(file, bytes=int, sha256=str)
        return cls(
            records=content["records"],
            files={
                file: FileMeta(value["bytes"], value["sha256"])
                for file, value in content["files"].items()
            },
            counts={
                study_type: TypeCounts.from_json(counts)
                for study_type, counts in content["counts"].items()
            },
        )


@dataclass(frozen=True)
class SkippedImage:
    """An image that could not be read, in the split that it was left out of."""

    split: str
    path: str
    reason: str


@dataclass(frozen=True)
class PackMeta:
    """Content of pack.json, with the fields in the order in which they are written.

    Attributes:
        xenon: The version that packed the folder.
        size: Side of the square images, px.
        fit: How images were fitted into the square: `stretch` or `pad`.
        encoding: `jpg` or `png`.
        quality: Of the JPEGs; None for PNGs.
        seed: Of the shuffling and of the splits that were set aside.
        holdout: The share of the training patients that was held out.
        source_sha256: Of all images' paths, labels and files.
        study_types: The study types, by the number that records carry.
        weights: The loss weights of each study type, from the training images.
        pooled_weights: Those of all types together; None without a train split.
        splits: The splits by name.
        skipped: The images that could not be read.
        images_from: How the images of each split were found: `source`, `parent`, `root`
            or `working directory`, see `roots`; None in what 0.1.0 wrote.
        patients_known: Whether the source told the patients; otherwise each study
            counts as a patient of its own.
        calibration: The share of the training patients left by the holdout that was
            set aside for calibration.
    """

    xenon: str | None
    size: int
    fit: str
    encoding: str | None
    quality: int | None
    seed: int | None
    holdout: float | None
    source_sha256: str | None
    study_types: tuple[str, ...]
    weights: Mapping[str, ClassWeights]
    pooled_weights: ClassWeights | None
    splits: Mapping[str, SplitMeta]
    skipped: tuple[SkippedImage, ...]
    images_from: Mapping[str, str] | None = None
    patients_known: bool = True
    calibration: float = 0.0

    @classmethod
    def from_json(cls, content: Any) -> PackMeta:
        """Build the object from the content of pack.json; unknown keys are ignored.

        Raises:
            ValueError: A value that xenon relies on is missing or of another type.
        """
        _expect(content, size=int, fit=str, study_types=list, weights=dict, splits=dict)
        study_types = content["study_types"]
        if not all(isinstance(name, str) for name in study_types):
            raise ValueError("study_types are not names")
        if not {*content["weights"]} <= {*study_types}:
            raise ValueError("weights of unknown study types")
        has_train = "train" in content["splits"]
        return cls(
            xenon=content.get("xenon"),
            size=content["size"],
            fit=content["fit"],
            encoding=content.get("encoding"),
            quality=content.get("quality"),
            seed=content.get("seed"),
            holdout=content.get("holdout"),
            source_sha256=content.get("source_sha256"),
            study_types=tuple(study_types),
            weights={
                name: _class_weights(pair) for name, pair in content["weights"].items()
            },
            pooled_weights=(
                _class_weights(content.get("pooled_weights")) if has_train else None
            ),
            splits={
                name: SplitMeta.from_json(name, split)
                for name, split in content["splits"].items()
            },
            skipped=_skipped_images(content.get("skipped", [])),
            images_from=_images_from(content.get("images_from")),
            patients_known=content.get("patients_known", True) is not False,
            calibration=content.get("calibration", 0.0),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content of pack.json, without the checksum."""
        content = {"format": FORMAT, **asdict(self)}
        if self.images_from is None:
            del content["images_from"]
        if self.patients_known:  # as in MURA
            del content["patients_known"]
        if not self.calibration:
            del content["calibration"]
        for split in content["splits"].values():
            for counts in split["counts"].values():
                if counts["abnormal_studies"] is None:
                    del counts["abnormal_studies"]
        return content

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 that identifies the data.

        It is that of the pack.json that xenon 0.1.0 would have written, so that runs of
        all versions identify the same data alike. It covers the other files, whose
        SHA-256 pack.json holds; it covers neither the version that packed them nor keys
        that later versions add to pack.json.
        """
        first = replace(
            self,
            xenon=_FIRST_VERSION,
            images_from=None,
            patients_known=True,
            calibration=0.0,
            splits={name: _as_first(split) for name, split in self.splits.items()},
        )
        content = first.to_json()
        return hashlib.sha256(files.json_bytes(content)).hexdigest()


def read(path: Path) -> PackMeta:
    """Read a pack.json.

    Raises:
        XenonError: The file cannot be read, is damaged, or has another format.
    """
    try:
        content = files.read_json(path)
        _expect(content, format=int)
        meta = PackMeta.from_json(content) if content["format"] == FORMAT else None
    except XenonError as error:
        if isinstance(error.__cause__, OSError):  # packing again may not help
            raise
        raise XenonError(f"{error}; {REPACK}") from error
    except ValueError as error:
        raise XenonError(f"{path}: damaged: {error}; {REPACK}") from error
    if meta is None:
        raise XenonError(
            f"{path}: format {content['format']}, but this xenon reads {FORMAT}: pack "
            f"again"
        )
    return meta


def _as_first(split: SplitMeta) -> SplitMeta:
    """Return a split with the counts that 0.1.0 had."""
    counts = {
        name: replace(counts, abnormal_studies=None)
        for name, counts in split.counts.items()
    }
    return replace(split, counts=counts)


def _class_weights(pair: Any) -> ClassWeights:
    if not isinstance(pair, list) or [type(value) for value in pair] != [float, float]:
        raise ValueError("weights are not pairs of numbers")
    return ClassWeights(*pair)


def _skipped_images(content: Any) -> tuple[SkippedImage, ...]:
    fields = dict.fromkeys(SkippedImage.__annotations__, str)
    if not isinstance(content, list):
        raise ValueError("'skipped' is not a list")
    for image in content:
        _expect(image, **fields)
    return tuple(SkippedImage(**{k: image[k] for k in fields}) for image in content)


def _images_from(content: Any) -> Mapping[str, str] | None:
    if content is None:
        return None
    if not isinstance(content, dict) or not all(
        isinstance(rule, str) for rule in content.values()
    ):
        raise ValueError("'images_from' is not a rule for each split")
    return content


def _expect(value: Any, **fields: type) -> None:
    """Raise a ValueError unless a JSON value is an object with these fields."""
    if not isinstance(value, dict):
        raise ValueError(f"not a JSON object: {value!r:.40}")
    for key, kind in fields.items():
        if type(value.get(key)) is not kind:
            raise ValueError(f"{key!r} is missing or not of type {kind.__name__}")
