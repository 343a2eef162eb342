"""Averaging and resampling of class activation maps."""

from __future__ import annotations

import numpy as np

from xenon_mx.models import cam_average


def random_maps(*shape):
    return np.random.normal(size=shape).astype(np.float32)


def test_maps_of_one_size_are_averaged_cell_by_cell():
    members = [random_maps(3, 10, 10) for _ in range(5)]
    average = cam_average.average_cams(members)
    assert average.dtype == np.float32
    np.testing.assert_allclose(average, np.mean(members, axis=0), atol=1e-6)


def test_maps_of_other_sizes_keep_their_means():
    members = [random_maps(4, *sides) for sides in ((10, 10), (19, 20), (7, 3))]
    average = cam_average.average_cams(members)
    assert average.shape == (4, 19, 20)
    means = np.mean([maps.mean(axis=(1, 2)) for maps in members], axis=0)
    np.testing.assert_allclose(average.mean(axis=(1, 2)), means, atol=1e-6)


def test_a_map_twice_as_fine_has_every_cell_four_times():
    maps = random_maps(1, 3, 5)
    average = cam_average.average_cams([maps, np.zeros((1, 6, 10), np.float32)])
    np.testing.assert_allclose(2 * average[0], np.kron(maps[0], np.ones((2, 2))), 1e-6)


def test_a_cell_that_straddles_two_is_shared_by_area():
    maps = np.array([[[1.0, 4.0]]], np.float32)
    average = cam_average.average_cams([maps, np.zeros((1, 1, 3), np.float32)])
    np.testing.assert_allclose(2 * average[0, 0], [1.0, 2.5, 4.0], rtol=1e-6)
