"""DICOM decoding against the standard's formulas, other encoders' files, and errors."""

from __future__ import annotations

import csv
import io
import os
import resource
import shutil
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
import synthetic
from openjpeg.utils import encode_array
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from scipy.special import expit
from support.dicom_files import (
    decoded,
    gray,
    jpeg_lossless,
    jpeg_of_blocks,
    noise,
    refusal,
    saved,
    table,
    without_meta,
    written,
)

from xenon_mx.commands import pack, predict, train
from xenon_mx.config import PackConfig, PredictConfig, TrainConfig
from xenon_mx.data import datasets, images, packed_folder
from xenon_mx.dicom import decoders, reader, windowing
from xenon_mx.dicom.headers import Header
from xenon_mx.errors import XenonError


def linear(x: float, c: float, w: float) -> float:
    """PS3.3, C.11.2.1.2.1, verbatim, with an output from 0 to 1."""
    if x <= c - 0.5 - (w - 1) / 2:
        return 0
    if x > c - 0.5 + (w - 1) / 2:
        return 1
    return (x - (c - 0.5)) / (w - 1) + 0.5


def linear_exact(x: float, c: float, w: float) -> float:
    """PS3.3, C.11.2.1.3.2, verbatim, with an output from 0 to 1."""
    if x <= c - w / 2:
        return 0
    if x > c + w / 2:
        return 1
    return (x - c) / w + 0.5


def sigmoid(x: float, c: float, w: float) -> float:
    """PS3.3, C.11.2.1.3.1, with an output from 0 to 1."""
    return expit(4 * (x - c) / w)


# --- gray values ---


def test_eight_bits_without_a_window_are_unchanged():
    pixels = noise(8)
    actual = decoded(pixels)
    assert actual.dtype == np.uint8
    assert np.array_equal(actual, pixels)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_more_bits_are_scaled_by_bits_stored_not_by_the_brightest_pixel(bits):
    pixels = noise(bits) // 3  # far from the maximum
    assert np.array_equal(decoded(pixels, bits), gray(pixels / (2**bits - 1)))


@pytest.mark.parametrize("bits", [12, 16])
def test_signed_pixels_run_from_the_most_negative_to_the_most_positive(bits):
    pixels = noise(bits, signed=True)
    expected = gray((pixels + 2.0 ** (bits - 1)) / (2**bits - 1))
    assert np.array_equal(decoded(pixels, bits), expected)


@pytest.mark.parametrize(
    ("function", "formula"),
    [
        (None, linear),
        ("LINEAR", linear),
        ("LINEAR_EXACT", linear_exact),
        ("SIGMOID", sigmoid),
    ],
)
@pytest.mark.parametrize(
    ("centre", "width"),
    [(2048, 4096), (1000, 500.5), (2047.5, 2), (-700, 100), (9000, 50), (5, 1)],
)
def test_windows_follow_the_standard(function, formula, centre, width):
    window = {"WindowCenter": centre, "WindowWidth": width}
    data = written(noise(12), 12, VOILUTFunction=function, **window)
    header = Header(pydicom.dcmread(io.BytesIO(data)))
    expected = gray([formula(x, centre, width) for x in range(4096)])
    assert np.array_equal(windowing.gray_lookup_table(header), expected)


def test_the_first_of_several_windows_is_used():
    pixels = noise(12)
    one = decoded(pixels, 12, WindowCenter=900, WindowWidth=300)
    two = decoded(pixels, 12, WindowCenter=[900, 40], WindowWidth=[300, 80])
    assert np.array_equal(one, two)


def test_a_window_applies_to_rescaled_values():
    pixels = noise(12, signed=True)
    actual = decoded(
        pixels,
        12,
        RescaleSlope=0.5,
        RescaleIntercept=-100,
        WindowCenter=20,
        WindowWidth=700,
    )
    values = (pixels * 0.5 - 100).tolist()
    expected = [[linear(x, 20, 700) for x in row] for row in values]
    assert np.array_equal(actual, gray(expected))


def test_rescaled_values_without_a_window_use_their_full_range():
    pixels = noise(12)
    actual = decoded(pixels, 12, RescaleSlope=3, RescaleIntercept=-1024)
    assert np.array_equal(actual, gray(pixels / 4095))
    actual = decoded(pixels, 12, RescaleSlope=-2, RescaleIntercept=8190)
    assert np.array_equal(actual, gray((4095.0 - pixels) / 4095))


def test_an_idle_half_of_a_rescale_is_read():
    pixels = noise(12)
    for elements in ({"RescaleSlope": 1}, {"RescaleIntercept": 0}):
        assert np.array_equal(decoded(pixels, 12, **elements), decoded(pixels, 12))


@pytest.mark.parametrize("options", [{}, {"WindowCenter": 900, "WindowWidth": 800}])
def test_monochrome1_is_inverted_last(options):
    pixels = noise(12)
    upright = decoded(pixels, 12, **options)
    actual = decoded(pixels, 12, PhotometricInterpretation="MONOCHROME1", **options)
    assert np.array_equal(actual, 255 - upright)


@pytest.mark.parametrize(
    ("kind", "shape"), [("MONOCHROME2", "IDENTITY"), ("MONOCHROME1", "INVERSE")]
)
def test_a_consistent_presentation_lut_shape_changes_nothing(kind, shape):
    """PS3.3, C.7.6.1: it repeats the meaning of MONOCHROME1 or 2."""
    pixels = noise(8)
    expected = pixels if kind == "MONOCHROME2" else 255 - pixels
    elements = {"PhotometricInterpretation": kind, "PresentationLUTShape": shape}
    assert np.array_equal(decoded(pixels, **elements), expected)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("kind", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.RLELossless])
