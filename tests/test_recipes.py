"""The recipes of docs/deploy.md give what xenon gives: its pixels, to the byte."""

from __future__ import annotations

import io
import random
import re

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from support import paths

from xenon_mx.data import images

PAGE = (paths.ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
_TURNS_PNG = tuple(map(int, cv2.__version__.split(".")[:3])) >= (4, 5, 5)
SIZES = (32, 225, 320)
# Both sides shrink, both grow, one of each, whole ratios, and the smallest.
SHAPES = [
    *((1200, 900), (900, 1200), (512, 389), (640, 640), (960, 320), (320, 320)),
    *((100, 80), (160, 160), (31, 17), (1000, 100), (100, 1000), (320, 500)),
    *((1, 1), (1, 700), (700, 1), (321, 319), (2000, 3)),
]


@pytest.fixture(scope="module")
def recipe():
    """Run the block that needs OpenCV and NumPy only."""
    names: dict = {}
    exec(BLOCKS[0], names)  # noqa: S102 - the page's own words
    assert not [name for name in names if "xenon" in name]
    return names


def radiograph(height, width, channels=1, dtype=np.uint8):
    """Return edges, gradients and grain: (height, width, channels), over all values."""
    noise = np.random.rand(height, width, channels).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3).reshape(noise.shape)
    smooth = (smooth - smooth.min()) / max(float(np.ptp(smooth)), 1e-6)
    grain = np.where(smooth > 0.6, 0.9 * smooth, 0.5 * smooth) + 0.1 * noise
    return (grain * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("size", SIZES)
def test_the_recipe_fits_any_shape_to_the_same_bytes(recipe, size, fit):
    drawn = [tuple(np.random.randint(1, 900, 2)) for _ in range(20)]
    for shape in [*SHAPES, *drawn]:
        gray = radiograph(*shape)[..., 0]
        expected = images.fit_square(gray, size, fit)
        np.testing.assert_array_equal(recipe["fit_square"](gray, size, fit), expected)


def by_pillow(image, format, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format, **options)
    return buffer.getvalue()


def files():
    """Yield the kinds of files that the page names, each once: kind and bytes."""
    shape = random.randint(20, 300), random.randint(20, 300)
    for channels in (1, 3, 4):
        for dtype in (np.uint8, np.uint16):
            pixels = radiograph(*shape, channels, dtype)
            yield f"PNG {pixels.dtype}", bytes(cv2.imencode(".png", pixels)[1])
    yield "PNG gray and alpha", by_pillow(radiograph(*shape, 2), "PNG")
    gray, colour = radiograph(*shape)[..., 0], radiograph(*shape, 3)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield (
        "PNG with a profile",
        by_pillow(colour, "PNG", icc_profile=profile, dpi=(9, 9)),
    )
    quality = random.randint(30, 100)
    for progressive in (False, True):
        options = {"quality": quality, "progressive": progressive}
        yield "JPEG gray", by_pillow(gray, "JPEG", **options)
        for subsampling in (0, 1, 2):
            options["subsampling"] = subsampling
            yield "JPEG in YCbCr", by_pillow(colour, "JPEG", **options)
    yield "JPEG in RGB", by_pillow(colour, "JPEG", quality=quality, keep_rgb=True)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for format in ("PNG", "JPEG") if _TURNS_PNG else ("JPEG",):
            yield f"{format} turned", by_pillow(gray, format, exif=exif)


@pytest.mark.parametrize("draw", range(3))
def test_the_recipe_reads_the_kinds_of_files_that_it_names(recipe, tmp_path, draw):
    random.seed(draw)
    file = tmp_path / "file"
    for kind, data in files():
        file.write_bytes(data)
        expected = images.decode(data)
        assert np.ptp(expected) > 100
        np.testing.assert_array_equal(recipe["read_gray"](file), expected, kind)


def test_the_recipe_reads_a_palette_to_one_level(recipe, tmp_path):
    colour = Image.fromarray(radiograph(200, 150, 3)).quantize(200)
    colour.save(tmp_path / "palette.png")
    expected = images.decode((tmp_path / "palette.png").read_bytes()).astype(int)
    assert np.abs(recipe["read_gray"](tmp_path / "palette.png") - expected).max() <= 1


# --- without OpenCV ---


def area(old, new):
    """Return the share of each old pixel in each new one: (new, old)."""
    edges = np.arange(new + 1) * (old / new)
    low = np.maximum(edges[:-1, None], np.arange(old))
    high = np.minimum(edges[1:, None], np.arange(1, old + 1))
    return (high - low).clip(0) * (new / old)


def linear(old, new):
    """Return the weight of each old pixel in each new one: (new, old)."""
    centres = ((np.arange(new) + 0.5) * (old / new) - 0.5).clip(0, old - 1)
    return (1 - np.abs(centres[:, None] - np.arange(old))).clip(0)


def by_definition(gray, size, fit):
    """Return the square by what `images.PIXELS` says."""
    pad, rounding = images.PIXELS["pad"], images.PIXELS["rounding"]
    assert rounding == "nearest, after each step"
    inner = [size, size]
    if fit == "pad":
        longest = max(gray.shape)
        inner = [
            eval(pad["side"], {"old": old, "size": size, "longest": longest})  # noqa: S307
            for old in gray.shape
        ]
    for step in images.PIXELS["resize"]:
        weights = {"area": area, "linear": linear}[step["interpolation"]]
        rows, columns = (
            weights(old, eval(step["side"], {"old": old, "new": new}))  # noqa: S307
            for old, new in zip(gray.shape, inner)
        )
        gray = np.rint(rows @ gray @ columns.T)
    square = np.full((size, size), pad["value"])
    top, left = (
        eval(pad["before"], {"size": size, "side": side})  # noqa: S307
        for side in inner
    )
    square[top : top + inner[0], left : left + inner[1]] = gray
    return square


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize("size", SIZES)
def test_the_definition_gives_the_pixels_to_one_level_per_step(size, fit):
    for shape in SHAPES:
        gray = radiograph(*shape)[..., 0]
        expected = images.fit_square(gray, size, fit).astype(int)
        difference = np.abs(by_definition(gray, size, fit) - expected)
        is_mixed = fit == "stretch" and min(shape) < size < max(shape)
        assert difference.max() <= 1 + is_mixed
        assert (difference > 1).mean() <= 0.01


def test_the_definition_of_gray_and_of_16_bits_holds_to_one_level():
    colour = radiograph(90, 70, 3, np.uint16)
    weights = images.PIXELS["gray"]
    value = colour @ [weights["blue"], weights["green"], weights["red"]]
    names = {"value": value, "bits": 16}
    expected = np.rint(eval(images.PIXELS["to_8_bits"], names))  # noqa: S307
    actual = images.decode(bytes(cv2.imencode(".png", colour)[1]))
    assert np.abs(actual - expected).max() <= 1
