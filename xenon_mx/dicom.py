"""From the bytes of a DICOM file to the gray pixels that a viewer would show.

Owns DICOM, and is the only door to pydicom, which the extra `[dicom]` brings. Knows no
other format, no labels and no records.

The way of a pixel is that of the standard (PS3.3, C.11 and C.7.6.3.1.2): the stored
value, the modality's table or rescale, the first table or else the first window of the
VOI, 8 bits, and black and white swapped if the image is MONOCHROME1. All of it is a
function of the stored value alone, so it is worked out once for each of the 2^B values
that B stored bits can have, and looked up for the pixels.
"""

from __future__ import annotations

import io
import logging
import math
import struct
import sys
import warnings
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from xenon_mx.errors import XenonError

# Plain projection radiographs, by the defined terms of Modality (0008,0060) in PS3.3,
# C.7.3.1.1.1: computed radiography, digital radiography, and films that were scanned.
# Left out: MG (breasts), XA and RF (fluoroscopy), XC (photographs), OT (anything).
MODALITIES = ("CR", "DX", "RG")

_MAGIC_AT, _MAGIC = 128, b"DICM"  # PS3.10, 7.1
# The first element of a file without preamble: (0002,0000) or (0002,0001) of the meta
# header, or one of the first of group 8, by its number and its only possible VR.
_META = {0x0000: b"UL", 0x0001: b"OB"}
_GROUP_8 = {0x0000: b"UL", 0x0005: b"CS", 0x0008: b"CS", 0x0016: b"UI", 0x0018: b"UI"}
_LONGEST_FIRST = 1024  # bytes; chosen here: several values of Image Type

_DEFLATED = "1.2.840.10008.1.2.1.99"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", _BIG_ENDIAN)
# By the end of a transfer syntax's UID, the modules of which pydicom needs one. All are
# under free licences, and come with `[dicom]`, but libjpeg, which is under the GPL.
_COMPRESSED = "1.2.840.10008.1.2.4."
_JPEG_OF_12_BITS = _COMPRESSED + "51"
_DECODERS = {
    "50": ("PIL", "gdcm", "libjpeg"),
    "57": ("gdcm", "libjpeg"),
    "70": ("gdcm", "libjpeg"),
    "80": ("gdcm", "libjpeg"),
    "81": ("gdcm", "libjpeg"),
    "90": ("openjpeg", "gdcm", "PIL"),
    "91": ("openjpeg", "gdcm", "PIL"),
    "201": ("openjpeg",),
    "202": ("openjpeg",),
    "203": ("openjpeg",),
}

_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
_END, _SCAN, _TILE = b"\xff\xd9", b"\xff\xda", b"\xff\x93"
# Start of frame: C0 to CF without the tables C4, C8 and CC; F7 is JPEG-LS.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_ITEM = b"\xfe\xff\x00\xe0"


