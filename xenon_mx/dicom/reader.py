"""Decoding of a DICOM file to the gray pixels that a viewer would show.

Owns how a DICOM file is recognized and parsed, and how its pixels are decoded; with
`decoders`, the only modules that import pydicom, which the extra `[dicom]` installs.
`headers` reads elements, `radiographs` says which files are accepted, `windowing` maps
stored values to gray, `codestreams` checks compressed pixels. Must not know other
formats, labels or records.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from xenon_mx.dicom import codestreams, decoders, radiographs, windowing
from xenon_mx.dicom.headers import BIG_ENDIAN, Header, line
from xenon_mx.errors import FileError, XenonError

_MAGIC_OFFSET, _MAGIC = 128, b"DICM"  # PS3.10, 7.1
# First elements of a file without preamble, by element number, with their only VR:
# (0002,0000) or (0002,0001) of the meta header, or the lowest of group 0008.
_META = {0x0000: b"UL", 0x0001: b"OB"}
_GROUP_8 = {0x0000: b"UL", 0x0005: b"CS", 0x0008: b"CS", 0x0016: b"UI", 0x0018: b"UI"}
_FEW_GRAYS, _MOST = 16, 0.95  # of 255 and of the pixels, as in data.visibility
_MAX_FIRST_LENGTH = 1024  # bytes; chosen here: several values of Image Type
_LONGEST_META = 4096  # bytes searched for the transfer syntax; chosen here
_KIND_TAGS = ["Modality", "SOPClassUID", "Rows"]
# A filter as `warnings` stores it: action, message, category, module and line.
_IGNORE_PYDICOM = ("ignore", None, Warning, re.compile("pydicom"), 0)

_DEFLATED = "1.2.840.10008.1.2.1.99"
_UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", BIG_ENDIAN)
# pydicom's decoders of each codec and the modules that each needs, in the order of how
# much damage they notice; JPEG with 8 bits needs none of them. All have permissive
# licences and come with `[dicom]`, except libjpeg, which is under the GPL.
_LIBJPEG: dict[str, tuple[str, ...]] = {"pylibjpeg": ("pylibjpeg", "libjpeg")}
_DECODERS: dict[str, dict[str, tuple[str, ...]]] = {
    codestreams.RLE: {"pydicom": ()},
    codestreams.BASELINE: _LIBJPEG,
    codestreams.LOSSLESS: {"gdcm": ("gdcm",), **_LIBJPEG},
    codestreams.JPEG_LS: {"gdcm": ("gdcm",), **_LIBJPEG},
    codestreams.JPEG_2000: {
        "pylibjpeg": ("pylibjpeg", "openjpeg"),
        "gdcm": ("gdcm",),
        "pillow": ("PIL",),
    },
}


def is_dicom(start: bytes) -> bool:
    """Return whether a file is DICOM, by its first bytes (132 are enough).

    Either `DICM` follows the preamble of 128 bytes, or, without a preamble, the first
    bytes are a data element that a DICOM file can start with. No PNG, JPEG, BMP or
    TIFF file starts like that.
    """
    if has_preamble(start):
        return True
    if len(start) < 8:
        return False
    group, element, length = struct.unpack_from("<HHI", start)
    vr = {0x0002: _META, 0x0008: _GROUP_8}.get(group, {}).get(element)
    if vr is None:
        return False
    is_implicit = group == 8 and 0 < length <= _MAX_FIRST_LENGTH and length % 2 == 0
    return start[4:6] == vr or is_implicit


def has_preamble(start: bytes) -> bool:
    """Return whether a file starts with a DICOM preamble, which is unambiguous.

    The first data element of a file without a preamble is so short that other formats
    may start with the same bytes.
    """
    return start[_MAGIC_OFFSET : _MAGIC_OFFSET + 4] == _MAGIC


def decode(data: bytes, name: object, max_pixels: int) -> np.ndarray:
    """Decode a DICOM file to the pixels that a viewer would show first.

    Args:
        data: The file's bytes.
        name: The name of the file in errors.
        max_pixels: A file that declares more is rejected before it is decoded.

    Returns:
        (H, W) uint8, 0 black. The first VOI table or window is scaled to 0 to 255, or
        the whole range of BitsStored if there is none. Padding is 0.

    Raises:
        XenonError: pydicom or a decoder is not installed; or the file is damaged, is
            not a single plain radiograph, or has ambiguous gray values.
    """
    try:
        dataset = _parse(data)
        header = Header(dataset)
        radiographs.check(header)
        shape = _shape(header, max_pixels)
        lookup_table = windowing.gray_lookup_table(header)
        stored = _stored_values(data, dataset, header, shape)
        _check_shades(header, stored, lookup_table)
        return lookup_table[stored]
    except XenonError as error:
        raise FileError(name, str(error)) from error


def other_kind(file: Path) -> str | None:
    """Return what a DICOM file is if it is no plain radiograph, for a count of such.

    Only the header is read. Archives export presentation states and reports beside the
    films; a folder is read without them.

    Returns:
        Such as "DICOM PR (presentation state)" or "DICOM CT". None if the file is a
        radiograph, even one that `decode` refuses, and if that is uncertain: it is no
        DICOM file, is damaged, or pydicom is absent. `decode` says so then.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(_LONGEST_META)
        if not is_dicom(start) or _DEFLATED.encode() in start:
            return None
        pydicom = _pydicom()
        dataset = pydicom.dcmread(
            file, stop_before_pixels=True, force=True, specific_tags=_KIND_TAGS
        )
        return radiographs.other_kind(Header(dataset))
    except Exception:  # pydicom raises many types for damaged bytes
        return None


