"""BMP: palettes and colours of the usual layouts; the rest is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from support import image_files as files

from xenon_mx.errors import XenonError
from xenon_mx.formats import bmp

FILM = files.samples(files.drawing(), 8)
GRAYS = bytes(value for gray in range(256) for value in (gray, gray, gray, 0))


@pytest.mark.parametrize("header", [12, 40, 52, 56, 108, 124])
@pytest.mark.parametrize("top_down", [False, True])
def test_rows_are_in_order_after_every_header(header, top_down):
    top_down = top_down and header != 12
    data = files.bmp(FILM, 8, GRAYS, header=header, top_down=top_down)
    assert np.array_equal(bmp.decode(data), FILM[..., 0])


@pytest.mark.parametrize("bits", [24, 32])
def test_colours_are_blue_green_red(bits):
    colours = np.zeros((2, 3, bits // 8), np.uint8)
    colours[:, 0, 0] = colours[:, 1, 1] = colours[:, 2, 2] = 255
    assert bmp.decode(files.bmp(colours, bits)).tolist() == [[29, 150, 76]] * 2


_COLOURS = files.bmp(np.full((9, 8, 3), 50, np.uint8), 24)
WITHIN_HEADER = _COLOURS[:10] + bytes(4) + _COLOURS[14:]  # where the pixels begin


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (files.bmp(FILM, 8, GRAYS, compression=1), "8 bits with compression 1"),
        (files.bmp(FILM, 8, GRAYS)[:-1], "cut short"),
        (files.bmp(FILM, 8, GRAYS)[:30], "cut short"),
        (files.bmp(FILM, 8, GRAYS[:80]), "without a colour in its palette"),
        (files.bmp(FILM, 8, GRAYS, header=44), "a header of 44 bytes"),
        (WITHIN_HEADER, "begin within its header"),
        (files.bmp(np.zeros((4, 0, 3), np.uint8), 24), "0 x 4 pixels"),
        (
            files.bmp(np.zeros((4, 4, 4), np.uint8), 32, compression=3)
            + struct.pack("<3I", 1, 2, 4),
            "32 bits with compression 3",
        ),
    ],
)
def test_other_layouts_and_damage_are_refused(data, reason):
    with pytest.raises(XenonError, match=reason):
        bmp.decode(data)
