"""A film with nothing to see is refused, a dark or a bright one is not."""

from __future__ import annotations

import numpy as np
import pytest
from support import image_files as files

from xenon_mx.errors import XenonError
from xenon_mx.formats import visibility

FILM = files.drawing(200, 160) * 255


def plate(low: int, high: int) -> np.ndarray:
    return np.random.randint(low, high + 1, (200, 160)).astype(np.uint8)


BLANK = {
    "all black": plate(0, 0),
    "all white": plate(255, 255),
    "0 to 4": plate(0, 4),
    "12 bits in 16": plate(0, 16),
    "nearly white": plate(245, 255),
    "a middle gray": plate(120, 136),
}


@pytest.mark.parametrize("name", BLANK)
def test_nothing_to_see_is_refused_whatever_lies_on_it(name):
    blank = BLANK[name]
    dead_pixel, marker, border = blank.copy(), blank.copy(), blank.copy()
    dead_pixel[100, 80] = 255 - blank[100, 80]
    marker[20:40, 20:50] = 255
    border[:8] = border[-8:] = 255
    border[:, :6] = border[:, -6:] = 0
    for gray in (blank, dead_pixel, marker, border):
        with pytest.raises(XenonError, match="nothing to see"):
            visibility.check(gray)


def test_black_and_white_alone_are_refused():
    gray = np.where(np.random.rand(200, 160) < 0.5, 0, 255).astype(np.uint8)
    with pytest.raises(XenonError, match="black or white, without grays"):
        visibility.check(gray)


@pytest.mark.parametrize(
    "gray",
    [
        FILM,
        FILM * 0.15,  # dark
        255 - FILM * 0.15,  # bright
        np.where(FILM > 150, FILM, 0),  # mostly black
        np.pad(FILM, 600),  # a finger on a shuttered plate
        np.full((4, 5), 50),  # one gray that no misreading gives
    ],
)
def test_a_dark_a_bright_and_a_mostly_black_film_pass(gray):
    visibility.check(np.asarray(gray).astype(np.uint8))