@pytest.mark.parametrize(
    ("value", "limit"), [(-1000, None), (-1000, -900), (-900, -1000), (2047, 1900)]
)
def test_padding_is_black_in_monochrome1_and_2(syntax, kind, signed, value, limit):
    pixels = noise(12, signed, (40, 50))
    shift = 0 if signed else 2048
    ends = sorted([value + shift, (value if limit is None else limit) + shift])
    pixels[3, :4] = ends[0], ends[1], ends[0] - 1, min(ends[1] + 1, 2047 + shift)
    elements = {"PhotometricInterpretation": kind}
    if limit is not None:
        elements["PixelPaddingRangeLimit"] = limit + shift
    actual = decoded(pixels, 12, syntax, PixelPaddingValue=value + shift, **elements)
    expected = gray((pixels + 2048.0 - shift) / 4095)
    if kind == "MONOCHROME1":
        expected = 255 - expected
    expected[(ends[0] <= pixels) & (pixels <= ends[1])] = 0
    assert np.array_equal(actual, expected)


@pytest.mark.parametrize("signed", [False, True])
def test_padding_is_read_with_the_sign_of_the_pixels(signed):
    """Whatever its VR, which some writers get wrong."""
    pixels = noise(16, signed)
    pixels[2, 2:5] = -3 if signed else 65533
    dataset = pydicom.dcmread(io.BytesIO(written(pixels, 16)))
    kind, value = ("US", 65533) if signed else ("SS", -3)
    dataset.add_new("PixelPaddingValue", kind, value)
    expected = gray((pixels + 32768.0 * signed) / 65535)
    expected[2, 2:5] = 0
    assert np.array_equal(images.decode(saved(dataset)), expected)


def test_padding_does_not_hide_that_a_film_is_nearly_black():
    pixels = noise(12, shape=(40, 50))
    pixels[3, 3] = 65535
    for padding in ({}, {"PixelPaddingValue": 65535}):
        message = refusal(written(pixels, 16, **padding))
        assert "nothing to see" in message
        assert "by the range of its 16 bits without a window" in message
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    assert decoded(pixels, 16, PixelPaddingValue=65535, **window)[3, 3] == 0


def test_an_image_of_nothing_but_padding_is_rejected():
    pixels = np.full((6, 9), 7, np.uint8)
    assert "nothing to see" in refusal(written(pixels, PixelPaddingValue=7))


def test_overlays_above_bits_stored_are_dropped():
    """Old files store overlays there (retired in PS3.5 of 2004), and say so."""
    pixels = noise(12)
    overlays = pixels | 0xA000 * np.random.randint(0, 2, pixels.shape).astype("u2")
    dataset = pydicom.dcmread(io.BytesIO(written(overlays, 12)))
    for group, bit in ((0x6000, 13), (0x6002, 15)):
        dataset.add_new((group, 0x0102), "US", bit)
    assert np.array_equal(images.decode(saved(dataset)), decoded(pixels, 12))
    del dataset[0x6002, 0x0102]
    assert "exceeds its 12 bits" in refusal(saved(dataset))


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless])
@pytest.mark.parametrize(
    ("signed", "value"), [(False, 4096), (False, 65535), (True, 2048), (True, -2049)]
)
def test_values_beyond_bits_stored_are_rejected(syntax, signed, value):
    """Cut off, they would turn white into black."""
    pixels = noise(12, signed, (40, 50))
    assert images.decode(written(pixels, 12, syntax)).shape == (40, 50)
    pixels[3, 3] = value
    message = refusal(written(pixels, 12, syntax))
    assert "exceed" in message
    assert "its 12 bits" in message


def test_signed_pixels_with_and_without_their_sign_are_rejected():
    """What lacks its sign is a bright value beyond the range then."""
    pixels = noise(12, signed=True)
    pixels[1, 1], pixels[1, 2] = -5, 4091
    assert "exceeds its 12 bits" in refusal(written(pixels, 12))


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("signed", "value"), [(False, 65535), (False, -2000), (True, -2049), (True, 32767)]
)
def test_padding_beyond_bits_stored_is_black(kind, signed, value):
    pixels = noise(12, signed, (40, 50))
    expected = decoded(pixels, 12, PhotometricInterpretation=kind)
    pixels[:9] = value if signed else value & 0xFFFF
    expected[:9] = 0
    dataset = pydicom.dcmread(io.BytesIO(written(pixels, 12)))
    dataset.PhotometricInterpretation = kind
    dataset.add_new("PixelPaddingValue", "SS" if value < 32768 else "US", value)
    assert np.array_equal(images.decode(saved(dataset)), expected)


def test_big_endian_words_that_are_declared_as_bytes_are_rejected():
    """Viewers swap them or not (dcmtk does not, pydicom does)."""
    data = written(noise(12), 12, uid.ExplicitVRBigEndian)
    at = data.rindex(b"\x7f\xe0\x00\x10") + 4
    assert data[at : at + 2] == b"OW"
    message = refusal(data[:at] + b"OB" + data[at + 2 :])
    assert "the order of their bytes is ambiguous" in message


@pytest.mark.parametrize("kind", ["US", "OW"])
def test_a_modality_table_is_applied_before_the_window(kind):
    pixels = noise(8)
    entries = np.random.randint(0, 4096, 200)
    data = entries.astype("<u2").tobytes() if kind == "OW" else None
    actual = decoded(
        pixels,
        ModalityLUTSequence=[table(30, entries.tolist(), 12, data)],
        ModalityLUTType="US",
        WindowCenter=2000,
        WindowWidth=3000,
    )
    values = entries[np.clip(pixels.astype(int) - 30, 0, 199)].tolist()
    expected = [[linear(x, 2000, 3000) for x in row] for row in values]
    assert np.array_equal(actual, gray(expected))


