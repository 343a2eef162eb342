"""Damage within the compressed pixels of a DICOM file.

What a decoder can notice must be an error. Codecs have no checksums, so that damage may
decode to other pixels without a sign of it.
"""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from pydicom import uid
from pydicom.data import get_testdata_file
from support.dicom_files import jpeg_lossless, rle, written

from xenon_mx.dicom import reader
from xenon_mx.errors import XenonError


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
    assert np.array_equal(reader.decode(data), expected)


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
            actual = reader.decode(data)
        except XenonError:
            refused += 1
            continue
        assert warning == ""
        assert np.array_equal(actual, np.asarray(PIL.Image.open(io.BytesIO(stream))))
    assert refused > 10


def test_the_orientation_of_exif_in_a_stream_is_ignored():
    """The data set says how an image lies; its Rows and Columns are the stream's."""
    pixels = film()
    exif = PIL.Image.Exif()
    exif[274] = 3  # Orientation: rotated by 180 degrees
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "JPEG", exif=exif)
    expected = np.asarray(PIL.Image.open(io.BytesIO(stream.getvalue())))
    data = written(pixels, 8, uid.JPEGBaseline8Bit, stream.getvalue())
    assert np.array_equal(reader.decode(data), expected)


def test_baseline_needs_no_decoder_of_pydicom(monkeypatch):
    """And no child process: libjpeg-turbo works in this one for image files, too."""

    def fail(*args: Any) -> None:
        raise AssertionError("a child process was used")

    monkeypatch.setattr("xenon_mx.dicom.decoders.pixels", fail)
    pixels = film()
    data = written(pixels, 8, uid.JPEGBaseline8Bit, jpeg(pixels, "baseline"))
    assert reader.decode(data).shape == pixels.shape


def test_signed_pixels_of_eight_bits_are_twos_complement():
    """As JPEG has no sign, the bits are those of signed values."""
    bits = np.kron(np.arange(0, 256, 4).reshape(8, 8), np.ones((8, 8))).astype("u1")
    stream = cv2.imencode(".jpg", bits, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    data = written(bits.view("i1"), 8, uid.JPEGBaseline8Bit, stream)
    exact = np.asarray(PIL.Image.open(io.BytesIO(stream))).astype("u1").view("i1")
    actual = reader.decode(data)
    assert np.array_equal(actual, (exact.astype(int) + 128).astype("u1"))


# --- codecs of other decoders ---


def refusals(data: bytes, start: int, count: int = 40) -> list[str | None]:
    """Return the errors of a file's damaged copies, None where there is none."""
    errors: list[str | None] = []
    for _ in range(count):
        try:
            reader.decode(damaged(data, start, len(data) - 12))
            errors.append(None)
        except XenonError as error:
            errors.append(str(error))
    return errors


def test_damaged_jpeg_lossless_is_an_error_if_gdcm_warns(tmp_path):
    """GDCM's libjpeg writes its warnings to standard error, and returns pixels."""
    pixels = film(16)
    stream = jpeg_lossless(pixels, 16)
    data = written(pixels, 16, uid.JPEGLosslessSV1, stream)
    silent = 0
    for number in range(40):
        one = damaged(data, len(data) - len(stream) + 80, len(data) - 12)
        (tmp_path / f"{number:02}").write_bytes(one)
    script = """
import sys
from pathlib import Path
import pydicom
from pydicom.pixels import pixel_array
for file in sorted(Path(sys.argv[1]).iterdir()):
    print("file", file.name, file=sys.stderr, flush=True)
    try:
        pixel_array(file, decoding_plugin="gdcm")
    except Exception:
        print("failed", file=sys.stderr, flush=True)
"""
    pytest.importorskip("pydicom.pixels")
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    warned = {part[:2] for part in done.stderr.split("file ") if len(part.split()) > 1}
    assert len(warned) > 8
    for file in sorted(tmp_path.iterdir()):
        try:
            reader.decode(file.read_bytes())
            silent += 1
            assert file.name not in warned
        except XenonError:
            pass
    assert silent == 40 - len(warned)


def test_damaged_jpeg_ls_is_an_error():
    """CharLS notices it; pydicom would then try libjpeg, which does not."""
    name = "MR_small_jpeg_ls_lossless.dcm"
    data = Path(get_testdata_file(name, download=False)).read_bytes()
    data = data.replace(b"CS\2\0MR", b"CS\2\0CR")
    assert reader.decode(data).size
    errors = refusals(data, data.rindex(b"\xff\xda") + 40)
    assert sum(error is not None for error in errors) >= 38


# Four rows of five pixels: 20 bytes, a literal run of 12 and a run of eight 7s.
LITERAL = bytes([11, *range(40, 52)])
WHOLE = LITERAL + bytes([257 - 8, 7])


def rle_file(frame: bytes) -> bytes:
    return written(np.zeros((4, 5), "u1"), 8, uid.RLELossless, frame)


@pytest.mark.parametrize("padding", [b"", b"\0", b"\0\0", b"\0\0\0"])
def test_rle_segments_may_be_padded_with_zeros(padding):
    """Two are a byte more to pydicom (its issue 1438)."""
    actual = reader.decode(rle_file(rle(WHOLE + padding)))
    assert actual.ravel().tolist() == [*range(40, 52), *[7] * 8]


def test_a_control_byte_of_128_of_rle_means_nothing():
    actual = reader.decode(rle_file(rle(b"\x80" + WHOLE)))
    assert actual.ravel().tolist() == [*range(40, 52), *[7] * 8]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (rle(LITERAL + bytes([257 - 9, 7])), "segment is longer than the image"),
        (rle(WHOLE + b"\1\1"), "segment is longer than the image"),
        (rle(LITERAL + bytes([257 - 7, 7])), "cut short"),
        (rle(LITERAL + bytes([7, 1, 2, 3])), "cut short"),
        (rle(WHOLE, WHOLE), "RLE header is wrong"),
        (b"\1" + bytes(63) + WHOLE, "RLE header is wrong"),
        (rle(WHOLE)[:60], "cut short"),
    ],
)
def test_rle_of_another_length_is_an_error(frame, reason):
    with pytest.raises(XenonError, match=reason):
        reader.decode(rle_file(frame))


def test_damaged_rle_is_an_error_if_its_lengths_change():
    blocks = np.random.randint(0, 65536, (12, 15)).astype("u2")
    data = written(np.kron(blocks, np.ones((8, 8), "u2")), 16, uid.RLELossless)
    errors = refusals(data, data.rindex(b"\xfe\xff\x00\xe0") + 72)
    assert sum(error is not None for error in errors) > 20
    assert not any(error and "its pixels cannot" in error for error in errors)
