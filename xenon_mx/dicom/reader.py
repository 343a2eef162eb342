"""Decoding of a DICOM file to the gray pixels that a viewer would show.

Owns how a DICOM file is recognized and parsed, and the order of all else; with
`decoders`, the only modules that import pydicom, which the extra `[dicom]` installs.
`headers` reads elements, `radiographs` says which files are accepted, `pixels` decodes,
`windowing` maps stored values to gray; `identity` reads whose image a file is. Must not
know other formats, labels or records.
"""

from __future__ import annotations

import io
import logging
import re
import struct
import warnings
from pathlib import Path
from typing import Any, Sequence

import numpy as np

from xenon_mx.dicom import pixels, radiographs, windowing
from xenon_mx.dicom.headers import Header, line
from xenon_mx.errors import XenonError, os_error
from xenon_mx.formats import visibility
from xenon_mx.formats.pixels import check_size
from xenon_mx.runtime import extras

_MAGIC_OFFSET, _MAGIC = 128, b"DICM"  # PS3.10, 7.1
# First elements of a file without preamble, by element number, with their only VR:
# (0002,0000) or (0002,0001) of the meta header, or the lowest of group 0008.
_META = {0x0000: b"UL", 0x0001: b"OB"}
_GROUP_8 = {0x0000: b"UL", 0x0005: b"CS", 0x0008: b"CS", 0x0016: b"UI", 0x0018: b"UI"}
_MAX_FIRST_LENGTH = 1024  # bytes; chosen here: several values of Image Type
_LONGEST_META = 4096  # bytes searched for the transfer syntax; chosen here
_KIND_TAGS = ["Modality", "SOPClassUID", "Rows"]
# A filter as `warnings` stores it: action, message, category, module and line.
_IGNORE_PYDICOM = ("ignore", None, Warning, re.compile("pydicom"), 0)

_DEFLATED = "1.2.840.10008.1.2.1.99"


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


def decode(data: bytes) -> np.ndarray:
    """Decode a DICOM file to the pixels that a viewer would show first.

    Args:
        data: The file's bytes.

    Returns:
        (H, W) uint8, 0 black. The first VOI table or window is scaled to 0 to 255, or
        the whole range of BitsStored if there is none. Padding is 0.

    Raises:
        XenonError: pydicom or a decoder is not installed; or the file is damaged, is
            not a single plain radiograph, or has ambiguous gray values.
    """
    dataset = _parse(data)
    header = Header(dataset)
    radiographs.check(header)
    shape = header.integer("Rows"), header.integer("Columns")
    check_size(shape[1], shape[0])
    lookup_table = windowing.gray_lookup_table(header)
    values = pixels.values(data, dataset, header, shape)
    patterns = values.astype(np.uint16) & np.uint16(len(lookup_table) - 1)
    is_padding = windowing.is_padding(header, values)
    is_padding |= windowing.padding_patterns(header)[patterns]
    _check_shades(header, patterns[~is_padding], lookup_table)
    gray = lookup_table[patterns]
    gray[is_padding] = 0
    return gray


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


def read_header(file: Path, keywords: Sequence[str]) -> Header:
    """Read a few elements of a DICOM file's header, and nothing of its pixels.

    Args:
        file: The file.
        keywords: The elements; others are absent from what is returned.

    Raises:
        XenonError: pydicom is not installed; or the file cannot be read, is no DICOM
            file, is deflated, or is damaged. The error quotes neither the file's path
            nor any of its bytes, which may identify a patient.
    """
    try:
        with file.open("rb") as stream:
            start = stream.read(_LONGEST_META)
    except OSError as error:
        raise XenonError(os_error("", error).reason) from None
    if not is_dicom(start):
        raise XenonError("not a DICOM file" if start else "the file is empty")
    pydicom = _pydicom()
    _check_not_deflated(start)
    try:
        dataset = pydicom.dcmread(
            file, stop_before_pixels=True, force=True, specific_tags=list(keywords)
        )
    except Exception:  # pydicom raises many types for damaged bytes, and quotes them
        raise XenonError("a damaged DICOM file: its header cannot be read") from None
    return Header(dataset)


def _check_shades(header: Header, patterns: np.ndarray, table: np.ndarray) -> None:
    """Check that different values of the pixels have different grays.

    A window that misses the values, or is much wider, makes a film black, white or
    gray. The same film with a black border of padding would show something.

    Args:
        header: The image's.
        patterns: (n,) uint16, the bits of the pixels that are no padding.
        table: (2 ** BitsStored,) uint8, the gray of each.
    """
    counts = np.bincount(patterns, minlength=len(table))
    if np.count_nonzero(counts) < 2:
        return
    visibility.check_counts(
        np.bincount(table, counts, minlength=256),
        f"that is by {windowing.source(header)}: store it with a window that fits",
    )


# --- the file ---


def _pydicom() -> Any:
    try:
        import pydicom
    except ModuleNotFoundError as error:
        raise XenonError(
            f"a DICOM file, which needs pydicom: {extras.install('dicom')}"
        ) from error
    _silence_pydicom()
    return pydicom


def check_installed() -> None:
    """Check that pydicom is installed.

    Raises:
        XenonError: It is not; the error says how to install it.
    """
    _pydicom()


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
    _check_not_deflated(data)
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        is_empty = len(dataset) == 0
        if not has_preamble(data) and data[0] == 8:  # no meta header
            is_explicit = data[4:6] in _GROUP_8.values()
            dataset.file_meta.TransferSyntaxUID = pixels.UNCOMPRESSED[is_explicit]
    except Exception as error:  # pydicom raises many types for damaged bytes
        raise XenonError(f"a damaged DICOM file: {line(error)}") from error
    if is_empty:  # pydicom's result for a file that ends within an element
        raise XenonError("the DICOM file is cut short, or damaged")
    return dataset


def _check_not_deflated(data: bytes) -> None:
    """Check that a file's data set is not deflated, by the file's first bytes.

    A few deflated bytes can expand to any size, before any element can be read.
    """
    if _DEFLATED.encode() in data[:_LONGEST_META]:
        raise XenonError(
            f"the whole DICOM file is deflated ({_DEFLATED}): store it in another "
            f"transfer syntax"
        )
