"""Numbers of a DICOM header that are too large, too small, or do not fit the pixels."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import pydicom
import pytest
from support.dicom_files import gray, noise, refusal, saved, table, written

from xenon_mx.data import images


@pytest.fixture(autouse=True)
def _no_warnings():
    """Make NumPy's warnings errors, since they would reach the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def window(center: float, width: float, function: str = "LINEAR") -> dict[str, Any]:
    """Return the elements of a window."""
    return {
        "WindowCenter": center,
        "WindowWidth": width,
        "VOILUTFunction": function,
    }


# --- overflow ---

FUNCTIONS = ["LINEAR", "LINEAR_EXACT", "SIGMOID"]


@pytest.mark.parametrize(
    ("slope", "intercept"),
    [
        (1, "1e300"),  # the differences of the pixels are lost
        (1, "-1e17"),
        (1, "1e16"),  # every second one is lost
        ("1e-20", 1),
        ("1e308", 0),  # more than 64 bits can hold
        ("-1e308", 0),
        ("1e306", "-1e308"),
        ("1e305", "1.79e308"),
    ],
)
@pytest.mark.parametrize("elements", [{}, window(2048, 4096)])
@pytest.mark.parametrize("signed", [False, True])
def test_a_rescale_that_loses_the_pixels_is_rejected(
    slope, intercept, elements, signed
):
    message = refusal(
        written(
            noise(12, signed),
            12,
            RescaleSlope=slope,
            RescaleIntercept=intercept,
            **elements,
        )
    )
    assert f"its RescaleSlope {float(slope):g} and RescaleIntercept" in message
    assert f"{float(intercept):g} leave nothing of its pixels" in message


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("center", "width"), [("1e308", 4096), ("-1e308", 4096), ("1e17", "1e17")]
)
def test_a_window_that_loses_the_pixels_is_rejected(center, width, function):
    message = refusal(written(noise(12), 12, **window(center, width, function)))
    told = f"WindowCenter {float(center):g} and WindowWidth {float(width):g} leave"
    assert f"its {told} nothing of its pixels" in message


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_a_width_that_divides_to_infinity_is_rejected(function):
    message = refusal(written(noise(12), 12, **window(2048, "1e-306", function)))
    assert "WindowWidth 1e-306 leave nothing of its pixels" in message


@pytest.mark.parametrize("number", ["1e999", "-1e999", "nan", "inf"])
@pytest.mark.parametrize(
    "keyword", ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"]
)
def test_a_number_that_is_not_finite_is_rejected(keyword, number):
    elements = {**window(2048, 4096), "RescaleSlope": "1", "RescaleIntercept": "0"}
    elements[keyword] = "12345.6"
    data = written(noise(12), 12, **elements)
    assert data.count(b"12345.6 ") == 1
    data = data.replace(b"12345.6 ", number.encode().ljust(8))
    assert keyword in refusal(data)


@pytest.mark.parametrize("scale", ["1e-30", "1e-6", "1", "1e6", "1e30", "1e290"])
@pytest.mark.parametrize("function", [*FUNCTIONS, None])
def test_numbers_of_any_scale_are_read_if_they_fit_each_other(scale, function):
    """The gray depends on the ratios alone, so that it is that of a scale of 1."""
    factor = float(scale)
    pixels = noise(12)

    def elements(factor: float) -> dict[str, Any]:
        # 16 characters at most; LINEAR is not homogeneous: its width is in steps of 1.
        given = {"RescaleSlope": factor, "RescaleIntercept": -100 * factor}
        if function:
            given.update(window(2000 * factor, 3000 * factor, function))
        return {
            key: f"{value:.9g}" if isinstance(value, float) else value
            for key, value in given.items()
        }

    if function == "LINEAR" and factor < 1:
        assert "WindowWidth" in refusal(written(pixels, 12, **elements(factor)))
        return
    actual = images.decode(written(pixels, 12, **elements(factor))).astype(int)
    expected = images.decode(written(pixels, 12, **elements(1.0)))
    assert np.abs(actual - expected).max() <= (function == "LINEAR")


def test_a_large_intercept_that_keeps_every_step_is_read():
    pixels = noise(12)
    actual = images.decode(
        written(
            pixels,
            12,
            RescaleSlope=1,
            RescaleIntercept=10**9,
            **window(10**9 + 2048, 4096, "LINEAR_EXACT"),
        )
    )
    assert np.array_equal(actual, gray(pixels / 4096))


# --- windows that show nothing ---


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("center", "width"),
    [(9000, 50), (-700, 100), (0, 1e6), (2048, 1e9), (2048, 1e300), (2048, 70000)],
)
@pytest.mark.parametrize("border", [0, 20])
def test_a_window_that_misses_the_values_is_rejected(
    center, width, kind, function, border
):
    """A wide one makes a film evenly gray, which a border of padding would hide."""
    pixels = noise(12, shape=(60, 60))
    pixels[:border] = 4095
    message = refusal(
        written(
            pixels,
            12,
            PhotometricInterpretation=kind,
            PixelPaddingValue=4095,
            **window(center, width, function),
        )
    )
    assert "nothing to see" in message
    assert f"by its WindowCenter {center:g} and WindowWidth {width:g}" in message


@pytest.mark.parametrize(("center", "width"), [(2048, 1), (2048, 1.5)])
def test_a_window_narrower_than_a_step_is_rejected(center, width):
    """A width of 1 is legal, and leaves black and white of 4,096 values."""
    message = refusal(written(noise(12), 12, **window(center, width)))
    assert "nothing to see: its pixels are black or white" in message


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"VOILUTSequence": [table(30000, range(4096), 12)]}, "by its VOI table"),
        (
            {"ModalityLUTSequence": [table(30000, range(4096), 12)]},
            "by its modality table without a window",
        ),
        ({"BitsStored": 16, "HighBit": 15}, "by the range of its 16 bits without"),
    ],
)
def test_what_shows_nothing_is_named(elements, reason):
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        pixels = noise(12)
        data = written(pixels, 12, PhotometricInterpretation=kind, **elements)
        assert "nothing to see" in refusal(data)
        assert reason in refusal(data)


def test_twelve_bits_in_sixteen_are_found_beside_padding_when_inverted():
    """Padding is black in MONOCHROME1, too, where such a film is white."""
    pixels = noise(12, shape=(60, 60))
    pixels[:20] = 65535
    kind = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 65535}
    assert "nothing to see" in refusal(written(pixels, 16, **kind))


def test_a_blank_gray_image_is_read():
    """With one stored value, no window can have made it so."""
    blank = np.full((40, 50), 100, np.uint8)
    assert np.array_equal(images.decode(written(blank)), blank)


def test_an_overlay_bit_beyond_the_words_of_the_pixels_is_ignored():
    pixels = noise(7)
    dataset = pydicom.dcmread(io.BytesIO(written(pixels, 7)))
    dataset.add_new((0x6000, 0x0102), "US", 13)
    expected = gray(pixels / 127)
    assert np.array_equal(images.decode(saved(dataset)), expected)