@pytest.mark.parametrize(
    "syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian]
)
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_a_voi_table_takes_precedence_over_a_window(bits, syntax):
    pixels = noise(12)
    entries = np.sort(np.random.randint(0, 1 << bits, 3000))
    order = ">u2" if syntax == uid.ExplicitVRBigEndian else "<u2"
    actual = decoded(
        pixels,
        12,
        syntax,
        VOILUTSequence=[
            table(500, entries.tolist(), bits, entries.astype(order).tobytes())
        ],
        WindowCenter=1,
        WindowWidth=1,
    )
    expected = entries[np.clip(pixels.astype(int) - 500, 0, 2999)] / (2**bits - 1)
    assert np.array_equal(actual, gray(expected))


def test_a_voi_table_may_start_below_zero_and_have_bytes():
    pixels = noise(12, signed=True)
    entries = np.random.randint(0, 256, 1000)
    item = table(-400, entries.tolist(), 8, entries.astype("u1").tobytes())
    actual = decoded(pixels, 12, VOILUTSequence=[item])
    expected = entries[np.clip(pixels.astype(int) + 400, 0, 999)] / 255
    assert np.array_equal(actual, gray(expected))


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian]
)
@pytest.mark.parametrize(
    ("signed", "intercept", "first"), [(False, -1024, -1024), (True, 34000, 33000)]
)
def test_the_first_value_of_a_voi_table_is_a_rescaled_value(
    syntax, signed, intercept, first
):
    """With implicit VR, it has the sign of the stored pixels, which may be wrong."""
    pixels = noise(12, signed)
    entries = np.sort(np.random.randint(0, 4096, 4096))
    item = table(first, entries.tolist(), 12, entries.astype("<u2").tobytes())
    actual = decoded(
        pixels,
        12,
        syntax,
        RescaleSlope=1,
        RescaleIntercept=intercept,
        VOILUTSequence=[item],
    )
    at = np.clip(pixels.astype(int) + intercept - first, 0, 4095)
    assert np.array_equal(actual, gray(entries[at] / 4095))


# Declared bits of a table's entries, and the bits of its largest entry.
BITS = [(8, 12), (8, 16), (12, 13), (12, 12), (12, 10), (16, 12), (16, 9)]


@pytest.mark.parametrize(("declared", "used"), BITS)
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2048, "WindowWidth": 4096}])
def test_a_voi_table_is_scaled_by_the_bits_that_its_entries_use(declared, used, window):
    """As in Cornerstone (getVOILut.js); a window beside the table changes nothing."""
    pixels = noise(12)
    entries = np.linspace(0, 2**used - 1, 4096).astype(int)
    item = table(0, entries.tolist(), declared, entries.astype("<u2").tobytes())
    actual = decoded(pixels, 12, VOILUTSequence=[item], **window)
    assert np.array_equal(actual, gray(entries[pixels] / (2**used - 1)))


@pytest.mark.parametrize(("declared", "used"), BITS)
def test_a_modality_table_without_a_window_is_scaled_likewise(declared, used):
    pixels = noise(8)
    entries = np.linspace(0, 2**used - 1, 256).astype(int)
    item = table(0, entries.tolist(), declared, entries.astype("<u2").tobytes())
    elements = {"ModalityLUTSequence": [item], "ModalityLUTType": "US"}
    assert np.array_equal(
        decoded(pixels, **elements), gray(entries[pixels] / (2**used - 1))
    )
    centre, width = 0.5 * 2**used, 0.9 * 2**used
    window = {"WindowCenter": centre, "WindowWidth": width}
    rows = entries[pixels].tolist()
    expected = [[linear(x, centre, width) for x in row] for row in rows]
    assert np.array_equal(decoded(pixels, **elements, **window), gray(expected))


def test_a_voi_table_of_less_than_eight_bits_is_scaled_as_eight():
    """A descriptor cannot say fewer; dcmtk counts likewise (MIN_TABLE_ENTRY_SIZE)."""
    pixels = noise(8)
    item = table(0, (np.arange(256) // 3).tolist(), 8)
    assert np.array_equal(decoded(pixels, VOILUTSequence=[item]), pixels // 3)


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("value", [0, 255, 4000])
def test_a_table_of_equal_entries_is_rejected(keyword, value):
    data = written(noise(8), **{keyword: [table(0, [value] * 256, 12)]})
    assert f"all entries of its {keyword} are {value}" in refusal(data)


def test_a_voi_table_of_65536_entries_declares_0():
    pixels = noise(16)
    entries = np.arange(65536)[::-1]
    item = table(0, entries.tolist(), 16, entries.astype("<u2").tobytes())
    assert np.array_equal(
        decoded(pixels, 16, VOILUTSequence=[item]), gray((65535 - pixels) / 65535)
    )


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_pydicoms_own_functions_agree(signed, function):
    data = written(
        noise(14, signed, (50, 40)),
        14,
        RescaleSlope=0.25,
        RescaleIntercept=-30,
        WindowCenter=300,
        WindowWidth=1500,
        VOILUTFunction=function,
    )
    try:
        from pydicom.pixels import apply_modality_lut, apply_voi_lut
    except ImportError:  # pydicom 2
        from pydicom.pixel_data_handlers import apply_modality_lut, apply_voi_lut
    dataset = pydicom.dcmread(io.BytesIO(data))
    expected = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    low = (-(2**13) if signed else 0) * 0.25 - 30
    expected = gray((expected - low) / (16383 * 0.25))
    difference = images.decode(data).astype(int) - expected
    assert np.abs(difference).max() <= 1


# --- transfer syntaxes ---


@pytest.mark.parametrize(
    "syntax",
    [
        uid.ImplicitVRLittleEndian,
        uid.ExplicitVRLittleEndian,
        uid.ExplicitVRBigEndian,
        uid.RLELossless,
    ],
)
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (12, False), (12, True)])
def test_lossless_syntaxes_of_pydicom_are_exact(syntax, bits, signed):
    pixels = noise(bits, signed)
    low = -(2.0 ** (bits - 1)) if signed else 0
    expected = gray((pixels - low) / (2**bits - 1))
    assert np.array_equal(decoded(pixels, bits, syntax), expected)


@pytest.mark.parametrize(("bits", "signed"), [(8, False), (12, False), (16, True)])
def test_jpeg_2000_is_exact(bits, signed):
    pixels = noise(bits, signed, (40, 51))
    stream = encode_array(pixels, bits_stored=bits, use_mct=False)
    low = -(2.0 ** (bits - 1)) if signed else 0
    expected = gray((pixels - low) / (2**bits - 1))
    actual = decoded(pixels, bits, uid.JPEG2000Lossless, stream)
    assert np.array_equal(actual, expected)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("syntax", [uid.JPEGLossless, uid.JPEGLosslessSV1])
def test_jpeg_lossless_is_exact(bits, syntax):
    pixels = noise(bits, shape=(11, 13))
    stream = jpeg_lossless(pixels, bits)
    expected = gray(pixels / (2**bits - 1))
    assert np.array_equal(decoded(pixels, bits, syntax, stream), expected)


def test_signed_jpeg_lossless_is_read_as_twos_complement():
    pixels = noise(12, signed=True)
    stream = jpeg_lossless(pixels & 0xFFF, 12)
    expected = gray((pixels + 2048) / 4095)
    assert np.array_equal(decoded(pixels, 12, uid.JPEGLosslessSV1, stream), expected)


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless])
def test_signed_pixels_may_lack_the_sign_above_the_bits_stored(syntax):
    """Twelve bits of two's complement, with zeros in the upper four of sixteen."""
    pixels = noise(12, signed=True)
    expected = gray((pixels + 2048) / 4095)
    assert np.array_equal(decoded(pixels & 0xFFF, 12, syntax), expected)


