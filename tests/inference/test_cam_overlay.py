"""Overlays: maps resized to their radiographs, and the colours of a map's values."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from xenon_mx.data import images
from xenon_mx.inference import cam_overlay


def random_maps(*shape):
    return np.random.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("shape", [(300, 500), (500, 300), (101, 67), (320, 320)])
def test_a_dot_stays_where_it_was(shape, fit):
    """The map is the square image itself, one cell per pixel."""
    at = shape[0] // 3, 3 * shape[1] // 4
    radiograph = np.zeros(shape, np.uint8)
    cv2.circle(radiograph, at[::-1], 12, 255, -1)
    radiograph = cv2.GaussianBlur(radiograph, (0, 0), 6)
    square = images.fit_square(radiograph, 320, fit).astype(np.float32)
    resized = cam_overlay.resize_to_radiograph(square, shape, 320, fit, (0, 320))
    assert resized.shape == shape
    peak = np.unravel_index(resized.argmax(), shape)
    assert np.abs(np.subtract(peak, at)).max() <= 3
    assert np.abs(resized - radiograph).max() < 12


# An odd number of the radiograph's pixels per cell, so that one is in its centre.
# Of ten cells over 110 px, an image half as high as wide fills those from 27 to 82 px.
@pytest.mark.parametrize(
    ("fit", "shape", "centres", "filled"),
    [
        ("stretch", (330, 550), np.s_[16::33, 27::55], np.s_[:, :]),
        ("pad", (165, 330), np.s_[1::33, 16::33], np.s_[2:7, :]),
        ("pad", (330, 165), np.s_[16::33, 1::33], np.s_[:, 2:7]),
    ],
)
def test_the_centre_of_a_cell_has_its_value(fit, shape, centres, filled):
    cam = random_maps(10, 10)
    resized = cam_overlay.resize_to_radiograph(cam, shape, 110, fit, (0, 110))
    assert resized.shape == shape
    np.testing.assert_allclose(resized[centres], cam[filled], atol=1e-5)


def test_the_padding_is_cut_off():
    cam = np.full((10, 10), -1, np.float32)
    cam[:, 5:] = 1
    cam[:2] = cam[-2:] = 1000  # an image twice as wide as high: 2.5 cells of padding
    resized = cam_overlay.resize_to_radiograph(cam, (200, 400), 320, "pad", (0, 320))
    assert resized.max() <= 1000 / 2 + 1  # half way from the last cell of the padding
    assert resized[50:-50].min() == -1
    assert resized[50:-50].max() == 1
    assert np.all(resized[50:-50, :179] == -1)
    assert np.all(resized[50:-50, 221:] == 1)


@pytest.mark.parametrize("shape", [(512, 400), (333, 1000), (64, 48)])
def test_a_map_over_the_whole_square_is_resized_as_opencv_does(shape):
    cam = random_maps(10, 12)
    resized = cam_overlay.resize_to_radiograph(cam, shape, 320, "stretch", (0, 320))
    expected = cv2.resize(cam, shape[::-1], interpolation=cv2.INTER_LINEAR)
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, expected, atol=1e-4)


def test_a_map_that_lies_off_the_square_is_overlay_where_it_lies():
    """As a ResNet's at 320 px, whose cells are centred on every 32nd pixel from 0."""
    cam = random_maps(10, 10)
    resized = cam_overlay.resize_to_radiograph(
        cam, (320, 320), 320, "stretch", (-15.5, 304.5)
    )
    np.testing.assert_allclose(resized[::32, ::32], cam, atol=1e-5)
    np.testing.assert_allclose(resized[288:], np.tile(resized[-1], (32, 1)), atol=1e-5)


def test_where_the_map_is_zero_the_radiograph_is_unchanged():
    radiograph = np.random.randint(0, 256, (40, 30)).astype(np.uint8)
    cam = np.zeros((40, 30), np.float32)
    for largest in (0.0, 5.0):
        cam[0, 0] = largest
        overlay = cam_overlay.draw_overlay(radiograph, cam)
        assert overlay.dtype == np.uint8
        assert np.array_equal(overlay[1:], np.repeat(radiograph[1:, :, None], 3, 2))


def test_above_zero_is_vermilion_and_below_is_blue():
    gray = np.full((1, 3), 128, np.uint8)
    cam = np.array([[2.0, 0.0, -2.0]], np.float32)
    blue, _, red = cam_overlay.draw_overlay(gray, cam)[0].T
    assert red[0] > 128 > blue[0]
    assert red[1] == blue[1] == 128
    assert blue[2] > 128 > red[2]


def test_a_stronger_value_has_a_stronger_tint():
    radiograph = np.full((1, 101), 128, np.uint8)
    cam = np.linspace(-1, 1, 101, dtype=np.float32)[None]
    overlay = cam_overlay.draw_overlay(radiograph, cam)[0].astype(int)
    difference = np.abs(overlay - 128).sum(axis=1)
    assert np.all(np.diff(difference[:51]) <= 0)
    assert np.all(np.diff(difference[50:]) >= 0)


def test_the_tint_is_relative_to_the_image_and_the_sign_is_not():
    radiograph = np.random.randint(0, 256, (40, 30)).astype(np.uint8)
    cam = random_maps(40, 30)
    assert np.array_equal(
        cam_overlay.draw_overlay(radiograph, cam),
        cam_overlay.draw_overlay(radiograph, 1000 * cam),
    )
    assert not np.array_equal(
        cam_overlay.draw_overlay(radiograph, cam),
        cam_overlay.draw_overlay(radiograph, -cam),
    )


def test_the_bone_shows_through_the_strongest_tint():
    gray = np.arange(0, 256, dtype=np.uint8)[None]
    for value in (-1.0, 1.0):
        cam = np.full((1, 256), value, np.float32)
        overlay = cam_overlay.draw_overlay(gray, cam)[0].astype(int)
        assert np.all(np.diff(overlay, axis=0) >= 0)
        assert np.all(overlay[-1] - overlay[0] >= 100)


@pytest.mark.parametrize(
    ("shape", "warning"), [((5, 5), ""), ((10, 4), "maps of 10x4 cells are too coarse")]
)
def test_maps_of_few_cells_are_not_to_be_trusted(shape, warning):
    assert cam_overlay.coarseness_warning(shape).startswith(warning)
    assert bool(cam_overlay.coarseness_warning(shape)) == bool(warning)