# --- the file ---


def _pydicom() -> Any:
    try:
        import pydicom
    except ModuleNotFoundError as error:
        raise XenonError(
            "a DICOM file, which needs pydicom: pip install 'xenon-mx[dicom]'"
        ) from error
    _silence_pydicom()
    return pydicom


def _silence_pydicom() -> None:
    """Suppress pydicom's warnings and log, since errors here state what is wrong.

    The setting is for the whole process: several threads decode at once, and warning
    filters and logger levels, `catch_warnings` included, are shared by all threads. So
    the setting is limited to pydicom's modules, made once, and repeated only after a
    `catch_warnings` elsewhere has reset it.
    """
    if _IGNORE_PYDICOM not in warnings.filters:
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", module=_IGNORE_PYDICOM[3].pattern)


def _parse(data: bytes) -> Any:
    """Parse a file to a `pydicom.Dataset`, its pixels still encoded."""
    pydicom = _pydicom()
    if _DEFLATED.encode() in data[:_LONGEST_META]:
        # A few deflated bytes can expand to any size, before any element can be read.
        raise XenonError(
            f"the whole DICOM file is deflated ({_DEFLATED}): store it in another "
            f"transfer syntax"
        )
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        is_empty = len(dataset) == 0
        if not has_preamble(data) and data[0] == 8:  # no meta header
            is_explicit = data[4:6] in _GROUP_8.values()
            dataset.file_meta.TransferSyntaxUID = _UNCOMPRESSED[is_explicit]
    except Exception as error:  # pydicom raises many types for damaged bytes
        raise XenonError(f"a damaged DICOM file: {line(error)}") from error
    if is_empty:  # pydicom's result for a file that ends within an element
        raise XenonError("the DICOM file is cut short, or damaged")
    return dataset


def _shape(header: Header, max_pixels: int) -> tuple[int, int]:
    """Return (rows, columns), checked against `max_pixels`."""
    rows, columns = header.integer("Rows"), header.integer("Columns")
    if rows < 1 or columns < 1:
        raise XenonError(f"an image of {columns} x {rows} pixels")
    if rows * columns > max_pixels:
        raise XenonError(
            f"declares more than {max_pixels:,} pixels; if that is right, set the "
            f"environment variable OPENCV_IO_MAX_IMAGE_PIXELS"
        )
    return rows, columns


# --- pixels ---


def _stored_values(
    file: bytes, dataset: Any, header: Header, shape: tuple[int, int]
) -> np.ndarray:
    """Decode the pixels: (rows, columns) uint16, bit patterns of BitsStored bits."""
    data = header.value("PixelData")
    if not isinstance(data, bytes) or not data:
        raise XenonError("it has no pixel data, or is cut short before them")
    if header.syntax in _UNCOMPRESSED:
        pixels = _uncompressed(dataset, header, shape)
    else:
        pixels = _decompressed(file, header, shape)
    if pixels.shape != shape:
        raise XenonError(f"its pixels decode to {pixels.shape}, not {shape}")
    mask = (1 << header.integer("BitsStored")) - 1
    return pixels.astype(np.uint16) & np.uint16(mask)


