"""What a folder holds: every image that can be read by name, and the rest counted."""

from __future__ import annotations

import logging
import os
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.dicom_files import written

from xenon_mx.data import folders, images

PIXELS = np.add.outer(np.arange(0, 200, 5), np.arange(40)).astype(np.uint8)
READ = (".png", ".jpg", ".bmp", ".tif")


def encoded(suffix: str) -> bytes:
    return bytes(cv2.imencode(suffix, PIXELS)[1])


def dicom(modality: str) -> bytes:
    """Return a DICOM file; only of images it has pixels."""
    if modality in ("CR", "DX", "CT"):
        return written(PIXELS, Modality=modality)
    nothing = dict.fromkeys(("Rows", "Columns", "PixelData"))
    return written(PIXELS, Modality=modality, **nothing)


@pytest.mark.parametrize("suffix", READ)
@pytest.mark.parametrize(
    "name", ["scan", "scan.jfif", "1.2.840.77", "scan.ima", "scan.apng", "a.b"]
)
def test_an_image_of_any_name_that_can_be_read_is_found(
    tmp_path: Path, suffix: str, name: str
) -> None:
    file = tmp_path / name
    file.write_bytes(encoded(suffix))
    assert images.decode(images.read(file), file).shape == PIXELS.shape
    assert folders.find_images(tmp_path) == ([file], Counter())


@pytest.mark.parametrize("content", [b"", b"no image" * 99, bytes(range(256)) * 3])
def test_a_damaged_file_with_the_suffix_of_an_image_is_not_left_out(
    tmp_path: Path, content: bytes
) -> None:
    """So that reading it is an error that names it."""
    names = [f"a{end}" for end in (*READ, ".JPE", ".jfif", ".dib", ".dcm", ".dicom")]
    for name in names:
        (tmp_path / name).write_bytes(content)
    found = folders.find_images(tmp_path)
    assert sorted(file.name for file in found.images) == sorted(names)
    assert not found.left_out


def test_other_files_are_counted_by_suffix(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("1.webp", "2.WEBP", "3.webp", "4.jp2"):
        end = Path(name).suffix.lower()
        (tmp_path / name).write_bytes(encoded(end))
    (tmp_path / "README").write_text("no image")
    (tmp_path / "1.2.840.113619.5").write_text("no image")
    (tmp_path / "people.csv").write_text("BMI,age,sex\n" * 20)
    (tmp_path / "image1.png").write_bytes(encoded(".png"))
    (tmp_path / "empty.gif").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")

    found = folders.find_images(tmp_path)
    folders.warn_of_left_out(found.left_out)

    assert [file.name for file in found.images] == ["image1.png"]
    assert caplog.messages == [
        "left out 9 files that are no images: 3 .webp, 3 without a suffix, 1 .csv, "
        "1 .gif, 1 .jp2"
    ]


def test_what_every_copy_has_beside_its_images_is_not_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (
        *(".DS_Store", "._image1.png", "DICOMDIR", "Thumbs.db", "desktop.ini"),
        *("__MACOSX/a.txt", ".git/config", "a/.hidden/image1.png", "__MACOSX/b.png"),
        *("train_image_paths.csv", "valid_labeled_studies.csv"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("no image")
    found = folders.find_images(tmp_path)
    assert found == ([], Counter())
    folders.warn_of_left_out(found.left_out)
    assert not caplog.messages


def test_what_an_archive_exports_beside_radiographs_is_counted(
    tmp_path: Path,
) -> None:
    """Presentation states, reports, key objects, documents, slices; one warning."""
    modalities = ("CR", "DX", "PR", "SR", "KO", "DOC", "CT", "CT")
    for number, modality in enumerate(modalities):
        name = f"{modality}{number}" + (".dcm" if number % 2 else "")
        (tmp_path / name).write_bytes(dicom(modality))
    (tmp_path / "report.pdf").write_bytes(b"%PDF-1.4\n" * 30)
    found = folders.find_images(tmp_path)
    assert [file.name for file in found.images] == ["CR0", "DX1.dcm"]
    assert folders.in_words(found.left_out) == (
        "2 DICOM CT, 1 .pdf, 1 DICOM DOC (document), 1 DICOM KO (key objects), 1 DICOM "
        "PR (presentation state), 1 DICOM SR (structured report)"
    )


@pytest.mark.parametrize(
    "elements",
    [
        {"Modality": None},
        {"PresentationIntentType": "FOR PROCESSING"},
        {"NumberOfFrames": 3},
        {"PixelData": None},
    ],
)
def test_a_radiograph_that_is_refused_is_not_left_out(
    tmp_path: Path, elements: dict
) -> None:
    """So that reading it is an error that says why."""
    (tmp_path / "IM1").write_bytes(written(PIXELS, **elements))
    assert [file.name for file in folders.find_images(tmp_path).images] == ["IM1"]


def test_many_kinds_are_one_short_line() -> None:
    counts = Counter({f".k{number}": 20 - number for number in range(12)})
    words = folders.in_words(counts)
    assert words.startswith("20 .k0, 19 .k1, ")
    assert words.endswith("13 .k7, 42 of other kinds")


def test_one_file_is_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    folders.warn_of_left_out(Counter({".gif": 1}))
    assert caplog.messages == ["left out 1 file that is no image: 1 .gif"]
