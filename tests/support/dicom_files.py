"""DICOM files for tests, written with pydicom 2 or 3, and two small JPEG encoders."""

from __future__ import annotations

import io
import struct
from typing import Any, Sequence

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from xenon_mx.data import images
from xenon_mx.errors import XenonError

PYDICOM_3 = int(pydicom.__version__.split(".")[0]) >= 3


def written(
    pixels: np.ndarray,
    bits: int | None = None,
    syntax: str = uid.ExplicitVRLittleEndian,
    stream: bytes | None = None,
    **elements: Any,
) -> bytes:
    """Return a computed radiograph as the bytes of a DICOM file.

    Args:
        pixels: (H, W) uint8, uint16 or int16, the stored values.
        bits: BitsStored; None is all bits of the dtype.
        syntax: The transfer syntax.
        stream: The compressed pixels, if the transfer syntax compresses them.
        elements: Other values by keyword; None omits the element.
    """
    dataset = _empty_dataset(syntax)
    bits_allocated = 8 * pixels.itemsize
    bits = bits or bits_allocated
    values = {
        "SOPClassUID": uid.ComputedRadiographyImageStorage,
        "SOPInstanceUID": dataset.file_meta.MediaStorageSOPInstanceUID,
        "Modality": "CR",
        "PatientName": "Doe^Jane",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": bits_allocated,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        **elements,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    if "PixelData" not in elements:
        _set_pixel_data(dataset, pixels, stream)
    return saved(dataset)


def _empty_dataset(syntax: str) -> Dataset:
    """Return a data set that has only a meta header."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = uid.ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    if not PYDICOM_3:
        dataset.is_little_endian = syntax != uid.ExplicitVRBigEndian
        dataset.is_implicit_VR = syntax == uid.ImplicitVRLittleEndian
    return dataset


def _set_pixel_data(dataset: Dataset, pixels: np.ndarray, stream: bytes | None) -> None:
    """Set PixelData to a compressed stream, or else to the pixels, RLE by syntax."""
    is_big_endian = dataset.file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian
    order = ">" if is_big_endian else "<"
    raw = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    dataset.PixelData = encapsulate([stream]) if stream else raw + bytes(len(raw) % 2)
    dataset["PixelData"].VR = "OB" if stream or pixels.itemsize == 1 else "OW"
    dataset["PixelData"].is_undefined_length = stream is not None
    if dataset.file_meta.TransferSyntaxUID == uid.RLELossless and not stream:
        dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        dataset.compress(uid.RLELossless, encoding_plugin="pydicom")  # GDCM may abort


def saved(dataset: Dataset) -> bytes:
    """Return a data set as the bytes of a file with preamble and meta header."""
    options = {"enforce_file_format": True}
    if not PYDICOM_3:
        options = {"write_like_original": False}
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, **options)
    return buffer.getvalue()


def unchecked(dataset: Dataset) -> bytes:
    """Return a data set that was read as the bytes of a file, its meta header as is."""
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def without_meta(data: bytes) -> bytes:
    """Return a file without preamble and meta header, as in old archives."""
    (length,) = struct.unpack_from("<I", data, 140)
    return data[144 + length :]


def table(first: int, entries: Sequence[int], bits: int, data: Any = None) -> Dataset:
    """Return an item of a sequence of lookup tables."""
    item = Dataset()
    vr = "SS" if first < 0 else "US"
    count = len(entries) & 0xFFFF
    item.add_new(0x00283002, vr, [count, first, bits])
    if data is None:
        item.add_new(0x00283006, "US", list(entries))
    else:
        item.add_new(0x00283006, "OW", data)
    return item


def noise(bits: int = 8, signed: bool = False, shape: tuple = (6, 9)) -> np.ndarray:
    """Return random values of so many bits, including the lowest and the highest."""
    low = -(1 << (bits - 1)) if signed else 0
    values = np.random.randint(low, low + (1 << bits), shape)
    values.flat[:2] = low, low + (1 << bits) - 1
    return values.astype("u1" if bits == 8 and not signed else "i2" if signed else "u2")


def gray(intensities: Any) -> np.ndarray:
    """Scale 0 to 1 to 8 bits."""
    intensities = np.asarray(intensities, np.float64)
    return np.rint(255 * np.clip(intensities, 0, 1)).astype(np.uint8)


def decoded(*args: Any, **options: Any) -> np.ndarray:
    """Write a DICOM file as `written` does, and decode it."""
    return images.decode(written(*args, **options), "scan")


def refusal(data: bytes) -> str:
    """Return the one-line error of a file that must be rejected."""
    with pytest.raises(XenonError) as caught:
        images.decode(data, "scan")
    message = str(caught.value)
    assert message.startswith("scan: ")
    assert "\n" not in message
    return message


def rle(*segments: bytes) -> bytes:
    """Return a frame of RLE (PS3.5, G)."""
    offsets = np.cumsum([64, *map(len, segments[:-1])]).tolist()
    header = struct.pack(f"<{len(offsets) + 1}I", len(segments), *offsets)
    return header.ljust(64, b"\0") + b"".join(segments)


class _Bits:
    """The bits of a JPEG scan, with a zero byte stuffed after every FF."""

    def __init__(self) -> None:
        self._bits = ""

    def add(self, value: int, count: int) -> None:
        self._bits += f"{value & ((1 << count) - 1):0{count}b}" if count else ""

    def number(self, value: int) -> None:
        """Append a difference: 5 bits of its category, then its own bits."""
        category = abs(value).bit_length()
        self.add(category, 5)
        if category < 16:
            self.add(value if value > 0 else value - 1, category)

    def scan(self) -> bytes:
        bits = self._bits + "1" * (-len(self._bits) % 8)
        data = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
        return data.replace(b"\xff", b"\xff\x00")


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


# A Huffman table in which the code of category 0 to 16 is that number in 5 bits
# (ITU-T T.81, C).
_CATEGORIES = bytes([0, 0, 0, 0, 17, *[0] * 11, *range(17)])
_END_OF_BLOCK = bytes([1, *[0] * 15, 0])  # one code: the bit 0


def jpeg_lossless(pixels: np.ndarray, precision: int) -> bytes:
    """Encode by ITU-T T.81, process 14, predictor 1 (the sample to the left)."""
    rows, columns = pixels.shape
    bits = _Bits()
    for y in range(rows):
        for x in range(columns):
            if x:
                predicted = int(pixels[y, x - 1])
            else:
                predicted = int(pixels[y - 1, 0]) if y else 1 << (precision - 1)
            difference = (int(pixels[y, x]) - predicted) % 65536
            bits.number(difference if difference <= 32768 else difference - 65536)
    return (
        b"\xff\xd8"
        + _segment(0xC3, struct.pack(">BHHBBBB", precision, rows, columns, 1, 1, 17, 0))
        + _segment(0xC4, b"\0" + _CATEGORIES)
        + _segment(0xDA, bytes([1, 1, 0, 1, 0, 0]))
        + bits.scan()
        + b"\xff\xd9"
    )


def jpeg_of_blocks(values: np.ndarray, precision: int) -> bytes:
    """Encode an image of flat 8 x 8 blocks by ITU-T T.81, process 2 or 4.

    A flat block has one coefficient: 8 times its level-shifted value (A.3.3).
    """
    rows, columns = (8 * side for side in values.shape)
    bits, previous = _Bits(), 0
    for value in values.ravel().tolist():
        coefficient = 8 * (value - (1 << (precision - 1)))
        bits.number(coefficient - previous)
        bits.add(0, 1)
        previous = coefficient
    return (
        b"\xff\xd8"
        + _segment(0xDB, b"\0" + b"\1" * 64)
        + _segment(0xC1, struct.pack(">BHHBBBB", precision, rows, columns, 1, 1, 17, 0))
        + _segment(0xC4, b"\0" + _CATEGORIES + b"\x10" + _END_OF_BLOCK)
        + _segment(0xDA, bytes([1, 1, 0, 0, 63, 0]))
        + bits.scan()
        + b"\xff\xd9"
    )
