"""Damage within the compressed pixels of a DICOM file.

What a decoder can notice must be an error. Codecs have no checksums, so that damage may
decode to other pixels without a sign of it.
"""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from pydicom import uid
from support.dicom_files import written

from xenon_mx.dicom import reader
from xenon_mx.errors import XenonError

MAX_PIXELS = 1 << 20


def film(bits: int = 8) -> np.ndarray:
    """Return a smooth film with some noise, which compresses as radiographs do."""
    y, x = np.mgrid[:96, :120]
    smooth = 0.5 + 0.3 * np.sin(x / 17) + 0.15 * np.cos(y / 11)
    values = (2**bits - 1) * np.clip(smooth + np.random.normal(0, 0.01, x.shape), 0, 1)
    return values.astype("u1" if bits == 8 else "u2")


def damaged(data: bytes, start: int, end: int) -> bytes:
    """Overwrite eight bytes between two offsets."""
    at = np.random.randint(start, end - 8)
    return data[:at] + np.random.bytes(8) + data[at + 8 :]


# --- JPEG with 8 bits ---

BASELINE = {
    "baseline": [],
    "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "restarts": [cv2.IMWRITE_JPEG_RST_INTERVAL, 4],
    "optimized": [cv2.IMWRITE_JPEG_OPTIMIZE, 1],
}


def jpeg(pixels: np.ndarray, kind: str) -> bytes:
    return cv2.imencode(".jpg", pixels, BASELINE[kind])[1].tobytes()


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit])
@pytest.mark.parametrize("kind", BASELINE)
@pytest.mark.parametrize("allocated", ["u1", "u2"])
def test_whole_streams_are_what_pillow_decodes(kind, syntax, allocated):
    pixels = film()
    stream = jpeg(pixels, kind)
    data = written(pixels.astype(allocated), 8, syntax, stream)
    expected = np.asarray(PIL.Image.open(io.BytesIO(stream)))
    assert np.array_equal(reader.decode(data, "scan", MAX_PIXELS), expected)


@pytest.mark.parametrize("kind", BASELINE)
def test_damage_within_a_scan_is_an_error_if_libjpeg_warns(kind, capfd):
    """OpenCV's libjpeg writes its warnings to standard error."""
    refused = 0
    for _ in range(40):
        pixels = film()
        stream = jpeg(pixels, kind)
        stream = damaged(stream, stream.index(b"\xff\xda") + 12, len(stream) - 2)
        capfd.readouterr()
        cv2.imdecode(np.frombuffer(stream, np.uint8), cv2.IMREAD_GRAYSCALE)
        warning = capfd.readouterr().err
        data = written(pixels, 8, uid.JPEGBaseline8Bit, stream)
        try:
            actual = reader.decode(data, "scan", MAX_PIXELS)
        except XenonError:
            refused += 1
            continue
        assert warning == ""
        assert np.array_equal(actual, np.asarray(PIL.Image.open(io.BytesIO(stream))))
    assert refused > 10


def test_baseline_needs_no_decoder_of_pydicom(monkeypatch):
    """And no child process: libjpeg-turbo works in this one for image files, too."""

    def fail(*args: Any) -> None:
        raise AssertionError("a child process was used")

    monkeypatch.setattr("xenon_mx.dicom.decoders.pixels", fail)
    pixels = film()
    data = written(pixels, 8, uid.JPEGBaseline8Bit, jpeg(pixels, "baseline"))
    assert reader.decode(data, "scan", MAX_PIXELS).shape == pixels.shape


def test_signed_pixels_of_eight_bits_are_twos_complement():
    """As JPEG has no sign, the bits are those of signed values."""
    bits = np.kron(np.arange(0, 256, 4).reshape(8, 8), np.ones((8, 8))).astype("u1")
    stream = cv2.imencode(".jpg", bits, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    data = written(bits.view("i1"), 8, uid.JPEGBaseline8Bit, stream)
    exact = np.asarray(PIL.Image.open(io.BytesIO(stream))).astype("u1").view("i1")
    actual = reader.decode(data, "scan", MAX_PIXELS)
    assert np.array_equal(actual, (exact.astype(int) + 128).astype("u1"))
