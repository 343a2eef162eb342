"""TIFF: what has one meaning is read, the rest is refused by name."""

from __future__ import annotations

import struct
import tracemalloc

import imagecodecs
import numpy as np
import pytest
from support import image_files as files

from xenon_mx.errors import XenonError
from xenon_mx.formats import compression, tiff

FILM = files.drawing()


def shown(bits: int, colours: int = 1) -> np.ndarray:
    """What a film shows that is stored in a number of bits."""
    values = files.samples(FILM, bits, colours) * (255 / ((1 << bits) - 1))
    return values @ [0.299, 0.587, 0.114] if colours == 3 else values[..., 0]


def page(bits: int = 8, photometric: int = 1, **options):
    samples = files.samples(FILM, bits, 3 if photometric in (2, 5) else 1)
    if photometric == 0:
        samples = ((1 << bits) - 1 - samples).astype(samples.dtype)
    return files.tiff_page(samples, bits, photometric, **options)


def differs(data: bytes, expected: np.ndarray) -> float:
    return float(np.abs(tiff.decode(data) - expected).max())


@pytest.mark.parametrize("bits", [2, 4, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("photometric", [0, 1])
def test_black_is_black_in_every_number_of_bits(bits, photometric):
    assert differs(files.tiff(page(bits, photometric)), shown(bits)) <= 0.5


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("order", "<>")
def test_colours_in_planes_are_the_same_as_side_by_side(bits, planar, order):
    data = files.tiff(page(bits, 2, planar=planar, order=order), order=order)
    assert differs(data, shown(bits, 3)) <= 1


@pytest.mark.parametrize("compression", [1, 5, 8, 32946, 32773])
@pytest.mark.parametrize("tile", [(), (16, 16), (64, 64)])
@pytest.mark.parametrize("rows_per_strip", [None, 1, 20])
def test_strips_and_tiles_of_every_compression(compression, tile, rows_per_strip):
    options = {"tile": tile, "rows_per_strip": rows_per_strip}
    data = files.tiff(page(16, compression=compression, **options))
    assert differs(data, shown(16)) <= 0.5


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("photometric", [0, 1, 2])
def test_differences_are_added_up(bits, order, photometric):
    options = {"compression": 5, "predictor": 2, "order": order}
    data = files.tiff(page(bits, photometric, **options), order=order)
    assert differs(data, shown(bits, 3 if photometric == 2 else 1)) <= 1


def test_a_reduced_page_or_a_mask_is_never_the_film():
    small = files.tiff_page(files.samples(FILM[::2, ::2], 8), 8, t254=(4, [1]))
    mask = files.tiff_page(files.samples(FILM[::2, ::2], 8), 8, t254=(4, [4]))
    old = files.tiff_page(files.samples(FILM[::2, ::2], 8), 8, t255=(3, [2]))
    for pages in ((small, page()), (page(), small), (mask, page()), (old, page())):
        assert differs(files.tiff(*pages), shown(8)) == 0
    with pytest.raises(XenonError, match="without a page of full size"):
        tiff.decode(files.tiff(small))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (files.tiff(page(), page()), "a TIFF of 2 pages: store each as a file"),
        (
            files.tiff(page(t270=(2, b"ImageJ=1.54f\nimages=3\nslices=3\n\0"))),
            "a TIFF of 3 pages",
        ),
        (files.tiff(page(compression=34712)), r"JPEG 2000 compression \(34712\)"),
        (files.tiff(page(compression=34933)), r"PNG compression \(34933\)"),
        (files.tiff(page(compression=12345)), r"unknown compression \(12345\)"),
        (files.tiff(page(photometric=8)), "in CIELAB"),
        (files.tiff(page(photometric=5)), "in CMYK"),
        (files.tiff(page(t338=(3, [1]), t277=(3, [2]))), "premultiplied alpha"),
        (files.tiff(page(t266=(3, [2]))), "bits in reverse"),
        (files.tiff(page(t339=(3, [2]))), "signed or floating-point"),
        (files.tiff(page(t258=(3, [1]))), "1 bits a sample: store it with 8 or 16"),
        (files.tiff(page(t258=(3, [24]))), "24 bits a sample"),
        (files.tiff(page(t277=(3, [4]))), "4 samples a pixel"),
        (files.tiff(page(t257=(4, [4000]))), "strips or tiles are missing"),
        (files.tiff(page(t278=(4, [20]))), "strips or tiles are missing"),
        (files.tiff(page(t256=(4, [400]))), "a strip or tile is too short"),
        (files.tiff(page(t256=(4, [100_000]), t257=(4, [100_000]))), "more than 67"),
        (files.tiff(page(), big=True), "BigTIFF"),
        (b"II*\0\xff\0\0\0", "cut short"),
        (b"II*\0\0\0\0\0", "without a page"),
    ],
)
def test_what_has_no_certain_meaning_is_refused_by_name(data, reason):
    with pytest.raises(XenonError, match=reason):
        tiff.decode(data)


