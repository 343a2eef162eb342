"""From the bytes of a DICOM file to the gray pixels that a viewer would show.

Owns how a DICOM file is told, which are taken, and how their pixels are decoded; is the
only door to pydicom, which the extra `[dicom]` brings. What is in the file is read by
`dicom_headers`, shown as `dicom_grays` says, and looked at by `dicom_streams` before it
is decoded. Knows no other format, no labels and no records.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import sys
import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np

from xenon_mx.dicom import codestreams, decoders, windowing
from xenon_mx.dicom.headers import BIG_ENDIAN, Header, line
from xenon_mx.errors import FileError, XenonError

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
_ALMOST_BLACK = 16  # of 255: what 12 bits are in 16
# As `warnings` keeps a filter: action, message, category, module and line.
_QUIET = ("ignore", None, Warning, re.compile("pydicom"), 0)

_DEFLATED = "1.2.840.10008.1.2.1.99"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", BIG_ENDIAN)
# The modules of which pydicom needs one. All are under free licences, and come with
# `[dicom]`, but libjpeg, which is under the GPL.
_JPEG_OF_12_BITS = "1.2.840.10008.1.2.4.51"
_DECODERS = {
    codestreams.RLE: ("pydicom",),
    codestreams.BASELINE: ("PIL", "gdcm", "libjpeg"),
    codestreams.LOSSLESS: ("gdcm", "libjpeg"),
    codestreams.JPEG_LS: ("gdcm", "libjpeg"),
    codestreams.JPEG_2000: ("openjpeg", "gdcm", "PIL"),
}


def is_dicom(start: bytes) -> bool:
    """Tell a DICOM file by its first bytes (132 are enough), whatever its name is.

    Either `DICM` stands behind the preamble of 128 bytes, or, in a file without one,
    the first bytes are a data element that a DICOM file can start with. No PNG, JPEG,
    BMP or TIFF starts like one.
    """
    if has_preamble(start):
        return True
    if len(start) < 8:
        return False
    group, element, length = struct.unpack_from("<HHI", start)
    first = {0x0002: _META, 0x0008: _GROUP_8}.get(group, {}).get(element)
    if first is None:
        return False
    implicit = group == 8 and 0 < length <= _LONGEST_FIRST and length % 2 == 0
    return start[4:6] == first or implicit


def has_preamble(start: bytes) -> bool:
    """Tell a DICOM file as all but the oldest start, which no other file does.

    A single data element, in a file without a preamble, has few enough bytes to be
    met elsewhere.
    """
    return start[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC


def decode(data: bytes, name: object, most_pixels: int) -> np.ndarray:
    """Decode a DICOM file into the pixels that a viewer would show first.

    Args:
        data: The file's bytes.
        name: How errors call it.
        most_pixels: A file that claims more is refused before it is decoded.

    Returns:
        (H, W) uint8, 0 black. Where the file has a window or a VOI table, it is what
        becomes 0 to 255; else the whole range of BitsStored is. Padding is 0.

    Raises:
        FileError: pydicom or a decoder is not installed; or the file is damaged, no
            single plain radiograph, or says nothing certain of its gray values.
    """
    try:
        dataset = _parse(data)
        header = Header(dataset)
        _refuse_others(header)
        rows, columns = _shape(header, most_pixels)
        grays = windowing.gray_lookup_table(header)
        stored = _stored(data, dataset, header, rows, columns)
        film = np.zeros(len(grays), np.bool_)
        film[stored] = True
        _check_range(header, grays[film & ~windowing.padding_mask(header)])
        return grays[stored]
    except XenonError as error:
        raise FileError(name, str(error)) from error


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


def _silence() -> None:
    """Keep pydicom from writing lines between ours, which say what is wrong.

    It holds for the whole process, for want of anything narrower: several threads
    decode at once, but filters of warnings and levels of loggers, `catch_warnings`
    included, are all threads'. So it is limited to pydicom's modules, done once, and
    repeated only where somebody else's `catch_warnings` has taken it back.
    """
    if _QUIET not in warnings.filters:
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", module=_QUIET[3].pattern)


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
        if not has_preamble(data) and data[0] == 8:  # no meta header
            explicit = data[4:6] in _GROUP_8.values()
            dataset.file_meta.TransferSyntaxUID = _NATIVE[explicit]
    except Exception as error:  # pydicom raises whatever a damaged byte led to
        raise XenonError(f"a damaged DICOM file: {line(error)}") from error
    if empty:  # what pydicom makes of a file that ends within an element
        raise XenonError("the DICOM file is cut short, or damaged")
    return dataset


def _refuse_others(header: Header) -> None:
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
    sides = list(header.numbers("PixelAspectRatio"))
    if sides and not (len(sides) == 2 and sides[0] == sides[1] > 0):
        ratio = ":".join(f"{side:g}" for side in sides)
        raise XenonError(
            f"its PixelAspectRatio is {ratio}; expected square pixels (1:1): resample "
            f"it to such"
        )


def _shape(header: Header, most_pixels: int) -> tuple[int, int]:
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


# --- pixels ---


def _check_range(header: Header, grays: np.ndarray) -> None:
    """Refuse 12 bits in 16, say, without a window: they would be almost black.

    Args:
        header: The image's.
        grays: (n,) uint8, every gray that it has on the film, in any order.
    """
    if not grays.size:
        raise XenonError("it holds nothing but padding")
    span = int(grays.max()) - int(grays.min())
    shown = windowing.whole_range(header)
    if shown is None or shown[1] <= 8 or span > _ALMOST_BLACK:
        return
    whose, bits = shown
    raise XenonError(
        f"its pixels take less than a sixteenth of the range of the {bits} bits of "
        f"{whose}: store it with a window alone"
    )


def _stored(
    whole: bytes, dataset: Any, header: Header, rows: int, columns: int
) -> np.ndarray:
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
        pixels = _native(dataset)
    else:
        _check_decoders(header.syntax)
        bits = header.integer("BitsStored"), header.integer("BitsAllocated")
        held = codestreams.check(data, header.syntax, (rows, columns), bits)
        pixels = decoders.pixels(whole, held)
        # Uncompressed, the bits above those stored are an overlay's, or a sign's.
        low, high = _ends(bits[0], windowing.is_signed(header), held)
        if not ((low <= pixels) & (pixels <= high)).all():
            raise XenonError(f"its compressed pixels exceed its {bits[0]} bits")
    if pixels.shape != (rows, columns):
        raise XenonError(f"its pixels decode to {pixels.shape}, not {rows, columns}")
    mask = (1 << header.integer("BitsStored")) - 1
    return pixels.astype(np.uint16) & np.uint16(mask)


def _ends(bits: int, signed: bool, held: int) -> tuple[int, int]:
    """Give the least and the greatest number that a decoder may give for `bits` bits.

    Of a stream whose `held` bits are just those, signed pixels may come as patterns,
    without their sign. In one of more bits, such a number is too large: taken for a
    pattern, white would become black.
    """
    if not signed:
        return 0, (1 << bits) - 1
    greatest = (1 << bits) if held == bits else 1 << (bits - 1)
    return -(1 << (bits - 1)), greatest - 1


def _native(dataset: Any) -> np.ndarray:
    """Let pydicom read pixels that are not compressed."""
    try:
        return np.asarray(dataset.pixel_array)
    except Exception as error:  # pydicom raises whatever an odd element led to
        raise XenonError(f"its pixels cannot be read: {line(error)}") from error


def _check_decoders(syntax: str) -> None:
    """Stop if no decoder of a transfer syntax is installed, or could be."""
    if syntax == _JPEG_OF_12_BITS and not _has("libjpeg"):
        raise XenonError(
            f"its pixels are JPEG of 12 bits ({syntax}): pip install "
            f"pylibjpeg-libjpeg 'numpy<2' (its licence is the GPL)"
        )
    if syntax not in codestreams.KINDS:
        raise XenonError(f"its pixels are compressed in a way ({syntax}) not read here")
    if not _has(*_DECODERS[codestreams.KINDS[syntax]]):
        raise XenonError(
            f"no decoder of its pixels ({syntax}) is installed: pip install "
            f"'xenon-mx[dicom]'"
        )


def _has(*modules: str) -> bool:
    """Tell whether one of some modules is installed."""
    return any(find_spec(each) for each in modules if sys.modules.get(each, True))
