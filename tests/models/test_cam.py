"""Maps on radiographs: the geometry undone exactly, and colours that tell the truth."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from xenon_mx.data import images
from xenon_mx.models import cam as maps


def random_maps(*shape):
    return np.random.normal(size=shape).astype(np.float32)


def test_maps_of_one_size_are_averaged_cell_by_cell():
    members = [random_maps(3, 10, 10) for _ in range(5)]
    found = maps.average_cams(members)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.mean(members, axis=0), atol=1e-6)


def test_maps_of_other_sizes_keep_their_means():
    members = [random_maps(4, *sides) for sides in ((10, 10), (19, 20), (7, 3))]
    found = maps.average_cams(members)
    assert found.shape == (4, 19, 20)
    means = np.mean([each.mean(axis=(1, 2)) for each in members], axis=0)
    np.testing.assert_allclose(found.mean(axis=(1, 2)), means, atol=1e-6)


def test_a_map_twice_as_fine_has_every_cell_four_times():
    cam = random_maps(1, 3, 5)
    found = maps.average_cams([cam, np.zeros((1, 6, 10), np.float32)])
    np.testing.assert_allclose(2 * found[0], np.kron(cam[0], np.ones((2, 2))), 1e-6)


def test_a_cell_that_straddles_two_is_shared_by_area():
    cam = np.array([[[1.0, 4.0]]], np.float32)
    found = maps.average_cams([cam, np.zeros((1, 1, 3), np.float32)])
    np.testing.assert_allclose(2 * found[0, 0], [1.0, 2.5, 4.0], rtol=1e-6)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("shape", [(300, 500), (500, 300), (101, 67), (320, 320)])
def test_a_dot_is_found_where_it_was(shape, fit):
    """A map as fine as the square, made of the scaled radiograph itself."""
    at = shape[0] // 3, 3 * shape[1] // 4
    radiograph = np.zeros(shape, np.uint8)
    cv2.circle(radiograph, at[::-1], 12, 255, -1)
    radiograph = cv2.GaussianBlur(radiograph, (0, 0), 6)
    square = images.fit_square(radiograph, 320, fit).astype(np.float32)
    over = maps.resize_to_radiograph(square, shape, 320, fit, (0, 320))
    assert over.shape == shape
    found = np.unravel_index(over.argmax(), shape)
    assert np.abs(np.subtract(found, at)).max() <= 3
    assert np.abs(over - radiograph).max() < 12


# An odd number of the film's pixels a cell, so that one of them is in its middle. Of
# ten cells over 110 px, an image half as high as wide fills those from 27 px to 82 px.
@pytest.mark.parametrize(
    ("fit", "shape", "middles", "filled"),
    [
        ("stretch", (330, 550), np.s_[16::33, 27::55], np.s_[:, :]),
        ("pad", (165, 330), np.s_[1::33, 16::33], np.s_[2:7, :]),
        ("pad", (330, 165), np.s_[16::33, 1::33], np.s_[:, 2:7]),
    ],
)
def test_the_middle_of_a_cell_has_its_value(fit, shape, middles, filled):
    cam = random_maps(10, 10)
    over = maps.resize_to_radiograph(cam, shape, 110, fit, (0, 110))
    assert over.shape == shape
    np.testing.assert_allclose(over[middles], cam[filled], atol=1e-5)


def test_what_lies_on_the_padding_is_cut_off():
    cam = np.full((10, 10), -1, np.float32)
    cam[:, 5:] = 1
    cam[:2] = cam[-2:] = 1000  # an image twice as wide as high: 2.5 cells of padding
    over = maps.resize_to_radiograph(cam, (200, 400), 320, "pad", (0, 320))
    assert over.max() <= 1000 / 2 + 1  # half way from the last cell of the padding
    assert over[50:-50].min() == -1
    assert over[50:-50].max() == 1
    assert np.all(over[50:-50, :179] == -1)
    assert np.all(over[50:-50, 221:] == 1)


@pytest.mark.parametrize("shape", [(512, 400), (333, 1000), (64, 48)])
def test_a_map_over_the_whole_square_is_resized_as_opencv_does(shape):
    cam = random_maps(10, 12)
    over = maps.resize_to_radiograph(cam, shape, 320, "stretch", (0, 320))
    expected = cv2.resize(cam, shape[::-1], interpolation=cv2.INTER_LINEAR)
    assert over.dtype == np.float32
    np.testing.assert_allclose(over, expected, atol=1e-4)


def test_a_map_that_lies_off_the_square_is_drawn_where_it_lies():
    """A ResNet's at 320 px: its cells look at every 32nd pixel, from the first on."""
    cam = random_maps(10, 10)
    over = maps.resize_to_radiograph(cam, (320, 320), 320, "stretch", (-15.5, 304.5))
    np.testing.assert_allclose(over[::32, ::32], cam, atol=1e-5)
    np.testing.assert_allclose(over[288:], np.tile(over[-1], (32, 1)), atol=1e-5)


def test_where_the_map_is_zero_the_film_is_left_alone():
    film = np.random.randint(0, 256, (40, 30)).astype(np.uint8)
    cam = np.zeros((40, 30), np.float32)
    for most in (0.0, 5.0):
        cam[0, 0] = most
        drawn = maps.draw_overlay(film, cam)
        assert drawn.dtype == np.uint8
        assert np.array_equal(drawn[1:], np.repeat(film[1:, :, None], 3, axis=2))


def test_above_zero_is_vermilion_and_below_is_blue():
    film = np.full((1, 3), 128, np.uint8)
    blue, _, red = maps.draw_overlay(film, np.array([[2.0, 0.0, -2.0]], np.float32))[
        0
    ].T
    assert red[0] > 128 > blue[0]
    assert red[1] == blue[1] == 128
    assert blue[2] > 128 > red[2]


def test_a_stronger_value_has_a_stronger_tint():
    film = np.full((1, 101), 128, np.uint8)
    cam = np.linspace(-1, 1, 101, dtype=np.float32)[None]
    drawn = maps.draw_overlay(film, cam)[0].astype(int)
    difference = np.abs(drawn - 128).sum(axis=1)
    assert np.all(np.diff(difference[:51]) <= 0)
    assert np.all(np.diff(difference[50:]) >= 0)


def test_the_tint_is_relative_to_the_image_and_the_sign_is_not():
    film = np.random.randint(0, 256, (40, 30)).astype(np.uint8)
    cam = random_maps(40, 30)
    assert np.array_equal(
        maps.draw_overlay(film, cam), maps.draw_overlay(film, 1000 * cam)
    )
    assert not np.array_equal(
        maps.draw_overlay(film, cam), maps.draw_overlay(film, -cam)
    )


def test_the_bone_shows_through_the_strongest_tint():
    film = np.arange(0, 256, dtype=np.uint8)[None]
    for value in (-1.0, 1.0):
        drawn = maps.draw_overlay(film, np.full((1, 256), value, np.float32))[0].astype(
            int
        )
        assert np.all(np.diff(drawn, axis=0) >= 0)
        assert np.all(drawn[-1] - drawn[0] >= 100)


@pytest.mark.parametrize(
    ("shape", "said"), [((5, 5), ""), ((10, 4), "maps of 10x4 cells are too coarse")]
)
def test_maps_of_few_cells_are_not_to_be_trusted(shape, said):
    assert maps.coarseness_warning(shape).startswith(said)
    assert bool(maps.coarseness_warning(shape)) == bool(said)
