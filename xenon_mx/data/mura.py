"""MURA's layout: the study type, patient, study and label that a path contains.

Owns that layout, the split by patient, and class weights; must not know files, pixels,
records or nets.

A path in MURA reads `MURA-v1.1/train/XR_WRIST/patient00001/study1_positive/image1.png`.
The study type is the folder named `XR_*`, the patient the folder below it, and the
study the folder of the image, written with a slash at its end.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Callable, Iterable, Mapping, NamedTuple, Sequence, TypeVar

from xenon_mx.errors import XenonError
from xenon_mx.runtime import text

SPLITS = ("train", "valid")
_STUDY_TYPE = re.compile(r"XR_\w+")
_LABELS = {"_positive": 1, "_negative": 0}
# The CSVs of a data set; the competition's also has a test split.
_OWN_FILE = re.compile(r"(train|valid|test)_(image_paths|labeled_studies)\.csv")
T = TypeVar("T")


@dataclass(frozen=True)
class Image:
    """One view of a study.

    Attributes:
        path: As in the input.
        file: Its path on this machine.
        study: The study's folder as in the input, with a slash at its end, or its name
            in a manifest; else the image's own path, as each image is then a study.
        study_type: `XR_*`, or empty outside MURA's layout and manifests.
        patient: `patient00001`; empty if it is unknown, as outside MURA's layout.
        label: 1 abnormal, 0 normal, None unknown.
        extra: Further columns by name, such as of a manifest, for subgroups.
        hides_file: Whether the file's path may name a patient, as in archives.
    """

    path: str
    file: Path
    study: str
    study_type: str
    patient: str
    label: int | None
    extra: Mapping[str, str] = field(default_factory=dict, compare=False)
    hides_file: bool = False

    @property
    def patient_or_study(self) -> str:
        """Return the patient; an unknown one is that of this study alone."""
        return self.patient or self.study

    @property
    def name(self) -> str:
        """Return what messages call the image: its file, unless that is hidden."""
        return self.path if self.hides_file else str(self.file)


def is_data_set_file(name: str) -> bool:
    """Return whether a file's name is that of one of MURA's CSVs."""
    return bool(_OWN_FILE.fullmatch(name))


def parse(path: str, file: Path) -> Image:
    """Parse study type, patient, study and label from a path in MURA's layout."""
    parts = PurePosixPath(path).parts
    index = study_type_index(parts[:-3])
    if index is None:
        return Image(
            path=path, file=file, study=path, study_type="", patient="", label=None
        )
    study = path.rpartition("/")[0] + "/"
    label = next((v for end, v in _LABELS.items() if parts[-2].endswith(end)), None)
    return Image(
        path=path,
        file=file,
        study=study,
        study_type=parts[index],
        patient=parts[index + 1],
        label=label,
    )


def is_told_by_path(image: Image) -> bool:
    """Return whether an image's path tells its study, type and patient."""
    parsed = parse(image.path, image.file)
    told = parsed.study, parsed.study_type, parsed.patient
    return told == (image.study, image.study_type, image.patient) and not image.extra


def is_study_type(name: str) -> bool:
    """Return whether a name is that of a study type, such as `XR_WRIST`."""
    return bool(_STUDY_TYPE.fullmatch(name))


def study_type_index(parts: Sequence[str]) -> int | None:
    """Return the index of the last folder named `XR_*`; None if there is none."""
    indices = [i for i, part in enumerate(parts) if is_study_type(part)]
    return indices[-1] if indices else None


def study_tail(study: str) -> str:
    """Return a study's path from `XR_*` on, whatever the data set is called."""
    parts = PurePosixPath(study).parts
    return "/".join(parts[study_type_index(parts) or 0 :])