def test_directories_in_a_circle_end():
    for rest, reason in ((0, "longer than the file"), (10**6, "more than 1000 pages")):
        data = bytearray(files.tiff(page()))
        data[-4:] = data[4:8]  # the next page is the first one
        with pytest.raises(XenonError, match=reason):
            tiff.decode(bytes(data) + bytes(rest))


def test_tags_that_share_their_bytes_cost_no_more_than_the_file():
    """Else a few kilobytes fill the memory."""
    entries = struct.pack("<HHII", 273, 1, 60_000, 0) * 300
    data = struct.pack("<2sHIH", b"II", 42, 8, 300) + entries + bytes(60_000)
    tracemalloc.start()
    with pytest.raises(XenonError, match="its tags are longer than the file"):
        tiff.decode(data)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"compression": 7, "t347": (3, [300, 2])}, "its JPEG tables are no bytes"),
        ({"compression": 7, "t347": (4, [70000])}, "its JPEG tables are no bytes"),
        ({"photometric": 3, "t320": (2, b"x" * 768)}, "palette of 8 bits"),
        ({"t339": (5, [3, 1])}, "a tag of type 5 instead of numbers"),
        ({"t262": (9, [-1])}, "its tag 262 is negative"),
    ],
)
def test_tags_of_other_types_are_refused_by_name(tags, reason):
    with pytest.raises(XenonError, match=reason):
        tiff.decode(files.tiff(page(**tags)))


@pytest.mark.parametrize(("value", "is_refused"), [(1, False), (0, True)])
def test_a_tag_given_twice_must_not_contradict_itself(value, is_refused):
    """Of the two, libtiff takes the first, other programs the last."""
    data = files.tiff(page())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    entries = data[start + 2 : start + 2 + 12 * count]
    again = struct.pack("<HHII", 262, 3, 1, value)
    directory = struct.pack("<H", count + 1) + entries + again + bytes(4)
    twice = data[:4] + struct.pack("<I", len(data)) + data[8:] + directory
    if is_refused:
        with pytest.raises(XenonError, match="two tags 262 that differ"):
            tiff.decode(twice)
    else:
        assert np.array_equal(tiff.decode(twice), tiff.decode(data))


@pytest.mark.parametrize("tile", [(1 << 26, 1), (1, 1 << 26)])
def test_tiles_that_are_mostly_beyond_the_image_are_refused(tile):
    """Each is decompressed as a whole, and all of them may be the same few bytes."""
    data = files.tiff(page(t322=(4, [tile[1]]), t323=(4, [tile[0]])))
    with pytest.raises(XenonError, match="declares more than 67"):
        tiff.decode(data)


@pytest.mark.parametrize("compression", [5, 8, 32773])
def test_damage_is_noticed_and_nothing_reaches_the_terminal(compression, capfd):
    whole = page(16, compression=compression)
    (strip,) = whole["blocks"]
    whole["blocks"] = [strip[: len(strip) // 2]]
    with pytest.raises(XenonError, match="damaged"):
        tiff.decode(files.tiff(whole))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("highest", [1, 2, 16, 256])
@pytest.mark.parametrize("size", [1, 2, 255, 4000, 60_000])
def test_compression_is_the_inverse_of_packing(highest, size):
    plain = np.random.randint(0, highest, size).astype(np.uint8).tobytes()
    lzw = bytes(imagecodecs.lzw_encode(plain))
    assert compression.unpack_lzw(lzw, size) == plain
    pack_bits = bytes(imagecodecs.packbits_encode(plain))
    assert compression.unpack_bits(pack_bits, size) == plain
    with pytest.raises(XenonError, match="another size"):
        compression.unpack_lzw(lzw, size - 1)


def test_lzw_of_before_tiff_6_is_refused():
    with pytest.raises(XenonError, match="of before TIFF 6"):
        compression.unpack_lzw(b"\0\1\x04\x10", 100)
