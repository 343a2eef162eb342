"""DICOM radiographs of every kind against PS3.3, pydicom and dcmtk: no third outcome.

Every file is either refused by name or equal to what it shows and to the independent
readings, within one gray level, and two after a window.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import dicom_kinds, image_kinds
from support.format_table import READ, Outcomes
from support.image_kinds import Sample

from xenon_mx.data import images
from xenon_mx.errors import FileError

pytestmark = pytest.mark.slow

NUMBER = 1400


def outcome(sample: Sample, capfd: pytest.CaptureFixture[str]) -> str:
    """Return `read`, the reason of a refusal, or what is wrong after a `!`."""
    capfd.readouterr()  # what other decoders wrote
    try:
        decoded = images.decode(sample.data, "film")
        again = images.decode(sample.data)
    except FileError as error:
        return error.reason
    except Exception as error:
        return f"! {error!r}"
    finally:
        assert capfd.readouterr().err == ""  # no decoder writes on the terminal
    if not np.array_equal(decoded, again):
        return "! decoded twice, it differs"
    expected = sample.shown
    if expected is None:
        return "! read, although nothing is certain about it"
    lossy = "JPEG," in sample.kind
    if differs(decoded, expected) > (8 if lossy else 2):
        return f"! read as something else: {differs(decoded, expected):.1f}"
    return READ


def differs(decoded: np.ndarray, expected: np.ndarray) -> float:
    assert decoded.shape == expected.shape
    return float(np.abs(decoded - expected).max())


def test_every_radiograph_is_read_right_or_refused(
    capfd: pytest.CaptureFixture[str],
) -> None:
    outcomes = Outcomes(image_kinds.DAMAGES)
    for sample in dicom_kinds.dicoms(random.Random(3), NUMBER):
        outcomes.add(sample.format, sample.kind, outcome(sample, capfd))
    with capfd.disabled():
        sys.stdout.write(f"\n{outcomes.listing()}\n{outcomes.total} files\n")
    outcomes.check()


def test_the_oracle_agrees_with_pydicom() -> None:
    confirmed = 0
    for made, data in dicom_kinds.usual(random.Random(11), 300):
        try:
            reading = dicom_kinds.by_pydicom(data)
        except TypeError:
            continue
        assert differs(reading, dicom_kinds.shown(made)) <= 2, made.elements
        confirmed += 1
    assert confirmed >= 100


@pytest.mark.skipif(not shutil.which("dcm2pnm"), reason="needs dcmtk")
def test_what_is_read_agrees_with_dcmtk(tmp_path: Path) -> None:
    confirmed = 0
    for made, data in dicom_kinds.usual(random.Random(12), 300):
        if not {"WindowCenter", "VOILUTSequence"} & made.elements.keys():
            continue  # dcmtk stretches what the pixels use
        if made.elements.get("RescaleSlope", 1) % 1:
            continue  # it rounds what it rescales to whole numbers
        try:
            reading = dicom_kinds.by_dcmtk(data, made, tmp_path)
        except subprocess.CalledProcessError:
            continue
        # It leaves padding as it is.
        is_padding = made.stored == made.elements.get("PixelPaddingValue")
        decoded = np.where(is_padding, reading, images.decode(data))
        assert differs(decoded, reading) <= 2, made.elements
        confirmed += 1
    assert confirmed >= 100
