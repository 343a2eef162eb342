"""The colour key: the colours of the overlays, and words that fit into it."""

from __future__ import annotations

import numpy as np

from xenon_mx.inference import cam_key, cam_overlay


def test_the_strip_has_the_colours_of_an_overlay():
    strip = cam_key.draw_strip(201, 3)
    assert strip.shape == (3, 201, 3)
    for column, value in ((0, -1), (50, -0.5), (100, 0), (150, 0.5), (200, 1)):
        for row, gray in enumerate((0, 127, 255)):
            # A second pixel has the largest value, to which the first is relative.
            radiograph = np.full((1, 2), gray, np.uint8)
            cam = np.array([[value, 1]], np.float32)
            overlay = cam_overlay.draw_overlay(radiograph, cam)
            assert np.array_equal(strip[row, column], overlay[0, 0]), (row, column)


def test_no_word_of_the_key_is_cut_off():
    key = cam_key.draw_key().astype(int)
    assert key.max() == 255
    margin = 20
    inside = key[4:-4, margin:-margin].sum()
    assert key.sum() == inside


def test_blue_is_left_and_vermilion_right():
    key = cam_key.draw_key().astype(int)
    left, right = key[60, 40], key[60, -40]  # blue, green, red
    assert left[0] > left[2]
    assert right[2] > right[0]