def test_jpeg_baseline_is_what_opencv_decodes():
    pixels = synthetic.blobs(1, 64)[0]
    stream = cv2.imencode(".jpg", pixels)[1].tobytes()
    expected = cv2.imdecode(np.frombuffer(stream, np.uint8), cv2.IMREAD_GRAYSCALE)
    actual = decoded(pixels, 8, uid.JPEGBaseline8Bit, stream).astype(int)
    assert np.abs(actual - expected).max() <= 2


def test_jpeg_of_twelve_bits_keeps_them():
    blocks = noise(12, shape=(3, 4))
    pixels = np.kron(blocks, np.ones((8, 8), np.uint16))
    actual = decoded(
        pixels,
        12,
        uid.JPEGExtended12Bit,
        jpeg_of_blocks(blocks, 12),
        WindowCenter=int(blocks[1, 1]),
        WindowWidth=201,
    )
    expected = [[linear(x, int(blocks[1, 1]), 201) for x in r] for r in pixels.tolist()]
    difference = actual.astype(int) - gray(expected)
    assert np.abs(difference).max() <= 2  # a value is 1.3 grays


def test_jpeg_ls_matches_the_example_of_its_standard():
    """ITU-T T.87, H.3: a 4 x 4 image and its stream."""
    pixels = [
        [0, 0, 90, 74],
        [68, 50, 43, 205],
        [64, 145, 145, 145],
        [100, 145, 145, 145],
    ]
    stream = bytes.fromhex(
        "ffd8 fff7000b08000400040101 1100 ffda0008010100000000"
        "c000006c80208e01c0000057400000 6ee6000001bc18000005d800009160 ffd9"
    )
    actual = decoded(np.array(pixels, np.uint8), 8, uid.JPEGLSLossless, stream)
    assert actual.tolist() == pixels


@pytest.mark.parametrize(
    "name",
    ["MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"],
)
def test_files_of_other_programs_decode_to_the_same_pixels(name):
    """Each of these test files of pydicom is MR_small.dcm in another syntax."""

    def as_radiograph(name: str) -> np.ndarray:
        data = Path(get_testdata_file(f"{name}.dcm", download=False)).read_bytes()
        return images.decode(data.replace(b"CS\2\0MR", b"CS\2\0CR"))

    assert np.array_equal(as_radiograph(name), as_radiograph("MR_small"))
    assert as_radiograph(name).std() > 10


def test_fragments_of_a_frame_are_joined():
    pixels = noise(8, shape=(64, 64))
    stream = encode_array(pixels, use_mct=False)
    whole = written(pixels, 8, uid.JPEG2000Lossless, stream)
    one, three = (encapsulate([stream], fragments_per_frame=n) for n in (1, 3))
    data = whole.replace(one, three)
    assert len(data) > len(whole)
    assert np.array_equal(images.decode(data), pixels)


# --- recognition by content ---


@pytest.mark.parametrize(
    "syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian]
)
def test_a_file_without_preamble_is_read(syntax):
    pixels = noise(12)
    data = written(pixels, 12, syntax)
    assert np.array_equal(images.decode(without_meta(data)), images.decode(data))
    assert np.array_equal(images.decode(data[132:]), images.decode(data))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".tiff"])
def test_other_formats_are_not_recognized_as_dicom(suffix):
    assert not reader.is_dicom(cv2.imencode(suffix, noise(8))[1].tobytes())


def test_random_bytes_are_not_recognized_as_dicom():
    for length in [0, 1, 7, 8, 131, *range(200, 2000)]:
        assert not reader.is_dicom(os.urandom(length))


def test_dicom_files_of_any_name_are_found_but_no_dicomdir(tmp_path):
    data = written(noise(8))
    names = {"a.dcm", "b.DCM", "IM000001", "1.2.840.5", "b.dicom", "c.ima", "d.DIC"}
    names |= {"e.img", "1.2.840.77.A1", "f.bak", "dicomdir.dcm"}
    for name in (*names, "._a.dcm", "._a.ima", ".a", "DICOMDIR", "dicomdir"):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "README").write_text("no image")
    (tmp_path / "notes.txt").write_text("no image" * 99)
    (tmp_path / "8").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.ima")
    assert {image.file.name for image in datasets.read_folder(tmp_path)} == names


