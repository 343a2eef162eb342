"""The mapping of a DICOM image's stored values to the gray that a viewer would show.

Owns the grayscale pipeline of PS3.3, C.11 and C.7.6.3.1.2: modality table or rescale,
first VOI table or else first window, scaling to 8 bits, inversion of MONOCHROME1, black
padding. The result depends on the stored value alone, so it is a lookup table of the
2^B values of B stored bits. Must not know pixels.
"""

from __future__ import annotations

import numpy as np

from xenon_mx.dicom.headers import Header, quoted
from xenon_mx.errors import XenonError

# PresentationLUTShape by PhotometricInterpretation (PS3.3, C.7.6.1 and C.8.11.3).
_LUT_SHAPES = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}


def _bits(header: Header) -> int:
    """Return BitsStored; reject bit layouts that DICOM has retired."""
    allocated, bits = header.integer("BitsAllocated"), header.integer("BitsStored")
    high = header.integer("HighBit", absent=bits - 1)
    if allocated not in (8, 16) or not 1 <= bits <= allocated or high != bits - 1:
        raise XenonError(
            f"its BitsStored is {bits}, HighBit {high} and BitsAllocated {allocated}; "
            f"expected the lowest bits of 8 or 16"
        )
    return bits


def gray_lookup_table(header: Header) -> np.ndarray:
    """Return the gray of every bit pattern: (2 ** BitsStored,) uint8, 0 black."""
    with np.errstate(all="ignore"):  # what overflows is refused by name below
        intensity = _apply_voi(header, *_apply_modality(header, _values(header)))
    gray = np.rint(255 * np.clip(intensity, 0, 1)).astype(np.uint8)
    if _is_inverted(header):
        gray = 255 - gray
    gray[padding_patterns(header)] = 0
    return gray


def is_padding(header: Header, values: np.ndarray) -> np.ndarray:
    """Return which values are padding: bool, of the same shape.

    Padding may lie beyond the range of BitsStored, such as 65535 beside 12 bits.
    """
    signed = is_signed(header)
    value = header.word("PixelPaddingValue", signed)
    if value is None:
        return np.zeros(values.shape, np.bool_)
    limit = header.word("PixelPaddingRangeLimit", signed)
    low, high = sorted((value, value if limit is None else limit))
    return (low <= values) & (values <= high)


def padding_patterns(header: Header) -> np.ndarray:
    """Return which bit patterns are padding: (2 ** BitsStored,) bool."""
    return is_padding(header, _values(header))


def source(header: Header) -> str:
    """Return in words what sets the range of values that is displayed."""
    if header.value("VOILUTSequence"):
        return "its VOI table"
    window = _center_and_width(header)
    if window is not None:
        return f"its WindowCenter {window[0]:g} and WindowWidth {window[1]:g}"
    if header.value("ModalityLUTSequence"):
        return "its modality table without a window"
    return f"the range of its {_bits(header)} bits without a window"


def is_signed(header: Header) -> bool:
    """Return whether the stored values are two's complement."""
    sign = header.integer("PixelRepresentation")
    if sign not in (0, 1):
        raise XenonError(
            f"its PixelRepresentation is {sign}; expected 0 (unsigned) or 1 (signed)"
        )
    return sign == 1


def _values(header: Header) -> np.ndarray:
    """Return the stored value of every bit pattern: (2 ** BitsStored,) float64."""
    bits = _bits(header)
    values = np.arange(1 << bits, dtype=np.float64)
    if is_signed(header):
        values[1 << (bits - 1) :] -= 1 << bits
    return values


def _is_inverted(header: Header) -> bool:
    """Return whether the lowest value is white; reject a contradictory file."""
    photometric = header.text("PhotometricInterpretation")
    shape = header.text("PresentationLUTShape")
    if shape and shape != _LUT_SHAPES[photometric]:
        raise XenonError(
            f"its PresentationLUTShape is {quoted(shape)}, but its pixels are "
            f"{photometric}, which requires {_LUT_SHAPES[photometric]}: it is "
            f"ambiguous what is black"
        )
    return photometric == "MONOCHROME1"


