"""Which DICOM files are accepted as plain radiographs, and why others are not."""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from openjpeg.utils import encode_array
from pydicom import uid
from pydicom._uid_dict import UID_dictionary
from pydicom.dataelem import DataElement
from pydicom.encaps import encapsulate
from support.dicom_files import (
    decoded,
    jpeg_lossless,
    noise,
    refusal,
    rle,
    saved,
    unchecked,
    without_meta,
    written,
)

from xenon_mx.data import images
from xenon_mx.dicom import reader

# "... - For Processing" in pydicom's copy of PS3.6, A, and "... - For Presentation".
CLASSES = {entry[0]: value for value, entry in UID_dictionary.items()}
RAW = sorted(uid for name, uid in CLASSES.items() if name.endswith("For Processing"))
SHOWN = [
    CLASSES[uid.UID(raw).name.replace("Processing", "Presentation")] for raw in RAW
]


@pytest.mark.parametrize("raw", RAW)
def test_every_class_for_processing_is_rejected_as_raw(raw):
    for intent in (None, "", "FOR PROCESSING"):
        data = written(noise(8), SOPClassUID=raw, PresentationIntentType=intent)
        assert "raw image of a detector" in refusal(data)
        assert "export the one for presentation" in refusal(data)


@pytest.mark.parametrize(("raw", "shown"), list(zip(RAW, SHOWN)))
def test_a_class_that_contradicts_the_intent_is_rejected(raw, shown):
    for value, intent in ((raw, "FOR PRESENTATION"), (shown, "FOR PROCESSING")):
        data = written(noise(8), SOPClassUID=value, PresentationIntentType=intent)
        assert f"PresentationIntentType {intent}" in refusal(data)
        assert f"SOP class {value}" in refusal(data)
    for intent in (None, "FOR PRESENTATION"):
        data = written(noise(8), SOPClassUID=shown, PresentationIntentType=intent)
        assert images.decode(data).shape == (6, 9)


def test_the_class_of_the_meta_header_counts_as_well():
    dataset = pydicom.dcmread(io.BytesIO(written(noise(8), SOPClassUID=SHOWN[0])))
    dataset.file_meta.MediaStorageSOPClassUID = RAW[0]
    assert f"{RAW[0]}, which is for processing" in refusal(unchecked(dataset))
    del dataset.SOPClassUID
    assert "export the one for presentation" in refusal(unchecked(dataset))


def test_a_damaged_meta_header_is_an_error():
    """Its elements are converted on access."""
    data = written(noise(8))
    for element in (b"\2\0\2\0UI", b"\2\0\x10\0UI"):
        assert data.count(element) == 1
        assert "damaged" in refusal(data.replace(element, element[:-1] + b"\x1a"))


# --- frames ---


def test_a_number_of_frames_of_0_is_a_placeholder():
    pixels = noise(8)
    assert np.array_equal(decoded(pixels, NumberOfFrames=0), pixels)
    rle_file = written(pixels, 8, uid.RLELossless, NumberOfFrames=1)
    assert rle_file.count(b"IS\2\0001 ") == 1
    assert np.array_equal(
        images.decode(rle_file.replace(b"IS\2\0001 ", b"IS\2\0000 ")), pixels
    )
    for frames in (-1, 2, 30):
        assert f"{frames} frames" in refusal(written(pixels, NumberOfFrames=frames))


@pytest.mark.parametrize("frames", [None, 0, 1])
def test_pixels_of_two_frames_under_a_header_of_one_are_rejected(frames):
    pixels = noise(12)
    for count in (2, 3):
        data = np.concatenate([pixels] * count).tobytes()
        message = refusal(written(pixels, 12, PixelData=data, NumberOfFrames=frames))
        assert "declares one frame of 108 bytes" in message
        assert f"have {108 * count}" in message


def test_padding_of_less_than_a_frame_is_allowed():
    pixels = noise(12)
    for count in (0, 2, 106):
        data = pixels.tobytes() + bytes(count)
        assert np.array_equal(decoded(pixels, 12, PixelData=data), decoded(pixels, 12))
    one = np.full((1, 1), 99, np.uint8)
    data = written(one, PixelData=b"\x63\0")
    assert reader.decode(data).tolist() == [[99]]


def encapsulated(pixels: np.ndarray, syntax: str, *items: bytes) -> bytes:
    data = encapsulate(list(items), has_bot=False)
    dataset = pydicom.dcmread(io.BytesIO(written(pixels, 8, syntax, items[0])))
    dataset.PixelData = data
    dataset["PixelData"].is_undefined_length = True
    return saved(dataset)


STREAMS = {
    uid.JPEGBaseline8Bit: lambda p: cv2.imencode(".jpg", p)[1].tobytes(),
    uid.JPEGLosslessSV1: lambda p: jpeg_lossless(p, 8),
    uid.JPEG2000Lossless: lambda p: encode_array(p, use_mct=False),
}


