"""Data sets laid out as MURA: the folders and images of studies, and a split's CSVs."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterable, NamedTuple, Sequence

NAME = "MURA-v1.1"  # what the paths in the CSVs start with


class Study(NamedTuple):
    """One study of a data set: label 1 is abnormal, `views` is its number of images."""

    split: str
    study_type: str
    patient: int
    label: int
    views: int = 1
    number: int = 1

    @property
    def folder(self) -> str:
        """Return the study's folder below the root, with a slash at its end."""
        end = ("negative", "positive")[self.label]
        patient = f"patient{self.patient:05d}"
        return f"{self.split}/{self.study_type}/{patient}/study{self.number}_{end}/"

    @property
    def images(self) -> list[str]:
        """Return the paths of the study's images below the root."""
        return [f"{self.folder}image{view + 1}.png" for view in range(self.views)]


def write_images(
    root: Path, studies: Iterable[Study], draw: Callable[[Path, int], object]
) -> None:
    """Write the images of studies.

    Args:
        root: The root of the data set.
        studies: The studies.
        draw: Writes one image, given its file and its number, counted from 0 over all
            studies.
    """
    images = [image for study in studies for image in study.images]
    for number, image in enumerate(images):
        file = root / image
        file.parent.mkdir(parents=True, exist_ok=True)
        draw(file, number)


def write_csvs(root: Path, split: str, studies: Sequence[Study]) -> None:
    """Write the two CSVs of a split: image paths, and labels of studies."""
    paths = "".join(f"{NAME}/{image}\n" for study in studies for image in study.images)
    labels = "".join(f"{NAME}/{study.folder},{study.label}\n" for study in studies)
    (root / f"{split}_image_paths.csv").write_text(paths)
    (root / f"{split}_labeled_studies.csv").write_text(labels)