def test_with_a_foreign_suffix_a_preamble_is_required(tmp_path):
    """A first data element of eight bytes may occur in any format."""
    data = without_meta(written(noise(8)))
    for name in ("IM000001", "1.2.840.5", "a.dcm", "a.npy", "1.2.840.A1"):
        (tmp_path / name).write_bytes(data)
    actual = {image.file.name for image in datasets.read_folder(tmp_path)}
    assert actual == {"IM000001", "1.2.840.5", "a.dcm"}


@pytest.mark.parametrize("name", ["IM000001", "scan.ima"])
def test_an_unreadable_file_of_a_folder_is_listed(tmp_path, monkeypatch, name):
    """So that reading it reports the error; if left out, it would be lost silently."""
    (tmp_path / name).write_bytes(written(noise(8)))

    def deny(*args: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    assert [i.file.name for i in datasets.read_folder(tmp_path)] == [name]


# --- rejected files ---


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Modality": "CT"}, "modality is CT; expected a plain radiograph"),
        ({"Modality": "MG"}, r"\(CR, DX, RG\)"),
        ({"Modality": None}, "modality is not given"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "raw image of a detector"),
        ({"NumberOfFrames": 2}, "2 frames"),
        (
            {"PhotometricInterpretation": "PALETTE COLOR"},
            "PALETTE COLOR .* SamplesPerPixel 1",
        ),
        (
            {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
            "RGB .* SamplesPerPixel 3",
        ),
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation is not given"),
        ({"PhotometricInterpretation": "RG\nB"}, r"is odd \(4 characters\)"),
        ({"PixelData": None}, "it has no pixel data"),
        ({"Rows": 0}, "9 x 0 pixels"),
        ({"Rows": None}, "it has no Rows"),
        ({"Rows": 12}, "cut short: 54 of 108 bytes"),
        ({"BitsStored": 9}, "BitsStored is 9"),
        (
            {"BitsStored": 7, "HighBit": 7},
            "BitsStored is 7, HighBit 7 and BitsAllocated 8",
        ),
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "BitsStored is 32"),
        ({"RescaleSlope": 0, "RescaleIntercept": 5}, "RescaleSlope is 0"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "WindowWidth is 0"),
        ({"WindowCenter": 5, "WindowWidth": 0.5}, "WindowWidth is 0.5"),
        (
            {"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": "CUBIC"},
            "VOILUTFunction is CUBIC",
        ),
        ({"RescaleSlope": 2}, "a RescaleSlope but no RescaleIntercept"),
        ({"RescaleIntercept": -1024}, "a RescaleIntercept but no RescaleSlope"),
        ({"PixelRepresentation": 2}, "PixelRepresentation is 2; expected 0"),
        ({"PixelRepresentation": None}, "it has no PixelRepresentation"),
        ({"SamplesPerPixel": None}, "it has no SamplesPerPixel"),
        ({"WindowCenter": 5}, "a WindowCenter but no WindowWidth: it is damaged"),
        ({"WindowWidth": 5}, "a WindowWidth but no WindowCenter: it is damaged"),
        ({"PresentationLUTShape": "INVERSE"}, "INVERSE, .* MONOCHROME2, .* IDENTITY"),
        ({"PresentationLUTShape": "LIN OD"}, "is LIN OD, .* MONOCHROME2"),
        (
            {
                "PresentationLUTShape": "IDENTITY",
                "PhotometricInterpretation": "MONOCHROME1",
            },
            "IDENTITY, .* MONOCHROME1, .* INVERSE",
        ),
        ({"VOILUTSequence": [table(0, [1, 2], 20)]}, "20 bits per entry"),
        ({"VOILUTSequence": [table(0, [1, 2], 7)]}, "7 bits per entry"),
        ({"VOILUTSequence": [table(0, [1] * 9, 12, b"1234")]}, "4 of 18 bytes"),
        ({"VOILUTSequence": [pydicom.Dataset()]}, "VOILUTSequence is damaged"),
    ],
)
def test_other_files_are_rejected_with_the_reason(elements, reason):
    with pytest.raises(XenonError, match=reason):
        decoded(noise(8), **elements)
    refusal(written(noise(8), **elements))


def test_half_a_window_is_ignored_beside_a_voi_table():
    item = table(0, list(range(256)), 8)
    pixels = noise(8)
    actual = decoded(pixels, VOILUTSequence=[item], WindowCenter=5)
    assert np.array_equal(actual, pixels)


def test_a_dicomdir_is_no_image():
    data = written(noise(8), DirectoryRecordSequence=[], Modality=None, PixelData=None)
    assert "DICOMDIR" in refusal(data)


def test_a_deflated_file_is_rejected_before_it_expands():
    data = written(noise(8)).replace(
        b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99"
    )
    assert "deflated" in refusal(data)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (uid.JPEG2000Lossless, lambda p: encode_array(p, use_mct=False)),
        (uid.JPEGBaseline8Bit, lambda p: cv2.imencode(".jpg", p)[1].tobytes()),
        (uid.JPEGLosslessSV1, lambda p: jpeg_lossless(p, 8)),
        (uid.RLELossless, None),
        (uid.ExplicitVRLittleEndian, None),
    ],
)
def test_a_file_cut_short_anywhere_is_rejected(syntax, encode):
    pixels = noise(8, shape=(32, 40))
    stream = encode(pixels) if encode else None
    data = written(pixels, 8, syntax, stream)
    images.decode(data)
    # After the pixels, only the end of their sequence may be missing.
    for kept in np.linspace(140, len(data) - 20, 60).astype(int):
        refusal(data[:kept])


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (uid.JPEG2000Lossless, lambda p: encode_array(p, use_mct=False)),
        (uid.JPEGBaseline8Bit, lambda p: cv2.imencode(".jpg", p)[1].tobytes()),
    ],
)
def test_a_stream_cut_short_in_a_whole_file_is_rejected(syntax, encode, kept):
    """Decoders would fill the missing part with gray."""
    pixels = noise(8, shape=(64, 64))
    stream = encode(pixels)
    stream = stream[: int(kept * len(stream))]
    assert "cut short" in refusal(written(pixels, 8, syntax, stream))


