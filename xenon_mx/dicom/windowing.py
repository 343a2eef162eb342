"""From what a DICOM image stores of a pixel to the gray that a viewer would show.

Owns the way of a value by the standard (PS3.3, C.11 and C.7.6.3.1.2): the stored
value, the modality's table or rescale, the first table or else the first window of the
VOI, 8 bits, black and white swapped if the image is MONOCHROME1, and black where it is
padding. All of it is a function of the stored value alone, so it is worked out once for
each of the 2^B values that B stored bits can have, and looked up for the pixels. Knows
no pixels.
"""

from __future__ import annotations

import numpy as np

from xenon_mx.dicom.headers import Header
from xenon_mx.errors import XenonError

# The PresentationLUTShape that goes with each kind (PS3.3, C.7.6.1 and C.8.11.3).
_SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}


def _bits(header: Header) -> int:
    """Give BitsStored, refusing layouts of bits that DICOM no longer has."""
    allocated, bits = header.integer("BitsAllocated"), header.integer("BitsStored")
    high = header.integer("HighBit", absent=bits - 1)
    if allocated not in (8, 16) or not 1 <= bits <= allocated or high != bits - 1:
        raise XenonError(
            f"{bits} bits up to bit {high} of {allocated} a pixel; expected the lowest "
            f"of 8 or 16"
        )
    return bits


def gray_lookup_table(header: Header) -> np.ndarray:
    """Work out the gray value of every pattern of bits: (2 ** BitsStored,) uint8."""
    shown = _voi(header, *_modality(header, _values(header)))
    gray = np.rint(255 * np.clip(shown, 0, 1)).astype(np.uint8)
    if _is_inverted(header):
        gray = 255 - gray
    gray[padding_mask(header)] = 0
    return gray


def padding_mask(header: Header) -> np.ndarray:
    """Tell which patterns fill the image outside the film: (2 ** BitsStored,) bool."""
    values, signed = _values(header), is_signed(header)
    value = header.word("PixelPaddingValue", signed)
    if value is None:
        return np.zeros(len(values), np.bool_)
    limit = header.word("PixelPaddingRangeLimit", signed)
    low, high = sorted((value, value if limit is None else limit))
    return (low <= values) & (values <= high)


def whole_range(header: Header) -> tuple[str, int] | None:
    """Tell whose whole range is shown, and its bits; None where a window is."""
    table = header.table("VOILUTSequence")
    if table is not None:
        return "its VOI table, which rules over any window", table.bits
    if _centre_and_width(header) is not None:
        return None
    table = header.table("ModalityLUTSequence")
    if table is not None:
        return "its modality table, and no window says which", table.bits
    return "its pixels, and no window says which", _bits(header)


def is_signed(header: Header) -> bool:
    """Tell whether the stored values are two's complement."""
    return header.integer("PixelRepresentation", absent=0) != 0


def _values(header: Header) -> np.ndarray:
    """Give the stored value of every pattern of bits: (2 ** BitsStored,) float64."""
    bits = _bits(header)
    values = np.arange(1 << bits, dtype=np.float64)
    if is_signed(header):
        values[1 << (bits - 1) :] -= 1 << bits
    return values


def _is_inverted(header: Header) -> bool:
    """Tell whether the least value is white, refusing a file that says both."""
    kind = header.text("PhotometricInterpretation")
    shape = header.text("PresentationLUTShape")
    if shape and shape != _SHAPES[kind]:
        raise XenonError(
            f"its PresentationLUTShape is {shape}, but its pixels are {kind}, which "
            f"goes with {_SHAPES[kind]}: nothing says for certain what is black"
        )
    return kind == "MONOCHROME1"


def _modality(
    header: Header, values: np.ndarray
) -> tuple[np.ndarray, tuple[float, float]]:
    """Apply PS3.3, C.11.1; give the values, and the least and greatest possible."""
    table = header.table("ModalityLUTSequence")
    if table is not None:
        return table.apply(values), (0, (1 << table.bits) - 1)
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    if slope == 0:
        raise XenonError("its RescaleSlope is 0, which makes all pixels alike")
    values = values * (1 if slope is None else slope) + (intercept or 0)
    return values, (values.min(), values.max())


def _voi(header: Header, values: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Apply PS3.3, C.11.2: 0 is to be black, 1 white; may lie outside.

    Where there are several tables or windows, they are alternatives, and the first is
    taken; so are a table and a window, and the table is taken, which can say more.
    """
    table = header.table("VOILUTSequence")
    if table is not None:
        return table.apply(values) / ((1 << table.bits) - 1)
    window = _centre_and_width(header)
    if window is None:
        return (values - ends[0]) / (ends[1] - ends[0])
    return _window(values, *window, header.text("VOILUTFunction") or "LINEAR")


def _centre_and_width(header: Header) -> tuple[float, float] | None:
    """Give the first window, None where there is none."""
    centre, width = header.number("WindowCenter"), header.number("WindowWidth")
    if centre is None and width is None:
        return None
    if centre is None:
        raise XenonError("it has a WindowWidth but no WindowCenter: it is damaged")
    if width is None:
        raise XenonError("it has a WindowCenter but no WindowWidth: it is damaged")
    return centre, width


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
