"""DICOM decoding against dcmtk's dcm2pnm, where it is installed."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pydicom
import pytest
from pydicom import uid
from support.dicom_files import noise, saved, table, written

from xenon_mx.data import images

pytestmark = pytest.mark.skipif(
    not shutil.which("dcm2pnm"), reason="dcm2pnm is not installed (apt: dcmtk)"
)

WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
NARROW = {"WindowCenter": [1000, 9], "WindowWidth": [900, 2]}
SQUARES = (np.arange(4096) ** 2 // 4095).tolist()
INVERSE = {"PhotometricInterpretation": "MONOCHROME1"}


def dcmtk(data: bytes, folder: Path, *options: str) -> np.ndarray:
    """Return dcmtk's rendering without overlays: (H, W) int."""
    file, image = folder / "a.dcm", folder / "a.pgm"
    file.write_bytes(data)
    command = ["dcm2pnm", "-O", "+op", *options, str(file), str(image)]
    subprocess.run(command, check=True, capture_output=True)
    return np.asarray(PIL.Image.open(image)).astype(int)


def vr(data: bytes, kind: bytes) -> bytes:
    """Return a file whose pixel data have another VR."""
    at = max(data.rfind(tag) for tag in (b"\xe0\x7f\x10\0", b"\x7f\xe0\0\x10")) + 4
    return data[:at] + kind + data[at + 2 :]


def film(bits: int = 12, signed: bool = False, **elements: Any) -> bytes:
    return written(noise(bits, signed, (40, 31)), bits, **elements)


BIG = {"syntax": uid.ExplicitVRBigEndian}
FILMS = {
    "8 bits": lambda: film(8),
    "12 bits": lambda: film(),
    "signed": lambda: film(signed=True),
    "16 bits signed": lambda: film(16, True),
    "inverse": lambda: film(**INVERSE),
    "inverse, twice": lambda: film(**INVERSE, PresentationLUTShape="INVERSE"),
    "negative slope": lambda: film(RescaleSlope=-1, RescaleIntercept=4095),
    "modality table": lambda: film(
        ModalityLUTSequence=[table(0, SQUARES[::-1], 12)], ModalityLUTType="US"
    ),
    "table and rescale": lambda: film(
        ModalityLUTSequence=[table(0, SQUARES[::-1], 12)],
        ModalityLUTType="US",
        RescaleSlope=2,
        RescaleIntercept=0,
    ),
    "optical density": lambda: film(
        RescaleSlope=1, RescaleIntercept=0, RescaleType="OD"
    ),
    "big endian": lambda: film(**BIG),
    "big endian bytes": lambda: film(8, **BIG),
    "big endian bytes in words": lambda: vr(film(8, **BIG), b"OW"),
    "words as bytes": lambda: vr(film(), b"OB"),
    "bytes as words": lambda: vr(film(8), b"OW"),
    "odd length": lambda: written(noise(8, shape=(21, 31))),
    "implicit": lambda: film(syntax=uid.ImplicitVRLittleEndian),
    "extremes that are wrong": lambda: film(
        SmallestImagePixelValue=9, LargestImagePixelValue=20
    ),
    "RLE": lambda: film(syntax=uid.RLELossless),
}
WITH_WINDOW = {
    "window": lambda: film(**WINDOW),
    "two windows": lambda: film(**NARROW),
    "inverse": lambda: film(**NARROW, **INVERSE),
    "signed": lambda: film(signed=True, WindowCenter=0, WindowWidth=3000),
    "rescaled": lambda: film(**WINDOW, RescaleSlope=2, RescaleIntercept=-1024),
    "negative slope": lambda: film(**NARROW, RescaleSlope=-1, RescaleIntercept=4095),
    "sigmoid": lambda: film(**NARROW, VOILUTFunction="SIGMOID"),
    "12 bits in 16": lambda: written(noise(12), 16, **WINDOW),
}
WITH_TABLE = {
    "table": lambda: film(VOILUTSequence=[table(0, SQUARES, 12)]),
    "table and window": lambda: film(VOILUTSequence=[table(0, SQUARES, 12)], **NARROW),
    "signed": lambda: film(signed=True, VOILUTSequence=[table(-2048, SQUARES, 12)]),
    "part": lambda: film(VOILUTSequence=[table(900, SQUARES[1000:], 12)]),
    "of bytes": lambda: film(
        VOILUTSequence=[table(0, [0] * 256, 8, bytes(range(255, -1, -1)))]
    ),
}


@pytest.mark.parametrize("name", FILMS)
def test_without_a_window(tmp_path, name):
    data = FILMS[name]()
    difference = images.decode(data) - dcmtk(data, tmp_path)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("name", WITH_WINDOW)
def test_with_a_window(tmp_path, name):
    data = WITH_WINDOW[name]()
    difference = images.decode(data) - dcmtk(data, tmp_path, "+Wi", "1")
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("name", WITH_TABLE)
def test_with_a_voi_table(tmp_path, name):
    data = WITH_TABLE[name]()
    difference = images.decode(data) - dcmtk(data, tmp_path, "+Wl", "1")
    assert np.abs(difference).max() <= 1


def test_overlays_in_the_upper_bits(tmp_path):
    pixels = noise(12, shape=(40, 31))
    overlay = 0x8000 * np.random.randint(0, 2, pixels.shape)
    dataset = pydicom.dcmread(io.BytesIO(written(pixels | overlay.astype("u2"), 12)))
    dataset.add_new((0x6000, 0x0100), "US", 16)
    dataset.add_new((0x6000, 0x0102), "US", 15)
    data = saved(dataset)
    assert np.abs(images.decode(data) - dcmtk(data, tmp_path)).max() <= 1


@pytest.mark.parametrize(
    ("program", "options"),
    [
        ("dcmcjpeg", ["+e1"]),
        ("dcmcjpeg", ["+el", "+sv", "4"]),
        ("dcmcjpls", []),
        ("dcmcjpls", ["+en", "+md", "3"]),
        ("dcmcrle", []),
    ],
)
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (12, False), (16, False)])
def test_files_that_dcmtk_compressed(tmp_path, program, options, bits, signed):
    plain, packed = tmp_path / "a.dcm", tmp_path / "b.dcm"
    plain.write_bytes(film(bits, signed))
    subprocess.run([program, *options, str(plain), str(packed)], check=True)
    actual = images.decode(packed.read_bytes()).astype(int)
    expected = images.decode(plain.read_bytes())
    deviation = 4 if "+en" in options else 0
    assert np.abs(actual - expected).max() <= deviation