def is_dicom(start: bytes) -> bool:
    """Tell a DICOM file by its first bytes (132 are enough), whatever its name is.

    Either `DICM` stands behind the preamble of 128 bytes, or, in a file without one,
    the first bytes are a data element that a DICOM file can start with. No PNG, JPEG,
    BMP or TIFF starts like one.
    """
    if start[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC:
        return True
    if len(start) < 8:
        return False
    group, element, length = struct.unpack_from("<HHI", start)
    first = {0x0002: _META, 0x0008: _GROUP_8}.get(group, {}).get(element)
    if first is None:
        return False
    implicit = group == 8 and 0 < length <= _LONGEST_FIRST and length % 2 == 0
    return start[4:6] == first or implicit


def decode(data: bytes, name: object, most_pixels: int) -> np.ndarray:
    """Decode a DICOM file into the pixels that a viewer would show first.

    Args:
        data: The file's bytes.
        name: How errors call it.
        most_pixels: A file that claims more is refused before it is decoded.

    Returns:
        (H, W) uint8, 0 black. Where the file has a window or a VOI table, it is what
        becomes 0 to 255; else the whole range of BitsStored is.

    Raises:
        XenonError: pydicom or a decoder is not installed; or the file is damaged, no
            single plain radiograph, or says nothing certain of its gray values.
    """
    try:
        dataset = _parse(data)
        header = _Header(dataset)
        _refuse_others(header)
        rows, columns = _shape(header, most_pixels)
        table = _gray_of_stored(header)
        return table[_stored(dataset, header, rows, columns)]
    except XenonError as error:
        raise XenonError(f"{name}: {error}") from error


# --- the file ---


def _pydicom() -> Any:
    try:
        import pydicom
    except ModuleNotFoundError as error:
        raise XenonError(
            "a DICOM file, which needs pydicom: pip install 'xenon-mx[dicom]'"
        ) from error
    _silence()
    return pydicom


@lru_cache(maxsize=None)
def _silence() -> None:
    # What is wrong with a file is ours to say; pydicom would write lines between.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="pydicom")


def _parse(data: bytes) -> Any:
    """Read the elements of a file as pydicom's Dataset, its pixels still encoded."""
    pydicom = _pydicom()
    if _DEFLATED.encode() in data[:4096]:
        # A few bytes could unfold to any number, before anything is known of them.
        raise XenonError(
            f"the whole DICOM file is deflated ({_DEFLATED}): store it in another "
            f"transfer syntax"
        )
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        empty = len(dataset) == 0
        if data[_MAGIC_AT : _MAGIC_AT + 4] != _MAGIC and data[0] == 8:  # no meta header
            explicit = data[4:6] in _GROUP_8.values()
            dataset.file_meta.TransferSyntaxUID = _NATIVE[explicit]
    except Exception as error:  # pydicom raises whatever a damaged byte led to
        raise XenonError(f"a damaged DICOM file: {_line(error)}") from error
    if empty:  # what pydicom makes of a file that ends within an element
        raise XenonError("the DICOM file is cut short, or damaged")
    return dataset


class _Header:
    """The elements of a data set as plain Python; what is odd becomes a sentence."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        meta = getattr(dataset, "file_meta", None) or {}
        self.syntax = str(meta.get("TransferSyntaxUID", ""))

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._dataset

    def value(self, keyword: str) -> Any:
        """Give an element's value, None where it is absent or empty."""
        try:
            value = self._dataset.get(keyword)
            return None if value is None or value == "" else value
        except Exception as error:  # pydicom converts a value when it is asked for
            raise XenonError(f"its {keyword} is damaged: {_line(error)}") from error

    def text(self, keyword: str) -> str:
        return str(self.value(keyword) or "")

    def number(self, keyword: str) -> float | None:
        """Give the first number of an element, None where there is none."""
        value = self.value(keyword)
        if value is not None and not isinstance(value, (int, float, str)):
            value = next(iter(value), None)
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise XenonError(f"its {keyword} is {value!r}, which is no number")
        return number

    def integer(self, keyword: str, absent: int | None = None) -> int:
        number = self.number(keyword)
        if number is None and absent is not None:
            return absent
        if number is None or number != int(number):
            raise XenonError(f"its {keyword} is {number}; expected a whole number")
        return int(number)

    def table(self, keyword: str) -> _Table | None:
        """Give the first lookup table of a sequence, None where there is none."""
        items = self.value(keyword)
        if not items:
            return None
        try:
            first = items[0]
            descriptor = [int(number) for number in first.LUTDescriptor]
            return _table(descriptor, first.LUTData, self.syntax == _BIG_ENDIAN)
        except XenonError:
            raise
        except Exception as error:  # pydicom converts a value when it is asked for
            raise XenonError(f"its {keyword} is damaged: {_line(error)}") from error


def _refuse_others(header: _Header) -> None:
    """Stop at what is not one plain radiograph in gray, ready to be looked at."""
    if "DirectoryRecordSequence" in header:
        raise XenonError("a DICOMDIR, which lists images and is none")
    modality = header.text("Modality")
    if modality not in MODALITIES:
        raise XenonError(
            f"its modality is {modality or 'not given'}; expected a plain radiograph "
            f"({', '.join(MODALITIES)})"
        )
    if header.text("PresentationIntentType") == "FOR PROCESSING":
        raise XenonError(
            "the raw image of a detector (FOR PROCESSING): export the one for "
            "presentation"
        )
    frames = header.integer("NumberOfFrames", absent=1)
    if frames != 1:
        raise XenonError(f"it has {frames} frames; expected a single image")
    colour = header.text("PhotometricInterpretation")
    samples = header.integer("SamplesPerPixel", absent=1)
    if colour not in ("MONOCHROME1", "MONOCHROME2") or samples != 1:
        raise XenonError(
            f"its pixels are {colour or 'of no given kind'}, {samples} a pixel; "
            f"expected gray ones (MONOCHROME1 or MONOCHROME2)"
        )


def _shape(header: _Header, most_pixels: int) -> tuple[int, int]:
    """Give (rows, columns), refusing what is too large to be decoded."""
    rows, columns = header.integer("Rows"), header.integer("Columns")
    if rows < 1 or columns < 1:
        raise XenonError(f"an image of {columns} x {rows} pixels")
    if rows * columns > most_pixels:
        raise XenonError(
            f"claims more than {most_pixels:,} pixels; if it is right, set the "
            f"environment variable OPENCV_IO_MAX_IMAGE_PIXELS"
        )
    return rows, columns


# --- from stored values to gray ---


class _Table(NamedTuple):
    """A lookup table: `entries` of `bits` bits, the first for the value `first`."""

    first: int
    entries: np.ndarray
    bits: int

    def of(self, values: np.ndarray) -> np.ndarray:
        """Look values up; what is outside takes the first or the last entry."""
        at = np.rint(values - self.first)
        return self.entries[np.clip(at, 0, len(self.entries) - 1).astype(np.int64)]


def _table(descriptor: list[int], data: Any, big_endian: bool) -> _Table:
    """Read a table of either width, as PS3.3, C.11.1.1.1 allows.

    Entries of 8 bits may also lie in 16 each; the length of the data tells.
    """
    count, first, bits = descriptor
    count = count & 0xFFFF or 1 << 16  # 0 stands for 65,536; 40,000 may look negative
    if not 8 <= bits <= 16:
        raise XenonError(f"its lookup table has {bits} bits an entry; expected 8 to 16")
    order = ">u2" if big_endian else "<u2"
    if not isinstance(data, bytes):
        numbers = np.atleast_1d(np.asarray(data, np.int64))
        data = (numbers & 0xFFFF).astype(order).tobytes()
    narrow = bits == 8 and len(data) in (count, count + 1)
    width = 1 if narrow else 2
    if len(data) < width * count:
        raise XenonError(
            f"its lookup table is cut short: {len(data)} of {width * count} bytes"
        )
    entries = np.frombuffer(data, "u1" if narrow else order, count)
    return _Table(first, entries.astype(np.float64), bits)


def _bits(header: _Header) -> int:
    """Give BitsStored, refusing layouts of bits that DICOM no longer has."""
    allocated, bits = header.integer("BitsAllocated"), header.integer("BitsStored")
    high = header.integer("HighBit", absent=bits - 1)
    if allocated not in (8, 16) or not 1 <= bits <= allocated or high != bits - 1:
        raise XenonError(
            f"{bits} bits up to bit {high} of {allocated} a pixel; expected the lowest "
            f"of 8 or 16"
        )
    return bits


def _gray_of_stored(header: _Header) -> np.ndarray:
    """Work out the gray value of every pattern of bits: (2 ** BitsStored,) uint8."""
    bits = _bits(header)
    values = np.arange(1 << bits, dtype=np.float64)
    if header.integer("PixelRepresentation", absent=0):
        values[1 << (bits - 1) :] -= 1 << bits  # two's complement
    shown = _voi(header, *_modality(header, values))
    gray = np.rint(255 * np.clip(shown, 0, 1)).astype(np.uint8)
    inverted = header.text("PhotometricInterpretation") == "MONOCHROME1"
    return 255 - gray if inverted else gray


def _modality(
    header: _Header, values: np.ndarray
) -> tuple[np.ndarray, tuple[float, float]]:
    """Apply PS3.3, C.11.1; give the values, and the least and greatest possible."""
    table = header.table("ModalityLUTSequence")
    if table is not None:
        return table.of(values), (0, (1 << table.bits) - 1)
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    if slope == 0:
        raise XenonError("its RescaleSlope is 0, which makes all pixels alike")
    values = values * (1 if slope is None else slope) + (intercept or 0)
    return values, (values.min(), values.max())


def _voi(header: _Header, values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Apply PS3.3, C.11.2: 0 is to be black, 1 white; may lie outside.

    Where there are several tables or windows, they are alternatives, and the first is
    taken; so are a table and a window, and the table is taken, which can say more.
    """
    table = header.table("VOILUTSequence")
    if table is not None:
        return table.of(values) / ((1 << table.bits) - 1)
    centre, width = header.number("WindowCenter"), header.number("WindowWidth")
    if centre is None or width is None:
        return (values - ends[0]) / (ends[1] - ends[0])
    return _window(values, centre, width, header.text("VOILUTFunction") or "LINEAR")


def _window(
    values: np.ndarray, centre: float, width: float, function: str
) -> np.ndarray:
    """Apply a window by one of the three functions of PS3.3, C.11.2.1.2 and .3."""
    impossible = width < 1 if function == "LINEAR" else width <= 0
    if impossible:
        raise XenonError(
            f"its WindowWidth is {width:g}, which no {function} window has"
        )
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
        if width == 0:
            return (values > centre).astype(np.float64)
    if function in ("LINEAR", "LINEAR_EXACT"):
        return (values - centre) / width + 0.5
    if function == "SIGMOID":
        # Beyond 700 the exponential would overflow; the result is 0 or 1 long before.
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    raise XenonError(
        f"its VOILUTFunction is {function}; expected LINEAR, LINEAR_EXACT or SIGMOID"
    )


# --- pixels ---


def _stored(dataset: Any, header: _Header, rows: int, columns: int) -> np.ndarray:
    """Decode the pixels: (rows, columns) patterns of BitsStored bits, uint16."""
    data = header.value("PixelData")
    if not isinstance(data, bytes) or not data:
        raise XenonError("it holds no pixel data, or is cut short before them")
    native = header.syntax in _NATIVE
    if native:
        if dataset["PixelData"].is_undefined_length:
            raise XenonError("its pixels are compressed, but no element says how")
        expected = rows * columns * header.integer("BitsAllocated") // 8
        if len(data) < expected:
            raise XenonError(
                f"its pixel data are cut short: {len(data)} of {expected} bytes"
            )
    else:
        _check_stream(_stream(data), rows, columns)
    pixels = _decoded(dataset, header.syntax)
    if pixels.shape != (rows, columns):
        raise XenonError(f"its pixels decode to {pixels.shape}, not {rows, columns}")
    mask = (1 << header.integer("BitsStored")) - 1
    if not native and pixels.dtype.kind == "u":
        # A lossy codec may overshoot the range. Uncompressed, the bits above it are
        # an overlay's, or a signed number's.
        return np.minimum(pixels, mask).astype(np.uint16)
    return pixels.astype(np.uint16) & np.uint16(mask)


def _stream(data: bytes) -> bytes:
    """Join the fragments of encapsulated pixel data (PS3.5, A.4) of a single frame."""
    at, items = 0, []
    while data[at : at + 4] == _ITEM:
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        items.append(data[at + 8 : end])
        at = end
    return b"".join(items[1:])  # the first is the table of offsets


def _check_stream(stream: bytes, rows: int, columns: int) -> None:
    """Stop at a JPEG or JPEG 2000 stream that is cut short or of another size.

    Decoders fill up what is missing and say nothing, and take the memory of the size
    that the stream claims, not of the one that the header does.
    """
    try:
        claimed = _claimed(stream)
    except (struct.error, IndexError) as error:
        raise XenonError("its compressed pixels are cut short") from error
    if claimed is None:  # RLE, whose decoder counts what it gets
        return
    if claimed != (rows, columns):
        raise XenonError(
            f"its header says {columns} x {rows} pixels, but its compressed pixels "
            f"are {claimed[1]} x {claimed[0]}"
        )
    if stream.rfind(_END) < max(stream.rfind(_SCAN), stream.rfind(_TILE)):
        raise XenonError("its compressed pixels are cut short")


def _claimed(stream: bytes) -> tuple[int, int] | None:
    """Read (rows, columns) off a JPEG, JPEG-LS or JPEG 2000 stream."""
    if stream.startswith(_JPEG):
        at = len(_JPEG)
        while stream[at + 1] not in _FRAMES:
            if stream[at + 1] == 0xFF:  # fill
                at += 1
            else:
                at += 2 + struct.unpack_from(">H", stream, at + 2)[0]
        rows, columns = struct.unpack_from(">HH", stream, at + 5)
        return rows, columns
    at = stream.find(_JPEG_2000, 0, 4096)  # further in where boxes are around it
    if at < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", stream, at + 8)
    return bottom - top, right - left


def _decoded(dataset: Any, syntax: str) -> np.ndarray:
    """Let pydicom decode the pixels with what is installed."""
    try:
        return np.asarray(dataset.pixel_array)
    except Exception as error:  # each decoder raises what it likes
        missing = _missing_decoder(syntax)
        reason = missing or f"its pixels cannot be decoded: {_line(error)}"
        raise XenonError(reason) from error


def _missing_decoder(syntax: str) -> str | None:
    """Say which decoder of a transfer syntax is not installed, if that is so."""
    if syntax == _JPEG_OF_12_BITS and not _has("libjpeg"):
        return (
            f"its pixels are JPEG of 12 bits ({syntax}): pip install "
            f"pylibjpeg-libjpeg 'numpy<2' (its licence is the GPL)"
        )
    decoders = _DECODERS.get(syntax.replace(_COMPRESSED, ""))
    if decoders and not _has(*decoders):
        return (
            f"no decoder of its pixels ({syntax}) is installed: pip install "
            f"'xenon-mx[dicom]'"
        )
    return None


def _has(*modules: str) -> bool:
    """Tell whether one of some modules is installed."""
    return any(find_spec(each) for each in modules if sys.modules.get(each, True))


def _line(error: Exception) -> str:
    """Make one line of another library's message."""
    return " ".join(str(error).split())[:200] or type(error).__name__