def _check_shades(header: Header, stored: np.ndarray, table: np.ndarray) -> None:
    """Check that different values of the pixels have different grays.

    A window that misses the values, or is much wider, makes a film black, white or
    gray. The same film with a black border of padding would show something.

    Args:
        header: The image's.
        stored: (rows, columns) uint16, bit patterns.
        table: (2 ** BitsStored,) uint8, the gray of each.
    """
    counts = np.bincount(stored.ravel(), minlength=len(table))
    counts[windowing.padding_mask(header)] = 0
    if np.count_nonzero(counts) < 2:
        return
    below = np.cumsum(np.bincount(table, counts, minlength=256))
    within = below[_FEW_GRAYS:] - np.append(0, below[: -_FEW_GRAYS - 1])
    darkest = int(within.argmax())
    share = within[darkest] / below[-1]
    if share >= _MOST:
        raise XenonError(
            f"a film with nothing to see: {share:.0%} of its pixels lie between "
            f"{darkest} and {darkest + _FEW_GRAYS} of 255, by "
            f"{windowing.source(header)}; store it with a window that fits"
        )


def _uncompressed(dataset: Any, header: Header, shape: tuple[int, int]) -> np.ndarray:
    """Read uncompressed pixels with pydicom."""
    if dataset["PixelData"].is_undefined_length:
        raise XenonError("its pixels are compressed, but its transfer syntax is not")
    size = len(header.value("PixelData"))
    expected = shape[0] * shape[1] * header.integer("BitsAllocated") // 8
    if size < expected:
        raise XenonError(f"its pixel data are cut short: {size} of {expected} bytes")
    if size >= 2 * expected and size > expected + 1:  # one byte makes the length even
        raise XenonError(
            f"its header declares one frame of {expected} bytes, but its pixel data "
            f"have {size}: they hold more frames, or more bits"
        )
    try:
        return np.asarray(dataset.pixel_array)
    except Exception as error:  # pydicom raises many types for invalid elements
        raise XenonError(f"its pixels cannot be read: {line(error)}") from error


def _decompressed(file: bytes, header: Header, shape: tuple[int, int]) -> np.ndarray:
    """Decode compressed pixels, after a check that a decoder and the data fit."""
    if header.syntax not in codestreams.CODECS:
        raise XenonError(f"its transfer syntax ({header.syntax}) is not supported")
    bits, signed = header.integer("BitsStored"), windowing.is_signed(header)
    declared = codestreams.Declared(
        *shape, bits, header.integer("BitsAllocated"), signed
    )
    stream = codestreams.check(header.value("PixelData"), header.syntax, declared)
    if stream.codec == codestreams.BASELINE and stream.bits == 8:
        pixels = decoders.baseline(stream.data)
    else:
        plugin = _decoder(header.syntax, stream.codec)
        pixels = decoders.pixels(file, plugin, stream.bits)
    # Checked here only: in uncompressed pixels, the bits above BitsStored may hold an
    # overlay or a sign.
    low, high = _valid_range(bits, signed, stream.bits)
    if not ((low <= pixels) & (pixels <= high)).all():
        raise XenonError(f"its compressed pixels exceed its {bits} bits")
    return pixels


def _valid_range(bits: int, signed: bool, stream_bits: int) -> tuple[int, int]:
    """Return the lowest and the highest value that a decoder may return.

    Signed pixels may be decoded as unsigned bit patterns if the stream has exactly
    `bits` bits. In a stream of more bits, such a value is out of range, and used as a
    bit pattern it would turn white into black.
    """
    if not signed:
        return 0, (1 << bits) - 1
    end = (1 << bits) if stream_bits == bits else 1 << (bits - 1)
    return -(1 << (bits - 1)), end - 1


def _decoder(syntax: str, codec: str) -> str:
    """Return pydicom's name of the first decoder of a codec that is installed."""
    for plugin, modules in _DECODERS[codec].items():
        if all(_is_installed(name) for name in modules):
            return plugin
    if codec == codestreams.BASELINE:
        raise XenonError(
            f"its pixels are 12-bit JPEG ({syntax}): pip install "
            f"pylibjpeg-libjpeg 'numpy<2' (its licence is the GPL)"
        )
    raise XenonError(
        f"no decoder of its pixels ({syntax}) is installed: pip install "
        f"'xenon-mx[dicom]'"
    )


def _is_installed(module: str) -> bool:
    """Return whether a module can be imported, and is not hidden by a test."""
    is_hidden = sys.modules.get(module, True) is None
    return not is_hidden and find_spec(module) is not None