def _apply_modality(
    header: Header, values: np.ndarray
) -> tuple[np.ndarray, tuple[float, float]]:
    """Apply PS3.3, C.11.1; return the values, and the lowest and highest possible."""
    table = header.table("ModalityLUTSequence")
    if table is not None:
        return table.apply(values), (0, (1 << table.bits) - 1)
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    if slope == 0:
        raise XenonError("its RescaleSlope is 0, which makes all pixels equal")
    slope, intercept = _completed(slope, intercept)
    rescaled = values * slope + intercept
    low, high = rescaled.min(), rescaled.max()
    if not (np.isfinite(high - low) and _has_steps(rescaled, values, slope)):
        raise XenonError(
            f"its RescaleSlope {slope:g} and RescaleIntercept {intercept:g} leave "
            f"nothing of its pixels: they are too large, or too far from each other"
        )
    return rescaled, (low, high)


def _completed(slope: float | None, intercept: float | None) -> tuple[float, float]:
    """Return a slope and an intercept, of which one may be absent if the other is idle.

    Of a half rescale that is not, dcmtk and pydicom use nothing, Cornerstone the half.
    """
    if slope is None and intercept not in (None, 0):
        raise XenonError("it has a RescaleIntercept but no RescaleSlope: it is damaged")
    if intercept is None and slope not in (None, 1):
        raise XenonError("it has a RescaleSlope but no RescaleIntercept: it is damaged")
    return 1 if slope is None else slope, intercept or 0


def _has_steps(result: np.ndarray, values: np.ndarray, slope: float) -> bool:
    """Return whether a linear function of values has kept their differences.

    In floating point, a large offset swallows them. Real offsets lose 1e-10 of a step;
    a 256th of one would not be seen in 8 bits.
    """
    steps = np.diff(values) * slope
    return bool(np.allclose(np.diff(result), steps, rtol=1 / 256, atol=0))


def _apply_voi(
    header: Header, values: np.ndarray, limits: tuple[float, float]
) -> np.ndarray:
    """Apply PS3.3, C.11.2; return intensities: 0 black, 1 white, possibly beyond.

    Several tables or windows are alternatives, of which the first is used. A table and
    a window are alternatives, too; the table is used, since it is more general.
    """
    table = header.table("VOILUTSequence")
    if table is not None:
        return table.apply(values) / ((1 << table.bits) - 1)
    window = _center_and_width(header)
    if window is None:
        return (values - limits[0]) / (limits[1] - limits[0])
    return _apply_window(values, *window, header.text("VOILUTFunction") or "LINEAR")


def _center_and_width(header: Header) -> tuple[float, float] | None:
    """Return the first window, None if there is none."""
    center, width = header.number("WindowCenter"), header.number("WindowWidth")
    if center is None and width is None:
        return None
    if center is None:
        raise XenonError("it has a WindowWidth but no WindowCenter: it is damaged")
    if width is None:
        raise XenonError("it has a WindowCenter but no WindowWidth: it is damaged")
    return center, width


def _apply_window(
    values: np.ndarray, center: float, width: float, function: str
) -> np.ndarray:
    """Apply a window with one of the three functions of PS3.3, C.11.2.1.2 and .3."""
    is_invalid = width < 1 if function == "LINEAR" else width <= 0
    if is_invalid:
        raise XenonError(
            f"its WindowWidth is {width:g}, which is invalid for a {quoted(function)} "
            f"window"
        )
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise XenonError(
            f"its VOILUTFunction is {quoted(function)}; expected LINEAR, LINEAR_EXACT "
            f"or SIGMOID"
        )
    middle, span = center, width
    if function == "LINEAR":
        middle, span = center - 0.5, width - 1
        if span == 0:
            return (values > middle).astype(np.float64)
    offsets = values - middle
    intensity = offsets / span
    if not (_has_steps(offsets, values, 1) and np.isfinite(intensity).all()):
        raise XenonError(
            f"its WindowCenter {center:g} and WindowWidth {width:g} leave nothing of "
            f"its pixels: they are too large or too small for their values"
        )
    if function == "SIGMOID":
        # Beyond 700 the exponential would overflow; the result is 0 or 1 well before.
        return 1 / (1 + np.exp(np.clip(-4 * intensity, -700, 700)))
    return intensity + 0.5
