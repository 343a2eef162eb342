"""Another input, folded into the first convolution: the same outputs, borders too."""

from __future__ import annotations

import numpy as np
import pytest

from xenon_mx.config import MEAN, STD
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.models import network, weight_input
from xenon_mx.models.weight_input import Layout
from xenon_mx.runtime.mxnet import mx

INPUTS = {"xrv": (2048.0, -1024.0), "half": (2.0, -1.0), "1.7,-0.3": (1.7, -0.3)}


@pytest.mark.parametrize(("value", "expected"), INPUTS.items())
def test_an_input_is_two_numbers(value, expected):
    assert weight_input.parse(value) == expected


@pytest.mark.parametrize("value", [None, "imagenet"])
def test_imagenets_input_is_not_converted(value):
    assert weight_input.parse(value) is None


@pytest.mark.parametrize(
    "value", ["", "zrv", "2", "2,", "2,-1,0", "a,b", "nan,1", "1,inf", "0,1", "XRV"]
)
def test_another_value_is_refused_with_the_choices(value):
    with pytest.raises(
        ConfigError, match=r"imagenet, xrv .*, half .*, or A,B"
    ) as error:
        weight_input.parse(value)
    assert error.value.flag == "--pretrained-input"
    assert repr(value) in str(error.value)


def test_torchxrayvisions_factors_are_those_computed_by_hand():
    factors = weight_input.channel_factors(2048, -1024)
    np.testing.assert_allclose(factors, [421.188, 211.507, -165.482], atol=5e-4)


@pytest.mark.parametrize(("scale", "offset"), INPUTS.values())
def test_factors_solve_both_equations_with_the_smallest_norm(scale, offset):
    factors = weight_input.channel_factors(scale, offset)
    mean, std = np.array(MEAN), np.array(STD)
    assert np.sum(factors / std) == pytest.approx(scale, rel=1e-12)
    assert np.sum(factors * mean / std) == pytest.approx(-offset, rel=1e-12)
    # The other solutions lie along the line that both equations leave.
    line = np.cross(1 / std, mean / std)
    assert abs(factors @ line) < 1e-9 * np.linalg.norm(factors) * np.linalg.norm(line)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("scale", "offset"), INPUTS.values())
def test_a_padded_convolution_gives_the_same_at_borders_too(scale, offset, channels):
    rng = np.random.RandomState(7)
    kernel = rng.normal(size=(4, channels, 7, 7)).astype(np.float32)
    pixels = rng.randint(0, 256, (2, 20, 24)).astype(np.uint8)
    own = (scale * pixels[:, None] / 255 + offset).repeat(channels, axis=1)
    expected = convolved(own, kernel)
    folded = weight_input.fold(kernel, scale, offset)
    assert (folded.shape, folded.dtype) == ((4, 3, 7, 7), np.float32)
    normalised = network.normalise(mx.nd.array(pixels, dtype=np.uint8)).asnumpy()
    difference = np.abs(convolved(normalised, folded) - expected)
    assert difference.max() < 2e-6 * np.abs(expected).max()


def convolved(x, kernel):
    """Convolve with stride 2 after padding by 3 zeros, in float64."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (3, 3), (3, 3)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows[:, :, ::2, ::2], kernel)


XRV = Layout(1, 18, True, False, False)
RADIMAGENET = Layout(3, 0, False, True, True)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (XRV, "xrv"),
        (XRV._replace(has_thresholds=False), "xrv"),
        (XRV._replace(classes=5), "xrv"),
        (RADIMAGENET, "half"),
        (Layout(3, 1000, False, False, False), "imagenet"),
        (Layout(3, 0, False, False, True), "imagenet"),
        (Layout(3, 18, False, False, False), "imagenet"),
    ],
)
def test_known_layouts_are_recognized(tmp_path, layout, expected):
    assert weight_input.choose(tmp_path / "x", None, layout) == expected


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        (Layout(1, 5, False, False, False), "one input channel"),
        (Layout(1, 0, False, False, False), "one input channel"),
        (RADIMAGENET._replace(channels=1), "one input channel"),
        (RADIMAGENET._replace(is_backbone=False), "numbered layers"),
        (RADIMAGENET._replace(classes=1000), "numbered layers"),
    ],
)
def test_an_unknown_layout_needs_a_name(tmp_path, layout, reason):
    with pytest.raises(XenonError) as caught:
        weight_input.choose(tmp_path / "x", None, layout)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'x'}: weights with {reason}, which do not")
    for choice in ("--pretrained-input", "xrv", "half", "A,B"):
        assert choice in message
    assert ("imagenet" in message) == (layout.channels == 3)
    assert weight_input.choose(tmp_path / "x", "half", layout) == "half"


@pytest.mark.parametrize("given", ["imagenet", "half", "2, -1", "2,-0.5"])
def test_a_name_counts_more_than_the_layout(tmp_path, given):
    chosen = weight_input.choose(tmp_path / "x", given, RADIMAGENET)
    assert chosen == {"2, -1": "half"}.get(given, given)


def test_one_channel_cannot_have_imagenets_input(tmp_path):
    with pytest.raises(XenonError, match=r"imagenet needs three input channels.*xrv"):
        weight_input.choose(tmp_path / "x", "imagenet", XRV)


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        (MEAN, STD, "imagenet"),
        ([0.5] * 3, [0.5] * 3, "half"),
        ([0.5], [1 / 2048], "xrv"),
        ([0.25] * 3, [0.125] * 3, "8,-2"),
    ],
)
def test_a_normalisation_is_named_as_the_flag_names_it(mean, std, expected):
    """Of (g - mean) / std, A is 1 / std and B is -mean / std."""
    given = np.array(mean), np.array(std)
    assert weight_input.of_normalisation(*given) == expected


@pytest.mark.parametrize(
    ("mean", "std"),
    [(MEAN, [0.5] * 3), ([0.5] * 3, STD), ([0.5] * 3, [0.0] * 3), ([0.5], [0.5] * 3)],
)
def test_channels_of_different_inputs_have_no_name(mean, std):
    with pytest.raises(ValueError, match="not the same"):
        weight_input.of_normalisation(np.array(mean), np.array(std))
