"""Decoding, scaling and encoding of images, against Pillow, OpenCV and NumPy."""

from __future__ import annotations

import errno
import io
import os
import resource
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageOps

from xenon_mx.data import images
from xenon_mx.errors import XenonError


def noise(*shape: int, high: int = 256, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.randint(0, high, shape).astype(dtype)


def smooth(height: int, width: int) -> np.ndarray:
    blurred = cv2.GaussianBlur(noise(height, width), (0, 0), 3).astype(np.float32)
    return cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def saved(image: Any, kind: str, **options: Any) -> bytes:
    """Return the file that Pillow writes of a Pillow image or an array."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def luma(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(float) @ [0.299, 0.587, 0.114]


def differ(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b).max())


# --- pixels ---


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (132, 89), (64, 512)])
def test_decode_gray_returns_the_exact_pixels(
    kind: str, shape: tuple[int, int]
) -> None:
    gray = noise(*shape)
    decoded = images.decode(saved(gray, kind))
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, gray)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_decode_rgb_gives_luma(kind: str) -> None:
    rgb = noise(40, 33, 3)
    assert differ(images.decode(saved(rgb, kind)), luma(rgb)) < 1.01


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_decode_pure_colours_gives_their_share_of_luma(kind: str) -> None:
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert differ(images.decode(saved(rgb, kind)), np.array([[76, 150, 29]])) <= 1


def test_decode_gray_stored_as_rgb_is_the_same_gray() -> None:
    gray = noise(40, 33)
    assert np.array_equal(images.decode(saved(np.dstack([gray] * 3), "PNG")), gray)


def test_decode_rgba_alpha_is_dropped() -> None:
    rgba = noise(20, 31, 4)
    assert differ(images.decode(saved(rgba, "PNG")), luma(rgba[..., :3])) < 1.01


def test_decode_gray_with_alpha_returns_the_exact_gray() -> None:
    gray, alpha = noise(20, 31), noise(20, 31)
    image = Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)])
    assert np.array_equal(images.decode(saved(image, "PNG")), gray)


def test_decode_palette_is_looked_up() -> None:
    indices, palette = noise(20, 31, high=5), noise(5, 3)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    for kind in ("PNG", "BMP", "TIFF"):
        decoded = images.decode(saved(image, kind))
        assert differ(decoded, luma(palette)[indices]) < 1.01


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_decode_black_and_white_alone_is_refused(kind: str) -> None:
    bits = noise(20, 31, high=2).astype(bool)
    with pytest.raises(XenonError, match="scan: .*(without grays|1 bits a sample)"):
        images.decode(saved(bits, kind), "scan")


def test_decode_jpeg_gives_its_luma_channel() -> None:
    for pixels in (smooth(60, 47), np.dstack([smooth(60, 47) for _ in range(3)])):
        data = saved(pixels, "JPEG")
        expected = Image.open(io.BytesIO(data))
        expected.draft("L", expected.size)  # the stored Y, not converted through RGB
        assert differ(images.decode(data), np.asarray(expected)) <= 1


# --- 16 bits ---


def test_decode_16_bit_scales_the_full_range_and_rounds() -> None:
    values = np.array([[0, 128, 129, 257, 385, 386, 32768, 65406, 65407, 65535]])
    decoded = images.decode(saved(values.astype(np.uint16), "PNG"))
    assert decoded.tolist() == [[0, 0, 1, 1, 1, 2, 128, 254, 255, 255]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_decode_16_bit_equals_numpy(kind: str) -> None:
    deep = noise(20, 31, high=2**16, dtype=np.uint16)
    decoded = images.decode(saved(deep, kind))
    assert np.array_equal(decoded, np.round(deep / 257))


def test_decode_16_bit_colour_gives_luma() -> None:
    bgr = noise(20, 31, 3, high=2**16, dtype=np.uint16)
    decoded = images.decode(cv2.imencode(".png", bgr)[1].tobytes())
    assert differ(decoded, luma(bgr[..., ::-1]) / 257) < 0.51


def test_decode_8_bit_stored_as_16_is_the_same_gray() -> None:
    gray = noise(20, 31)
    gray[0, 0] = 255
    assert np.array_equal(images.decode(saved(gray * np.uint16(257), "PNG")), gray)


@pytest.mark.parametrize("dead_pixels", [0, 1, 5])
def test_decode_12_bits_in_16_is_refused(dead_pixels: int) -> None:
    dark = noise(40, 30, high=4096, dtype=np.uint16)
    dark[20, :dead_pixels] = 65535
    with pytest.raises(XenonError, match="scan: .*lie from 0 to 16 of 255"):
        images.decode(saved(dark, "PNG"), "scan")


def test_decode_13_bits_in_16_is_scaled_as_16_bits() -> None:
    deep = noise(40, 30, high=8192, dtype=np.uint16)
    decoded = images.decode(saved(deep, "PNG"))
    assert np.array_equal(decoded, np.round(deep / 257))


def test_decode_floating_point_is_refused() -> None:
    data = saved(np.full((4, 5), 0.5, np.float32), "TIFF")
    with pytest.raises(XenonError, match="signed or floating-point pixels"):
        images.decode(data)


# --- rotation ---


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(smooth(64, 48), kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert differ(images.decode(data), np.asarray(upright)) <= 1


# --- damaged and other files ---


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
@pytest.mark.parametrize("cut", [1, 2, 8, 0.01, 0.1, 0.5, 0.9, 0.99])
def test_decode_cut_short_is_refused(kind: str, cut: float) -> None:
    data = saved(smooth(200, 200), kind)
    kept = len(data) - (cut if cut >= 1 else int(len(data) * cut))
    with pytest.raises(XenonError, match="scan: "):
        images.decode(data[: int(kept)], "scan")


@pytest.mark.parametrize("progressive", [False, True])
def test_decode_jpeg_cut_anywhere_in_its_scans_is_refused(progressive: bool) -> None:
    data = saved(smooth(64, 64), "JPEG", progressive=progressive)
    for kept in range(data.index(b"\xff\xda"), len(data), 7):
        with pytest.raises(XenonError):
            images.decode(data[:kept])


def with_thumbnail(jpeg: bytes) -> bytes:
    """Insert a small whole JPEG into the header, as cameras do."""
    inner = saved(smooth(16, 16), "JPEG")
    return (
        jpeg[:2] + b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner + jpeg[2:]
    )


def test_decode_jpeg_cut_after_its_thumbnail_is_refused() -> None:
    whole = saved(smooth(64, 64), "JPEG")
    data = with_thumbnail(whole)
    assert np.array_equal(images.decode(data), images.decode(whole))

    for kept in range(data.rindex(b"\xff\xda") + 20, len(data), 97):
        with pytest.raises(XenonError, match="cut short"):
            images.decode(data[:kept])


def test_decode_jpeg_followed_by_other_bytes_is_decoded() -> None:
    data = saved(smooth(64, 64), "JPEG")
    assert np.array_equal(images.decode(data + bytes(5000)), images.decode(data))


def test_decode_png_with_a_changed_bit_is_refused() -> None:
    data = saved(smooth(40, 40), "PNG")
    for _ in range(50):
        damaged = bytearray(data)
        # From byte 33 on: the bytes before contain the size, which OpenCV allocates.
        damaged[np.random.randint(33, len(data))] ^= 1 << np.random.randint(8)
        with pytest.raises(XenonError):
            images.decode(bytes(damaged))


@pytest.mark.parametrize(
    ("suffix", "named"),
    [
        (".ras", "a Sun raster file"),
        (".pgm", "a Netpbm file"),
        (".webp", "a WebP file"),
        (".jp2", "a JPEG 2000 file"),
        (".hdr", "not an image"),
    ],
)
def test_what_only_opencv_knows_is_refused_whatever_its_name(suffix, named) -> None:
    """A gray Sun raster named .png was read as all black."""
    gray = smooth(60, 40)
    image = gray if suffix != ".hdr" else np.dstack([gray] * 3).astype(np.float32)
    if suffix == ".jp2":  # OpenCV 4.2 does not write it
        data = bytes(imagecodecs.jpeg2k_encode(image))
    else:
        data = cv2.imencode(suffix, image)[1].tobytes()
    with pytest.raises(XenonError, match=rf"^film\.png: {named}"):
        images.decode(data, "film.png")


def test_decode_goes_by_the_content_and_not_by_the_name() -> None:
    gray = smooth(60, 40)
    for kind in ("PNG", "BMP", "TIFF"):
        assert np.array_equal(images.decode(saved(gray, kind), "film.jpg"), gray)


def test_what_is_odd_but_whole_is_counted(caplog) -> None:
    data = saved(smooth(60, 40), "JPEG")
    odd = data[:20] + b"\0\0" + data[20:]
    oddities = images.Oddities()
    with caplog.at_level("INFO"):
        for each in (data, odd, odd, saved(smooth(9, 9), "PNG")):
            oddities.add(each)
        oddities.log()
    assert caplog.messages == [
        "odd but whole JPEGs, which are read: 2 with bytes between markers"
    ]


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"not an image", bytes(4096), b"\xff\xd8\xff", b"\x89PNG\r\n"]
)
def test_decode_garbage_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(XenonError, match=r"^some/file\.png: "):
        images.decode(data, Path("some/file.png"))


def test_decode_random_bytes_after_a_valid_start_are_refused() -> None:
    starts = [saved(smooth(9, 9), kind)[:20] for kind in ("JPEG", "BMP", "TIFF")]
    for _ in range(50):
        for start in starts:
            with pytest.raises(XenonError):
                images.decode(start + np.random.bytes(200))


def test_read_gives_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\0\r\nabc")
    assert images.read(tmp_path / "a") == b"\0\r\nabc"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.png", "No such file or directory"),
        ("folder.png", "Is a directory"),
        ("empty.png", "the file is empty"),
        ("link.png", "No such file or directory"),
    ],
)
def test_read_what_is_not_a_file_is_refused_by_name(
    tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(XenonError) as caught:
        images.read(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: {reason}"


# --- geometry ---

SHAPES = [(512, 512), (512, 89), (132, 512), (200, 512), (320, 321), (319, 320)]
SMALL = [(31, 17), (1, 1), (1, 1000), (1000, 1), (160, 160), (320, 320)]


@pytest.mark.parametrize("shape", SHAPES + SMALL)
@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_fit_square_any_shape_gives_the_square(
    shape: tuple[int, int], fit: str
) -> None:
    square = images.fit_square(noise(*shape), 320, fit)
    assert square.shape == (320, 320)
    assert square.dtype == np.uint8


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_fit_square_of_the_same_size_is_unchanged(fit: str) -> None:
    image = noise(320, 320)
    assert np.array_equal(images.fit_square(image, 320, fit), image)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_fit_square_halved_is_the_mean_of_four(fit: str) -> None:
    image = noise(640, 640)
    means = image.reshape(320, 2, 320, 2).mean((1, 3))
    assert differ(images.fit_square(image, 320, fit), means) <= 0.5


def test_fit_square_stretch_larger_equals_opencv_area() -> None:
    for shape in [(512, 512), (512, 400), (333, 1000)]:
        image = noise(*shape)
        area = cv2.resize(image, (320, 320), interpolation=cv2.INTER_AREA)
        assert np.array_equal(images.fit_square(image, 320, "stretch"), area)


def test_fit_square_stretch_smaller_equals_opencv_bilinear() -> None:
    for shape in [(31, 17), (160, 160), (319, 320)]:
        image = noise(*shape)
        linear = cv2.resize(image, (320, 320), interpolation=cv2.INTER_LINEAR)
        assert np.array_equal(images.fit_square(image, 320, "stretch"), linear)


@pytest.mark.parametrize("turn", [False, True])
def test_fit_square_stretch_averages_the_side_that_shrinks(turn: bool) -> None:
    # Pairs of black and white rows halve to gray, though the columns are stretched.
    stripes = np.zeros((640, 100), np.uint8)
    stripes[::2] = 255
    square = images.fit_square(stripes.T if turn else stripes, 320, "stretch")
    assert set(square.ravel()) <= {127, 128}


def test_fit_square_stretch_keeps_the_mean() -> None:
    for shape in SHAPES:
        image = smooth(*shape)
        square = images.fit_square(image, 320, "stretch")
        assert abs(square.mean() - image.mean()) < 1.5


@pytest.mark.parametrize("shape", [*SHAPES, (31, 17), (1, 512), (160, 80)])
def test_fit_square_pad_centres_on_black(shape: tuple[int, int]) -> None:
    white = np.full(shape, 255, np.uint8)

    square = images.fit_square(white, 320, "pad")

    ratio = 320 / max(shape)
    height, width = (max(1, round(side * ratio)) for side in shape)
    top, left = (320 - height) // 2, (320 - width) // 2
    expected = np.zeros((320, 320), np.uint8)
    expected[top : top + height, left : left + width] = 255
    assert np.array_equal(square, expected)


@pytest.mark.parametrize("shape", [*SHAPES, *SMALL])
@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_content_region_is_what_the_image_fills(
    shape: tuple[int, int], fit: str
) -> None:
    square = images.fit_square(np.full(shape, 255, np.uint8), 320, fit)
    region = images.content_region(shape, 320, fit)
    assert square[region].size == (square == 255).sum()
    assert np.all(square[region] == 255)


@pytest.mark.parametrize(
    ("shape", "method"),
    [((512, 200), cv2.INTER_AREA), ((80, 200), cv2.INTER_LINEAR)],
)
def test_fit_square_pad_equals_opencv(shape: tuple[int, int], method: int) -> None:
    image = noise(*shape)
    height, width = (round(side * 320 / max(shape)) for side in shape)
    inner = cv2.resize(image, (width, height), interpolation=method)
    top, left = (320 - height) // 2, (320 - width) // 2

    square = images.fit_square(image, 320, "pad")

    assert np.array_equal(square[top : top + height, left : left + width], inner)


# --- encoding ---


@pytest.mark.parametrize("shape", [(320, 320), (32, 32), (1, 7)])
def test_encode_png_is_lossless(shape: tuple[int, int]) -> None:
    image = noise(*shape)
    data = images.encode(image, "png", 95)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), image)
    assert np.array_equal(images.decode(data), image)


def test_encode_jpg_is_one_channel_of_the_quality() -> None:
    image = smooth(320, 320)
    sizes = []
    for quality in (50, 95, 100):
        data = images.encode(image, "jpg", quality)
        image_file = Image.open(io.BytesIO(data))
        assert (image_file.format, image_file.mode) == ("JPEG", "L")
        assert image_file.size == (320, 320)
        assert np.array_equal(image_file.quantization[0], quantization(quality))
        sizes.append(len(data))
    assert sizes == sorted(sizes)


def quantization(quality: int) -> np.ndarray:
    """Return the quantization table of Pillow's libjpeg for a quality."""
    data = saved(np.zeros((8, 8), np.uint8), "JPEG", quality=quality)
    return np.array(Image.open(io.BytesIO(data)).quantization[0])


def test_encode_jpg_95_is_close_to_the_image() -> None:
    image = smooth(320, 320)
    assert differ(images.decode(images.encode(image, "jpg", 95)), image) <= 6


def claiming(width: int, height: int) -> bytes:
    """Return a PNG of one row of pixels that claims another size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + end

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    row = zlib.compress(bytes(width + 1))
    chunks = ((b"IHDR", header), (b"IDAT", row), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


@pytest.mark.parametrize("side", [8_193, 60_000])
def test_decode_image_that_claims_too_many_pixels_is_refused_unread(side: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(XenonError, match="bomb.png: declares more than 67,108,864"):
        images.decode(claiming(side, side), "bomb.png")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 50_000  # kB


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_read_error_of_the_process_is_not_an_error_of_the_file(
    tmp_path, monkeypatch, number
):
    """Otherwise --skip-bad would leave out a good image."""

    def refuse(path):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(OSError, match=str(tmp_path)):
        images.read(tmp_path / "image.png")


def test_decode_with_too_little_memory_is_a_memory_error(monkeypatch):
    def refuse(*_):
        raise cv2.error("(-4:Insufficient memory) Failed to allocate 63000000 bytes")

    data = saved(noise(20, 31), "PNG")
    monkeypatch.setattr(cv2, "imdecode", refuse)
    with pytest.raises(MemoryError):
        images.decode(data)
