"""PNG: colours become luma whatever the file says of its gamma."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from support import image_files as files
from support.image_kinds import exif, turned

from xenon_mx.errors import XenonError
from xenon_mx.formats import png

COLOURS = np.array(
    [
        [
            [255, 0, 0],
            [0, 255, 0],
            [0, 0, 255],
            [100] * 3,
            [200, 150, 100],
            [255, 255, 0],
        ]
    ],
    np.uint8,
)
LUMA = [[76, 150, 29, 100, 159, 226]]  # .299 R + .587 G + .114 B


@pytest.mark.parametrize(
    "chunk",
    [
        b"",
        files.chunk(b"sRGB", b"\0"),
        files.chunk(b"gAMA", (45455).to_bytes(4, "big")),
        files.chunk(b"gAMA", (220000).to_bytes(4, "big")),
        files.chunk(b"iCCP", b"odd\0\0nothing"),
        files.chunk(b"sBIT", b"\5\6\5"),
        files.chunk(b"tRNS", b"\0\xff\0\0\0\0"),
    ],
)
def test_luma_does_not_depend_on_other_chunks(chunk, capfd):
    data = files.png(COLOURS, 8, 2, before=[chunk] if chunk else [])
    assert png.decode(data).tolist() == LUMA
    assert capfd.readouterr() == ("", "")  # libpng warns of some of these profiles


def test_luma_of_colours_palettes_and_16_bits_is_the_same():
    indices = np.arange(6, dtype=np.uint8).reshape(1, 6, 1)
    palette = files.png(indices, 8, 3, palette=COLOURS.tobytes())
    deep = files.png(COLOURS * np.uint16(257), 16, 2)
    assert png.decode(palette).tolist() == png.decode(deep).tolist() == LUMA


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_every_index_of_a_palette_has_its_colour(bits):
    count = 1 << bits
    indices = np.arange(count, dtype=np.uint8).reshape(1, count, 1)
    palette = np.repeat(np.arange(count)[::-1], 3).astype(np.uint8)
    data = files.png(indices, bits, 3, palette=palette.tobytes())
    assert png.decode(data).tolist() == [list(range(count))[::-1]]
    data = files.png(indices, bits, 3, palette=palette.tobytes()[:-3])
    with pytest.raises(XenonError, match="without a colour in its palette"):
        png.decode(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied(orientation):
    samples = files.samples(files.drawing(), 8)
    content = exif(orientation, random.Random(orientation))
    data = files.png(samples, 8, 0, before=[files.chunk(b"eXIf", content)])
    expected = turned(samples[..., 0], orientation)
    assert np.array_equal(png.decode(data), expected)


def changed(kind: bytes, content: bytes) -> bytes:
    """A PNG with one chunk replaced."""
    data = files.png(COLOURS, 8, 2)
    start = data.index(kind) - 4
    length = int.from_bytes(data[start : start + 4], "big")
    return data[:start] + content + data[start + 12 + length :]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (files.png(COLOURS, 8, 2)[:-1], "cut short"),
        (changed(b"IEND", b""), "cut short"),
        (changed(b"IDAT", b""), "have another size"),
        (
            changed(b"IDAT", files.chunk(b"IDAT", b"\x78\x9c\x03\0\0\0\0\1")),
            "a damaged PNG",
        ),
        (changed(b"IHDR", files.chunk(b"IHDR", bytes(13))), "0 x 0 pixels"),
        (changed(b"IEND", files.chunk(b"acTL", bytes(8))), "an animated PNG"),
        (changed(b"IEND", files.chunk(b"CgBI", bytes(4))), "a chunk 'CgBI'"),
        (changed(b"IEND", files.chunk(b"IEND", b"")[:-1] + b"\0"), "'IEND' is wrong"),
    ],
)
def test_damage_and_other_kinds_are_refused(data, reason, capfd):
    with pytest.raises(XenonError, match=reason):
        png.decode(data)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("sides", [(1_000_001, 1), (1, 1_000_001)])
def test_sides_that_libpng_refuses_do_not_reach_it(sides, capfd):
    """It would say so on the terminal."""
    header = struct.pack(">IIBBBBB", *sides, 8, 0, 0, 0, 0)
    with pytest.raises(XenonError, match="a PNG of .* pixels"):
        png.decode(changed(b"IHDR", files.chunk(b"IHDR", header)))
    assert capfd.readouterr() == ("", "")


def test_exif_with_the_prefix_that_jpeg_has_turns_the_image():
    samples = files.samples(files.drawing(), 8)
    content = b"Exif\0\0" + exif(6, random.Random(1))
    data = files.png(samples, 8, 0, before=[files.chunk(b"eXIf", content)])
    assert np.array_equal(png.decode(data), turned(samples[..., 0], 6))