def test_a_stream_of_another_size_than_the_header_says_is_rejected():
    stream = encode_array(noise(8, shape=(50, 60)), use_mct=False)
    message = refusal(written(noise(8), 8, uid.JPEG2000Lossless, stream))
    assert "9 x 6 pixels, but its compressed pixels are 60 x 50" in message


ENCODERS = {
    uid.JPEG2000Lossless: lambda p, bits: encode_array(
        p, bits_stored=bits, use_mct=False
    ),
    uid.JPEGLosslessSV1: jpeg_lossless,
}


@pytest.mark.parametrize(
    ("syntax", "stored", "dtype", "of_stream"),
    [
        (uid.JPEG2000Lossless, 8, np.uint8, 12),
        (uid.JPEGLosslessSV1, 8, np.uint8, 12),
        (uid.JPEGLosslessSV1, 12, np.uint16, 8),
    ],
)
def test_a_stream_of_another_bit_depth_is_rejected(syntax, stored, dtype, of_stream):
    """Decoders would return a scrambled or nearly black image."""
    pixels = noise(of_stream, shape=(40, 50))
    stream = ENCODERS[syntax](pixels, of_stream)
    message = refusal(written(pixels.astype(dtype), stored, syntax, stream))
    assert f"{stored} bits" in message
    assert f"compressed pixels have {of_stream}" in message


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("stored", "of_stream"), [(16, 12), (16, 10), (16, 8), (12, 8), (14, 13)]
)
def test_a_jpeg_2000_stream_of_fewer_bits_keeps_its_values(stored, of_stream, signed):
    """The codec has the bits of its values; public files have 12 under BitsStored 16.

    With the window of 12 bits over 16; the values are those that were encoded.
    """
    pixels = noise(of_stream, signed, shape=(40, 50))
    stream = encode_array(
        pixels.astype("i1") if signed and of_stream == 8 else pixels,
        bits_stored=of_stream,
        use_mct=False,
    )
    width = 2**of_stream
    window = {"WindowCenter": 0 if signed else width // 2, "WindowWidth": width}
    stored_as = pixels.astype("i2" if signed else "u2")
    actual = decoded(stored_as, stored, uid.JPEG2000Lossless, stream, **window)
    rows = pixels.tolist()
    expected = [[linear(x, window["WindowCenter"], width) for x in r] for r in rows]
    assert np.array_equal(actual, gray(expected))


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("of_stream", [12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_a_jpeg_2000_stream_of_another_sign_is_rejected(bits, of_stream, signed):
    """A sign that is masked off turns air white."""
    pixels = noise(bits, signed=not signed, shape=(40, 50)).astype(
        "u2" if signed else "i2"
    )
    stream = encode_array(pixels, bits_stored=max(bits, of_stream), use_mct=False)
    header = pixels.astype("i2" if signed else "u2")
    message = refusal(written(header, bits, uid.JPEG2000Lossless, stream))
    kinds = ("signed", "unsigned") if signed else ("unsigned", "signed")
    assert f"PixelRepresentation declares {kinds[0]} pixels" in message
    assert f"compressed pixels are {kinds[1]}" in message


@pytest.mark.parametrize("syntax", ENCODERS)
@pytest.mark.parametrize(
    ("signed", "beyond"),
    [
        (False, [4096, 65535]),
        # 2300 has 12 bits; read as two's complement, white would become black.
        (True, [2048, 2300, 4095, 4096, -2049, -32768]),
    ],
)
def test_a_stream_may_have_unused_bits_above_bits_stored(syntax, signed, beyond):
    """Some encoders declare 16 whatever BitsStored is."""
    pixels = noise(12, signed, shape=(40, 50))

    def file() -> bytes:
        samples = pixels if syntax == uid.JPEG2000Lossless else pixels.view(np.uint16)
        return written(pixels, 12, syntax, ENCODERS[syntax](samples, 16))

    low = -2048 if signed else 0
    assert np.array_equal(images.decode(file()), gray((pixels - float(low)) / 4095))
    for value in beyond:
        pixels[3, 3] = value
        assert "exceed its 12 bits" in refusal(file())


def test_a_stream_of_another_codec_is_rejected():
    pixels = noise(8, shape=(40, 50))
    stream = encode_array(pixels, use_mct=False)
    message = refusal(written(pixels, 8, uid.JPEGBaseline8Bit, stream))
    assert "declares JPEG (1.2.840.10008.1.2.4.50)" in message
    assert "are JPEG 2000" in message
    message = refusal(written(pixels, 8, uid.JPEG2000Lossless, b"no stream" * 9))
    assert "declares JPEG 2000" in message


def test_a_colour_stream_of_a_gray_data_set_is_rejected():
    colours = np.random.randint(0, 256, (40, 50, 3)).astype(np.uint8)
    stream = cv2.imencode(".jpg", colours)[1].tobytes()
    message = refusal(written(colours[..., 0], 8, uid.JPEGBaseline8Bit, stream))
    assert "have 3 colour components" in message


@pytest.fixture
def fresh_decoders():
    decoders.close_all()
    yield
    decoders.close_all()


@pytest.mark.usefixtures("fresh_decoders")
def test_a_crashing_decoder_fails_only_its_file(monkeypatch):
    """Decoders in C++ may abort; so they run in child processes."""
    pixels = noise(8, shape=(40, 50))
    data = written(pixels, 8, uid.JPEG2000Lossless, encode_array(pixels, use_mct=False))
    with monkeypatch.context() as patch:
        crash = "import os, pydicom; pydicom.dcmread = lambda *a, **k: os.abort()"
        patch.setattr(decoders, "_CHILD", crash + decoders._CHILD)
        assert "decoder crashed" in refusal(data)
    assert np.array_equal(images.decode(data), pixels)


@pytest.mark.usefixtures("fresh_decoders")
def test_a_hanging_decoder_times_out(monkeypatch):
    pixels = noise(8, shape=(40, 50))
    data = written(pixels, 8, uid.JPEG2000Lossless, encode_array(pixels, use_mct=False))
    monkeypatch.setattr(decoders, "_TIMEOUT_S", 1)
    hang = "import time, pydicom; pydicom.dcmread = lambda *a, **k: time.sleep(99)"
    monkeypatch.setattr(decoders, "_CHILD", hang + decoders._CHILD)
    assert "did not finish in 1 s" in refusal(data)


def test_damaged_streams_are_an_error_or_an_image():
    """Nine in ten files are damaged in the stream, which may crash decoders."""
    files = []
    for syntax, encode in ENCODERS.items():
        pixels = noise(12, shape=(40, 50))
        files.append(written(pixels, 12, syntax, encode(pixels, 12)))
    errors = []
    for number in range(200):
        damaged = bytearray(files[number % len(files)])
        start = len(damaged) - 4000 if number % 10 else 132
        for at in np.random.randint(max(start, 132), len(damaged), 4):
            damaged[at] = np.random.randint(256)
        try:
            assert reader.decode(bytes(damaged)).dtype == np.uint8
        except XenonError as error:
            errors.append(str(error))
    assert 10 < len(errors) < 200
    assert not [message for message in errors if "\n" in message]


def test_twelve_bits_in_sixteen_are_rejected_without_a_window():
    """As in a PNG file: they would be nearly black."""
    pixels = noise(12)
    message = refusal(written(pixels, 16))
    assert "nothing to see: 100% of its pixels" in message
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    assert decoded(pixels, 16, **window).max() > 200
    inverted = {"PhotometricInterpretation": "MONOCHROME1"}
    assert "nothing to see" in refusal(written(pixels, 16, **inverted))


def test_more_pixels_than_the_limit_are_rejected_before_decoding():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stream = cv2.imencode(".jpg", noise(8))[1].tobytes()
    sides = {"Rows": 60_000, "Columns": 60_000}
    data = written(noise(8), 8, uid.JPEGBaseline8Bit, stream, **sides)
    assert "declares more than 67,108,864 pixels" in refusal(data)
    at = stream.index(b"\xff\xc0") + 5
    bomb = stream[:at] + struct.pack(">HH", 60_000, 60_000) + stream[at + 4 :]
    refusal(written(noise(8), 8, uid.JPEGBaseline8Bit, bomb))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_damaged_files_are_an_error_or_an_image():
    data = written(noise(12), 12, WindowCenter=900, WindowWidth=300, RescaleSlope=1)
    errors = 0
    for _ in range(400):
        damaged = bytearray(data)
        for at in np.random.randint(132, len(data), 4):
            damaged[at] = np.random.randint(256)
        try:
            assert reader.decode(bytes(damaged)).dtype == np.uint8
        except XenonError:
            errors += 1
    assert 40 < errors < 400


def test_without_pydicom_the_error_says_what_to_install(monkeypatch):
    data = written(noise(8))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert "pip install '.[dicom]'" in refusal(data)
    assert images.decode(images.encode(noise(8), "png", 0)).shape == (6, 9)


@pytest.mark.parametrize(
    ("syntax", "expected"),
    [
        (
            uid.JPEGLosslessSV1,
            "scan: no decoder of its pixels (1.2.840.10008.1.2.4.70) is installed: "
            "pip install '.[dicom]' in a checkout of xenon\n",
        ),
        (
            uid.JPEGExtended12Bit,
            "scan: its pixels are 12-bit JPEG (1.2.840.10008.1.2.4.51): pip "
            "install pylibjpeg-libjpeg 'numpy<2' (its licence is the GPL)\n",
        ),
    ],
)
def test_without_a_decoder_the_error_says_what_to_install(tmp_path, syntax, expected):
    blocks = noise(12)
    pixels = np.kron(blocks, np.ones((8, 8), np.uint16))
    if syntax == uid.JPEGExtended12Bit:
        stream = jpeg_of_blocks(blocks, 12)
    else:
        stream = jpeg_lossless(pixels, 12)
    (tmp_path / "a.dcm").write_bytes(written(pixels, 12, syntax, stream))
    # Hidden from imports and from entry points, by which pylibjpeg finds decoders.
    script = """
import importlib.metadata, sys
from pathlib import Path

file, *absent = sys.argv[1:]

def entry_points(*args, __all=importlib.metadata.entry_points, **params):
    points = __all(*args, **params)
    if isinstance(points, dict):  # before Python 3.12
        return {key: present(group) for key, group in points.items()}
    return present(points)

def present(group):
    return [e for e in group if e.value.split(":")[0] not in absent]

importlib.metadata.entry_points = entry_points
sys.modules.update(dict.fromkeys(absent))
from xenon_mx.data import images
from xenon_mx.errors import XenonError
try:
    images.decode(Path(file).read_bytes(), "scan")
except XenonError as error:
    print(error)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "a.dcm"), "gdcm", "libjpeg"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (expected, "")


def test_pydicom_prints_nothing_about_an_unusual_file(tmp_path):
    data = written(noise(8), 8, WindowCenter=5, WindowWidth=9, PatientName="A" * 99)
    odd = data.replace(b"Doe^Jane", b"\xff" * 8).replace(b"CS\2\0CR", b"CS\2\0cr")
    (tmp_path / "a.dcm").write_bytes(odd + b"\1\2\3")
    script = """
import sys
from pathlib import Path
from xenon_mx.data import images
from xenon_mx.errors import XenonError
try:
    images.decode(Path(sys.argv[1]).read_bytes())
except XenonError:
    print("refused")
"""
    command = [sys.executable, "-c", script, str(tmp_path / "a.dcm")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_pydicom_stays_silent_after_warning_filters_were_reset():
    pixels = noise(8)
    data = written(pixels, SpecificCharacterSet="ISO_IR 100")
    odd = data.replace(b"ISO_IR 100", b"ISO_IR 999")
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.resetwarnings()
            warnings.simplefilter("error")
            assert np.array_equal(images.decode(odd), pixels)
            with pytest.raises(UserWarning, match="of the caller"):
                warnings.warn("of the caller", stacklevel=1)


# --- the commands ---


def tree(root: Path, suffix: str) -> Path:
    """Write the same pixels as a data set of PNG or of DICOM files."""
    variants = {
        0: {"pixels": lambda p: p},
        1: {"pixels": lambda p: 255 - p, "PhotometricInterpretation": "MONOCHROME1"},
        2: {
            "pixels": lambda p: p.astype(np.uint16),
            "WindowCenter": 128,
            "WindowWidth": 256,
        },
    }
    for split, seed in (("train", 1), ("valid", 2)):
        pixels, labels = synthetic.labelled(12, 40, seed)
        rows = synthetic.rows_of(labels, split, ("XR_A", "XR_B"), views=1)
        for number, (image, row) in enumerate(zip(pixels, rows)):
            file = root.joinpath(*Path(row.path).parts[1:]).with_suffix(suffix)
            file.parent.mkdir(parents=True)
            if suffix == ".png":
                cv2.imwrite(str(file), image)
                continue
            options: dict[str, Any] = dict(variants[number % 3])
            stored = options.pop("pixels")(image)
            syntax = (uid.ExplicitVRLittleEndian, uid.RLELossless)[number % 2]
            file.write_bytes(written(stored, None, syntax, **options))
    return root


def packed_pixels(packed: packed_folder.PackedFolder, split: str) -> dict[str, bytes]:
    """Return the packed images by the path of their file without the suffix."""
    records = packed.split(split)
    pairs = zip(records.rows(), records.images())
    return {row.path.rpartition(".")[0]: record.image for row, record in pairs}


@pytest.fixture
def png_tree(tmp_path):
    return tree(tmp_path / "png" / "MURA-v1.1", ".png")


@pytest.fixture
def dicom_tree(tmp_path):
    return tree(tmp_path / "dcm" / "MURA-v1.1", ".dcm")


def pack_png(root: Path, out: Path) -> packed_folder.PackedFolder:
    """Pack a data set without loss."""
    return pack.pack(PackConfig(root, out, size=32, encoding="png"))


def test_a_dicom_tree_is_packed_like_the_same_pixels_as_png(
    png_tree, dicom_tree, tmp_path
):
    png = pack_png(png_tree, tmp_path / "packed-png")
    dicom = pack_png(dicom_tree, tmp_path / "packed-dcm")
    for split in ("train", "valid"):
        expected = packed_pixels(png, split)
        assert len(expected) == 12
        assert packed_pixels(dicom, split) == expected


def test_dicom_files_are_predicted_like_the_same_pixels_as_png(
    png_tree, dicom_tree, tmp_path
):
    packed, run = pack_png(png_tree, tmp_path / "packed"), tmp_path / "run"
    settings = {"model": "mobilenet0.25", "no_pretrained": True, "epochs": 1}
    train.train(TrainConfig(packed.folder, run, ctx="cpu()", **settings))

    dicom_files = sorted((dicom_tree / "valid").rglob("*.dcm"))
    without_suffix = tmp_path / "pacs"
    for file in dicom_files:
        copy = without_suffix / file.relative_to(dicom_tree.parent).with_suffix("")
        copy.parent.mkdir(parents=True)
        shutil.copy(file, copy)
    (tmp_path / "listed.csv").write_text("".join(f"{f}\n" for f in dicom_files))

    def predicted(*inputs: Path, **options: Any) -> list[list[str]]:
        out = tmp_path / "out.csv"
        predict.predict(
            PredictConfig(inputs, out, (run,), ctx="cpu()", overwrite=True, **options)
        )
        with open(out, newline="") as file:
            rows = list(csv.reader(file))
        return sorted([row[0][row[0].index("XR_") :], *row[1:]] for row in rows[1:])

    expected = predicted(png_tree / "valid")
    assert len(expected) == 12
    assert len({row[3] for row in expected}) > 1
    assert predicted(dicom_tree / "valid") == expected
    assert predicted(without_suffix) == expected
    assert predicted(*dicom_files) == expected
    assert predicted(tmp_path / "listed.csv", root=tmp_path) == expected


def test_pack_names_every_rejected_dicom_file(tmp_path):
    root = tree(tmp_path / "MURA-v1.1", ".dcm")
    first, second = sorted(root.rglob("*.dcm"))[:2]
    raw = written(noise(8), PresentationIntentType="FOR PROCESSING")
    first.write_bytes(raw)
    dataset = pydicom.dcmread(second)
    del dataset.PixelData
    second.write_bytes(saved(dataset))
    with pytest.raises(XenonError, match="2 images cannot be read") as caught:
        pack.pack(PackConfig(root, tmp_path / "packed", size=32))
    lines = sorted(caught.value.details)
    assert f"{first}: the raw image of a detector" in lines[0]
    assert f"{second}: it has no pixel data" in lines[1]