@pytest.mark.parametrize("syntax", STREAMS)
def test_compressed_frames_beyond_the_first_are_rejected(syntax):
    pixels = noise(8, shape=(40, 50))
    stream = STREAMS[syntax](pixels)
    padded = stream + bytes(len(stream) % 2)
    assert images.decode(encapsulated(pixels, syntax, padded)).shape == (40, 50)
    for items in (
        (padded, padded),
        (padded + padded,),
        (padded[:40], padded[40:] + padded),
    ):
        message = refusal(encapsulated(pixels, syntax, *items))
        assert "declares one frame, but its compressed pixels have more" in message


def test_rle_frames_beyond_the_first_are_rejected():
    pixels = noise(8, shape=(40, 50))
    frame = rle(b"".join(b"\x63" + part.tobytes() for part in pixels.reshape(-1, 100)))
    assert images.decode(encapsulated(pixels, uid.RLELossless, frame)).shape == (40, 50)
    message = refusal(encapsulated(pixels, uid.RLELossless, frame, frame))
    assert "declares one frame, but its compressed pixels have more" in message


# --- the shape of pixels ---

SPACINGS = ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"]


def with_text(keyword: str, text: str) -> bytes:
    """Return a radiograph with a number written as it stands, unchecked."""
    dataset = pydicom.dcmread(io.BytesIO(written(noise(8))))
    element = DataElement(keyword, "LO", text.split("\\"))
    dataset[element.tag] = element
    data = saved(dataset)
    kind = pydicom.datadict.dictionary_VR(element.tag).encode()
    at = data.index(struct.pack("<HH", element.tag.group, element.tag.element))
    return data[: at + 4] + kind + data[at + 6 :]


@pytest.mark.parametrize("keyword", SPACINGS)
@pytest.mark.parametrize(
    "text",
    ["0.1\\0.1", "0.143\\0.144", "0.2\\0.20", "1e-1\\.1", "", "0\\0", "0", "100\\101"],
)
def test_square_spacings_are_read(keyword, text):
    assert images.decode(with_text(keyword, text)).shape == (6, 9)


@pytest.mark.parametrize(
    "text", ["1", "01", "1\\1", "200\\200", "100\\101", "101\\100", "", "0\\0"]
)
def test_square_aspect_ratios_are_read(text):
    assert images.decode(with_text("PixelAspectRatio", text)).shape == (6, 9)


@pytest.mark.parametrize("keyword", [*SPACINGS, "PixelAspectRatio"])
@pytest.mark.parametrize("text", ["1\\2", "2\\1", "100\\102", "34\\33"])
def test_oblong_pixels_are_rejected(keyword, text):
    message = refusal(with_text(keyword, text))
    assert f"its {keyword} is {text}; expected square pixels: resample" in message


@pytest.mark.parametrize("text", ["-1\\-1", "0\\1", "1\\0", "-1\\1", "1\\1\\1"])
@pytest.mark.parametrize("keyword", [*SPACINGS, "PixelAspectRatio"])
def test_malformed_spacings_are_rejected(keyword, text):
    assert f"its {keyword} is {text}; expected two" in refusal(with_text(keyword, text))


def test_one_number_is_a_ratio_but_no_spacing():
    message = refusal(with_text("PixelAspectRatio", "2"))
    assert "its PixelAspectRatio is 2; expected square pixels" in message
    message = refusal(with_text("PixelSpacing", "0.1"))
    assert "its PixelSpacing is 0.1; expected two positive numbers" in message


@pytest.mark.parametrize(
    "text", ["wide\\high", "0,1\\0,1", "0.1\\", "inf\\inf", "nan\\nan"]
)
def test_a_spacing_that_is_no_number_is_rejected(text):
    assert "PixelSpacing" in refusal(with_text("PixelSpacing", text))


@pytest.mark.parametrize("keyword", SPACINGS)
def test_every_element_counts_and_contradictions_are_named(keyword):
    pixels = noise(8)
    square, oblong = {keyword: [0.1, 0.1]}, {keyword: [0.1, 0.2]}
    assert decoded(pixels, **square, PixelAspectRatio=[7, 7]).shape == (6, 9)
    for elements in (
        {**square, "PixelAspectRatio": [1, 2]},
        {**oblong, "PixelAspectRatio": [1, 1]},
        {**oblong, "PixelAspectRatio": [2, 1]},
    ):
        message = refusal(written(pixels, **elements))
        assert f"its {keyword} " in message
        assert "PixelAspectRatio" in message
        assert "ambiguous whether its pixels are square" in message
    data = written(pixels, **oblong, PixelAspectRatio=[1, 2])
    assert "resample it" in refusal(data)
    for other in SPACINGS:
        elements = {**dict.fromkeys(SPACINGS, [0.1, 0.1]), other: [0.1, 0.2]}
        assert f"its {other} is 0.1\\0.2, but its " in refusal(
            written(pixels, **elements)
        )


# --- what other files are called ---

PIXELS = [
    "PixelData",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
]


def kind(tmp_path: Path, data: bytes) -> str | None:
    file = tmp_path / "a.dcm"
    file.write_bytes(data)
    return reader.other_kind(file)