def check_labels_of_folders(studies: Iterable[str]) -> None:
    """Check that no study is in several folders that differ only in the label.

    A study is the same if its path from `XR_*` on is the same without `_positive` or
    `_negative`. Were it taken for two studies, one of them would have the wrong label.

    Args:
        studies: The folders of studies, each any number of times; paths outside MURA's
            layout are ignored.

    Raises:
        XenonError: There are such studies; the error names all of their folders.
    """
    folders: dict[str, dict[str, str]] = {}
    for study in dict.fromkeys(studies):
        tail = study_tail(study)
        if study_type_index(PurePosixPath(tail).parts[:-2]) is not None:
            folders.setdefault(_without_label(tail), {}).setdefault(tail, study)
    shared = [list(names.values()) for names in folders.values() if len(names) > 1]
    if shared:
        counted = text.counted(len(shared), "study is", "studies are")
        raise XenonError(
            f"{counted} in several folders that differ only in the label: keep the "
            f"folder whose label is right, or rename the other one if it is another "
            f"study",
            [" and ".join(names) for names in shared],
        )


def _without_label(study: str) -> str:
    """Return a study's path without the suffix that is its label."""
    for suffix in _LABELS:
        if study.endswith(suffix):
            return study[: -len(suffix)]
    return study


def hold_out(
    images: Sequence[Image], share: float, seed: int, purpose: str = ""
) -> tuple[list[Image], list[Image]]:
    """Split images by patient into (the rest, the held-out share).

    A patient is held out if a hash of their name, as a number from 0 to 1, is below
    the share: adding a patient moves no other patient to the other side, and the share
    is met on average. Shares for different purposes are drawn independently.
    """
    rest: list[Image] = []
    holdout: list[Image] = []
    for image in images:
        number = int.from_bytes(_hash(seed, purpose + image.patient_or_study), "big")
        (holdout if number < share * 2**256 else rest).append(image)
    return rest, holdout


def shuffled(items: Iterable[T], key: Callable[[T], str], seed: int) -> list[T]:
    """Return items ordered by a hash of (seed, key), the same in every environment."""
    return sorted(items, key=lambda item: _hash(seed, key(item)))


def _hash(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{key}".encode()).digest()


class ClassWeights(NamedTuple):
    """The weights of a normal and of an abnormal image in the loss."""

    normal: float
    abnormal: float


@dataclass(frozen=True)
class Counts:
    """Number of images and studies; `abnormal` and `normal` count images."""

    images: int
    studies: int
    abnormal: int
    normal: int
    abnormal_studies: int = 0

    @property
    def weights(self) -> ClassWeights:
        """Return the loss weights of the classes.

        Source: the paper, section 3: w_T1 = |N_T| / (|A_T| + |N_T|) for abnormal and
        w_T0 = |A_T| / (|A_T| + |N_T|) for normal images of the study type T, counted
        over the training images.
        """
        return ClassWeights(self.abnormal / self.images, self.normal / self.images)


def single_class_types(
    study_types: Iterable[str], weights: Mapping[str, Sequence[float]]
) -> list[str]:
    """Return the study types whose training images do not hold both classes.

    By the paper's formula one of their loss weights is 0, so that they cannot be
    trained with these weights.

    Args:
        study_types: The study types to check.
        weights: `Counts.weights` of each study type that has training images.
    """
    return [name for name in study_types if 0.0 in weights.get(name, [0.0])]


def count(images: Sequence[Image]) -> dict[str, Counts]:
    """Count the images of each study type, in alphabetical order."""
    by_type: dict[str, list[Image]] = {}
    for image in images:
        by_type.setdefault(image.study_type, []).append(image)
    return {name: count_all(by_type[name]) for name in sorted(by_type)}


def count_all(images: Sequence[Image]) -> Counts:
    """Count images of all study types together."""
    labels = [image.label for image in images]
    studies = {image.study: image.label for image in images}
    return Counts(
        images=len(images),
        studies=len(studies),
        abnormal=labels.count(1),
        normal=labels.count(0),
        abnormal_studies=list(studies.values()).count(1),
    )
