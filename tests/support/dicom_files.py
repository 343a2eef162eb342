"""DICOM files for tests, written with pydicom 2 or 3, and two small JPEG encoders."""

from __future__ import annotations

import io
import struct
from typing import Any, Sequence

import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

PYDICOM_3 = int(pydicom.__version__.split(".")[0]) >= 3


def written(
    pixels: np.ndarray,
    bits: int | None = None,
    syntax: str = uid.ExplicitVRLittleEndian,
    stream: bytes | None = None,
    **elements: Any,
) -> bytes:
    """Write a computed radiograph as a DICOM file.

    Args:
        pixels: (H, W) uint8, uint16 or int16, as they are stored.
        bits: BitsStored; None takes all of the type's.
        syntax: The transfer syntax.
        stream: The compressed pixels, for a syntax that has such.
        elements: Other values by keyword; None leaves the element out.
    """
    allocated = 8 * pixels.itemsize
    bits = bits or allocated
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = uid.ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    little = syntax != uid.ExplicitVRBigEndian
    if not PYDICOM_3:
        dataset.is_little_endian = little
        dataset.is_implicit_VR = syntax == uid.ImplicitVRLittleEndian
    values = {
        "SOPClassUID": uid.ComputedRadiographyImageStorage,
        "SOPInstanceUID": dataset.file_meta.MediaStorageSOPInstanceUID,
        "Modality": "CR",
        "PatientName": "Doe^Jane",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": allocated,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        **elements,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    order = "<" if little else ">"
    raw = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    if "PixelData" not in elements:
        dataset.PixelData = (
            encapsulate([stream]) if stream else raw + bytes(len(raw) % 2)
        )
        dataset["PixelData"].VR = "OB" if stream or allocated == 8 else "OW"
        dataset["PixelData"].is_undefined_length = stream is not None
    if syntax == uid.RLELossless:
        dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        dataset.compress(uid.RLELossless)
    return saved(dataset)


def saved(dataset: Dataset) -> bytes:
    """Write a data set as a file with preamble and meta header."""
    options = {"enforce_file_format": True}
    if not PYDICOM_3:
        options = {"write_like_original": False}
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, **options)
    return buffer.getvalue()


def without_meta(data: bytes) -> bytes:
    """Cut preamble and meta header off a file, as old archives keep them."""
    (length,) = struct.unpack_from("<I", data, 140)
    return data[144 + length :]


def table(first: int, entries: Sequence[int], bits: int, data: Any = None) -> Dataset:
    """Make an item of a sequence of lookup tables."""
    item = Dataset()
    kind = "SS" if first < 0 else "US"
    count = len(entries) & 0xFFFF
    item.add_new(0x00283002, kind, [count, first, bits])
    if data is None:
        item.add_new(0x00283006, "US", list(entries))
    else:
        item.add_new(0x00283006, "OW", data)
    return item


class _Bits:
    """Bits of a JPEG's scan, with a zero byte behind every FF."""

    def __init__(self) -> None:
        self._bits = ""

    def add(self, value: int, count: int) -> None:
        self._bits += f"{value & ((1 << count) - 1):0{count}b}" if count else ""

    def number(self, value: int) -> None:
        """Add a difference: 5 bits of its category, then its own bits."""
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


# The categories 0 to 16, each a code of 5 bits that is its own number (ITU-T T.81, C).
_CATEGORIES = bytes([0, 0, 0, 0, 17, *[0] * 11, *range(17)])
_END_OF_BLOCK = bytes([1, *[0] * 15, 0])  # one code: the bit 0


def jpeg_lossless(pixels: np.ndarray, precision: int) -> bytes:
    """Encode by ITU-T T.81, process 14, predictor 1 (the sample on the left)."""
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

    A flat block has one coefficient: 8 times its value above the middle (A.3.3).
    """
    rows, columns = (8 * side for side in values.shape)
    bits, before = _Bits(), 0
    for value in values.ravel().tolist():
        coefficient = 8 * (value - (1 << (precision - 1)))
        bits.number(coefficient - before)
        bits.add(0, 1)
        before = coefficient
    return (
        b"\xff\xd8"
        + _segment(0xDB, b"\0" + b"\1" * 64)
        + _segment(0xC1, struct.pack(">BHHBBBB", precision, rows, columns, 1, 1, 17, 0))
        + _segment(0xC4, b"\0" + _CATEGORIES + b"\x10" + _END_OF_BLOCK)
        + _segment(0xDA, bytes([1, 1, 0, 0, 63, 0]))
        + bits.scan()
        + b"\xff\xd9"
    )