@pytest.mark.parametrize(
    ("modality", "sop_class", "expected"),
    [
        (
            "PR",
            uid.GrayscaleSoftcopyPresentationStateStorage,
            "PR (presentation state)",
        ),
        (
            "CR",
            uid.GrayscaleSoftcopyPresentationStateStorage,
            "PR (presentation state)",
        ),
        ("SR", uid.BasicTextSRStorage, "SR (structured report)"),
        ("DX", uid.XRayRadiationDoseSRStorage, "SR (structured report)"),
        ("DOC", uid.EncapsulatedPDFStorage, "DOC (document)"),
        ("CR", uid.EncapsulatedPDFStorage, "DOC (document)"),
        ("KO", uid.KeyObjectSelectionDocumentStorage, "KO (key objects)"),
        ("OT", uid.RawDataStorage, "raw data"),
        ("REG", uid.SpatialRegistrationStorage, "REG (registration)"),
        ("SEG", "1.2.3.4", "SEG (segmentation)"),
    ],
)
def test_files_without_an_image_are_named(tmp_path, modality, sop_class, expected):
    without = dict.fromkeys(PIXELS)
    data = written(noise(8), Modality=modality, SOPClassUID=sop_class, **without)
    assert kind(tmp_path, data) == f"DICOM {expected}"
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    assert kind(tmp_path, unchecked(dataset)) == f"DICOM {expected}"
    assert kind(tmp_path, without_meta(data)) == f"DICOM {expected}"


@pytest.mark.parametrize("modality", ["CT", "US", "MG", "XA", "OT", "MR"])
def test_images_of_other_modalities_are_named(tmp_path, modality):
    assert kind(tmp_path, written(noise(8), Modality=modality)) == f"DICOM {modality}"


def test_a_dicomdir_is_named():
    folder = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"
    files = [file for file in folder.rglob("DICOMDIR*") if "empty" not in file.name]
    assert len(files) > 5
    assert {reader.other_kind(file) for file in files} == {"DICOMDIR"}


@pytest.mark.parametrize("modality", reader.radiographs.MODALITIES)
def test_radiographs_have_no_other_kind(tmp_path, modality):
    """Even if they are refused, since reading them says why."""
    for elements in (
        {},
        {"PresentationIntentType": "FOR PROCESSING"},
        {"SOPClassUID": uid.DigitalXRayImageStorageForProcessing},
        {"NumberOfFrames": 3},
        {"PixelSpacing": [1, 2]},
        {"SOPClassUID": uid.RawDataStorage},
        {"PixelData": None},
        dict.fromkeys(PIXELS),
    ):
        data = written(noise(8), **{"Modality": modality, **elements})
        assert kind(tmp_path, data) is None
    for modality in (None, "", "cr", "CT\\CR", "C8"):
        assert kind(tmp_path, written(noise(8), Modality=modality)) is None


def test_what_is_no_dicom_file_has_no_other_kind(tmp_path, monkeypatch):
    report = written(noise(8), Modality="SR")
    assert kind(tmp_path, cv2.imencode(".png", noise(8))[1].tobytes()) is None
    assert kind(tmp_path, b"") is None
    assert reader.other_kind(tmp_path) is None
    assert reader.other_kind(tmp_path / "absent") is None
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert kind(tmp_path, report) is None


def test_damaged_files_have_a_kind_or_none(tmp_path):
    report = written(noise(8), Modality="SR")
    kinds = set()
    for _ in range(200):
        data = bytearray(report)
        for at in np.random.randint(132, len(data), 6):
            data[at] = np.random.randint(256)
        kinds.add(kind(tmp_path, bytes(data[: np.random.randint(100, len(data))])))
    assert {None, "DICOM SR (structured report)"} <= kinds
    assert all("\n" not in (name or "") for name in kinds)


def test_only_the_header_is_read(tmp_path):
    """Of a file of 1 GB, which is mostly a hole."""
    data = written(noise(8), Modality="CT", PixelData=bytes(64))
    at = data.index(b"\xe0\x7f\x10\0")
    size = 1 << 30
    file = tmp_path / "a.dcm"
    with open(file, "wb") as stream:
        stream.write(data[: at + 8] + struct.pack("<I", size))
        stream.truncate(at + 12 + size)
    tracemalloc.start()
    assert reader.other_kind(file) == "DICOM CT"
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00080060, "LT", "A" * 100_000),  # Modality
        (0x00280004, "UT", "B" * 100_000),  # Photometric Interpretation
        (0x00280030, "DS", [1, 2] * 10_000),  # Pixel Spacing
        (0x00281053, "UN", b"1\\" * 100_000),  # Rescale Slope
    ],
)
def test_a_refusal_does_not_quote_all_of_a_long_value(tag, vr, value):
    dataset = pydicom.dcmread(io.BytesIO(written(noise(8))))
    dataset[tag] = DataElement(tag, vr, value)
    assert len(refusal(unchecked(dataset))) < 400
