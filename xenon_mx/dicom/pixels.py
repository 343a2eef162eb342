"""Decoding of a DICOM data set's pixels to stored values.

Owns the comparison of pixels with what their header says of them, and which decoder is
used. `codestreams` checks compressed pixels, `decoders` calls the decoders. Must not
know gray values.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import numpy as np

from xenon_mx.dicom import codestreams, decoders, windowing
from xenon_mx.dicom.headers import BIG_ENDIAN, Header, line, quoted
from xenon_mx.errors import XenonError
from xenon_mx.formats import jpeg
from xenon_mx.runtime import extras

UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", BIG_ENDIAN)
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


def values(
    file: bytes, dataset: Any, header: Header, shape: tuple[int, int]
) -> np.ndarray:
    """Decode the pixels of a data set.

    Args:
        file: The file's bytes.
        dataset: The `pydicom.Dataset` that was parsed from them.
        header: Its elements.
        shape: Rows and Columns.

    Returns:
        (rows, columns) of an integer type, whose lowest BitsStored bits are the stored
        values.

    Raises:
        XenonError: The pixels are absent, damaged or differ from the header, or no
            decoder is installed.
    """
    data = header.value("PixelData")
    if not isinstance(data, bytes) or not data:
        raise XenonError("it has no pixel data, or is cut short before them")
    if header.syntax in UNCOMPRESSED:
        pixels = _uncompressed(dataset, header, shape)
    else:
        pixels = _decompressed(file, header, shape)
    if pixels.shape != shape:
        raise XenonError(f"its pixels decode to {pixels.shape}, not {shape}")
    return pixels


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
    is_words = dataset["PixelData"].VR == "OB" and header.integer("BitsAllocated") > 8
    if is_words and header.syntax == BIG_ENDIAN:
        raise XenonError(
            "its pixels have 16 bits and are declared as bytes (OB) in a big-endian "
            "file: the order of their bytes is ambiguous"
        )
    stored = dataset.BitsStored
    dataset.BitsStored = dataset.BitsAllocated  # pydicom 3 would drop the bits above
    dataset.NumberOfFrames = 1  # 0 is a placeholder that pydicom 2 refuses
    try:
        pixels = np.asarray(dataset.pixel_array)
    except Exception as error:  # pydicom raises many types for invalid elements
        raise XenonError(f"its pixels cannot be read: {line(error)}") from error
    finally:
        dataset.BitsStored = stored
    _check_upper_bits(header, pixels)
    return pixels


def _check_upper_bits(header: Header, pixels: np.ndarray) -> None:
    """Check that words are within BitsStored, which would wrap the rest.

    The bits above may be an overlay that the header declares, padding, or the sign;
    some writers leave zeros in place of the sign, but none does both.
    """
    bits, signed = header.integer("BitsStored"), windowing.is_signed(header)
    if bits == 8 * pixels.itemsize:
        return
    overlays = header.overlay_bits() & ((1 << 8 * pixels.itemsize) - (1 << bits))
    if overlays and signed:
        return
    used = pixels[~windowing.is_padding(header, pixels)] & ~pixels.dtype.type(overlays)
    low, high = (int(used.min()), int(used.max())) if used.size else (0, 0)
    half = 1 << (bits - 1)
    is_extended = signed and -half <= low and high < half
    if not is_extended and not 0 <= low <= high < 2 * half:
        raise XenonError(
            f"its pixels run from {low} to {high}, which exceeds its {bits} bits: it "
            f"is ambiguous what is black"
        )


def _decompressed(file: bytes, header: Header, shape: tuple[int, int]) -> np.ndarray:
    """Decode compressed pixels, after a check that a decoder and the data fit."""
    if header.syntax not in codestreams.CODECS:
        syntax = quoted(header.syntax)
        raise XenonError(f"its transfer syntax ({syntax}) is not supported")
    bits, signed = header.integer("BitsStored"), windowing.is_signed(header)
    declared = codestreams.Declared(
        *shape, bits, header.integer("BitsAllocated"), signed
    )
    stream = codestreams.check(header.value("PixelData"), header.syntax, declared)
    if stream.codec == codestreams.BASELINE and stream.bits == 8:
        pixels = jpeg.decode_stored(stream.data)  # as image files are
    else:
        plugin = _decoder(header.syntax, stream.codec)
        pixels = decoders.pixels(file, stream.bits, plugin)
    if stream.codec == codestreams.RLE:
        _check_upper_bits(header, pixels)
        return pixels
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
        f"no decoder of its pixels ({syntax}) is installed: {extras.install('dicom')}"
    )


def _is_installed(module: str) -> bool:
    """Return whether a module can be imported, and is not hidden by a test."""
    is_hidden = sys.modules.get(module, True) is None
    return not is_hidden and find_spec(module) is not None
