"""JPEG: damage that libjpeg notices is an error, what is odd but harmless is not."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps
from support import image_files as files
from support.image_kinds import damaged

from xenon_mx.errors import XenonError
from xenon_mx.formats import jpeg

ADOBE = b"Adobe\0\x64\0\0\0\0"


def saved(colours: int = 1, **options) -> bytes:
    buffer = io.BytesIO()
    samples = files.samples(files.drawing(80, 70), 8, colours)
    Image.fromarray(samples.squeeze()).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def luma(data: bytes) -> np.ndarray:
    """The luma that Pillow decodes."""
    image = Image.open(io.BytesIO(data))
    image.draft("L", image.size)
    return np.asarray(image)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_decode_gives_the_luma_as_stored(progressive, colours, subsampling):
    data = saved(colours, progressive=progressive, subsampling=subsampling)
    assert np.array_equal(jpeg.decode(data), luma(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_damage_within_the_scan_is_never_read_as_something_else(progressive):
    """Of 60 damaged files, those that are read are read as libjpeg does, silently."""
    data = saved(progressive=progressive)
    rng = random.Random(40)
    refused = 0
    for _ in range(60):
        hurt = damaged(data, "changed bytes", rng, data.index(b"\xff\xda") + 12)
        try:
            simplejpeg.decode_jpeg(hurt, "GRAY", strict=True)
            is_silent = True
        except ValueError:
            is_silent = False
        if is_silent:
            assert np.array_equal(jpeg.decode(hurt), luma(hurt))
        else:
            with pytest.raises(XenonError, match="damaged JPEG|cut short|frame|JPEG"):
                jpeg.decode(hurt)
            refused += 1
    assert refused >= 40


HARMLESS = {
    "between": lambda data: files.jpeg(files.segments(data), b"\0\1\2"),
    "fill": lambda data: files.jpeg(files.segments(data), b"\xff"),
    "jfif": lambda data: data.replace(b"JFIF\0\1", b"JFIF\0\7", 1),
    "adobe": lambda data: files.jpeg([(0xEE, ADOBE + b"\7"), *files.segments(data)]),
    "icc": lambda data: files.jpeg(
        [(0xE2, b"ICC_PROFILE\0\7\2no"), *files.segments(data)]
    ),
    "after": lambda data: data + b"\xff\xd8\xff" + bytes(100),
}


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("between", "with bytes between markers"),
        ("jfif", "with an odd JFIF field"),
        ("adobe", "with an odd Adobe field"),
        ("fill", ""),
        ("icc", ""),
        ("after", ""),
    ],
)
def test_what_is_odd_but_harmless_changes_nothing_and_is_named(name, named, capfd):
    data = saved(3)
    odd = HARMLESS[name](data)
    assert np.array_equal(jpeg.decode(odd), jpeg.decode(data))
    assert jpeg.oddity(odd) == named
    assert jpeg.oddity(data) == ""
    assert capfd.readouterr() == ("", "")


def test_bytes_between_the_scans_are_an_error():
    """There they may be what is left of damaged pixels."""
    data = saved(progressive=True)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    with pytest.raises(XenonError, match="extraneous bytes before marker"):
        jpeg.decode(data[:second] + b"\1\2\3" + data[second:])


@pytest.mark.parametrize(
    ("marker", "bits", "components", "reason"),
    [
        (0xC3, 8, 1, "lossless, hierarchical or arithmetic"),
        (0xC9, 8, 1, "lossless, hierarchical or arithmetic"),
        (0xC1, 12, 1, "a JPEG of 12 bits"),
        (0xC0, 8, 4, "4 colour components"),
        (0xC0, 8, 2, "2 colour components"),
    ],
)
def test_other_jpegs_are_refused_by_name(marker, bits, components, reason):
    def change(kind: int, content: bytes) -> tuple[int, bytes]:
        if kind != 0xC0:
            return kind, content
        return marker, bytes([bits]) + content[1:5] + bytes([components]) + content[6:]

    parts = [change(*part) for part in files.segments(saved())]
    with pytest.raises(XenonError, match=reason):
        jpeg.decode(files.jpeg(parts))


@pytest.mark.parametrize("marker", [0xDE, 0xDF])
def test_the_first_frame_of_a_hierarchy_is_not_taken_for_the_image(marker):
    parts = files.segments(saved())
    content = next(content for kind, content in parts if kind == 0xC0)
    with pytest.raises(XenonError, match="lossless, hierarchical or arithmetic"):
        jpeg.decode(files.jpeg([(marker, content), *parts]))


def test_an_unusual_subsampling_is_not_called_damage():
    """Three rows of the luma to one of the colours."""
    parts = files.segments(saved(3))
    odd = [
        (kind, content[:7] + b"\x13" + content[8:] if kind == 0xC0 else content)
        for kind, content in parts
    ]
    with pytest.raises(XenonError, match="unusual subsampling of its colours"):
        jpeg.decode(files.jpeg(odd))


def test_more_scans_than_programs_write_are_refused():
    """Each of a few bytes costs a pass over all pixels, even if it is a wrong one."""
    data = saved(progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(XenonError, match="more than 500 scans"):
        jpeg.decode(data[:-2] + last * 500 + data[-2:])


def exif(*entries: bytes, following: bytes = bytes(4)) -> bytes:
    """Return Exif data of such entries."""
    head = struct.pack(">2sHIH", b"MM", 42, 8, len(entries))
    return b"".join([b"Exif\0\0", head, *entries, following])


TURNED = struct.pack(">HHIHH", 274, 3, 1, 6, 0)
UPRIGHT = struct.pack(">HHIHH", 274, 3, 1, 1, 0)
BEYOND = struct.pack(">HHII", 270, 2, 100, 5000)


@pytest.mark.parametrize(
    "content",
    [
        exif(TURNED),
        exif(BEYOND, TURNED),
        exif(TURNED, struct.pack(">HHII", 0x9286, 7, 1 << 20, 26)),
        exif(struct.pack(">HHII", 270, 99, 1, 0), TURNED),
        exif(TURNED, following=b"\x7f\xff\xff\xff"),
        exif(TURNED, following=b""),
    ],
)
def test_orientation_counts_although_the_rest_of_exif_is_damaged(content):
    """Programs that copy Exif cut maker notes and thumbnails, and viewers turn it."""
    data = files.jpeg([(0xE1, content), *files.segments(saved())])
    turned = np.rot90(luma(saved()), -1)  # by orientation 6, to the right
    assert np.array_equal(jpeg.decode(data), turned)


@pytest.mark.parametrize("second", [UPRIGHT, BEYOND])
def test_the_first_exif_counts(second):
    parts = [(0xE1, exif(TURNED)), (0xE1, exif(second)), *files.segments(saved())]
    data = files.jpeg(parts)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert expected.size == (80, 70)
    assert np.array_equal(jpeg.decode(data), np.asarray(expected))


def test_exif_of_which_every_tag_is_the_whole_costs_nothing():
    """Its 64 KB would be hundreds of MB, again for each of 1,000 pages."""
    entries = [struct.pack(">HHII", tag, 1, 60_000, 0) for tag in range(300, 400)]
    circle = exif(*entries, following=struct.pack(">I", 8)) + bytes(60_000)
    plain = files.segments(saved())
    data = files.jpeg([(0xE1, circle), *plain])
    tracemalloc.start()
    assert np.array_equal(jpeg.decode(data), jpeg.decode(saved()))
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_too_little_memory_is_not_taken_for_damage(monkeypatch):
    def refuse(*_, **__):
        raise ValueError("Memory allocation failure: Cannot allocate memory")

    monkeypatch.setattr(simplejpeg, "decode_jpeg", refuse)
    with pytest.raises(MemoryError):
        jpeg.decode(saved())
