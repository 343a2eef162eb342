"""Seeded image files of every kind, with what they show, for the differential test.

Each file crosses at random what its format can vary, and has one speciality at most. By
that, or else by its pixels, it is called: the names are those of the table of formats
in docs/formats.md.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any, Callable, Dict, Iterator, NamedTuple

import cv2
import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageOps

from support import image_files as files

LUMA = np.array([0.299, 0.587, 0.114])


class Sample(NamedTuple):
    """A file of one kind.

    Attributes:
        format: Its format.
        kind: What is special about it.
        data: Its bytes.
        shown: What it shows, (H, W) float from 0 to 255; None if that is not certain.
    """

    format: str
    kind: str
    data: bytes
    shown: np.ndarray | None


def film(rng: random.Random) -> np.ndarray:
    """Return the drawing, of a size of its own."""
    return files.drawing(rng.randint(24, 50), rng.randint(24, 50))


def gray(samples: np.ndarray, bits: int) -> np.ndarray:
    """Return the gray that samples mean: (H, W) float, the highest value 255."""
    values = samples.astype(float) * (255 / ((1 << bits) - 1))
    return values[..., :3] @ LUMA if values.shape[2] >= 3 else values[..., 0]


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels as Pillow turns them by an orientation."""
    image = Image.fromarray(pixels.astype(np.float32))
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image), float)


def palette_of(rng: random.Random, count: int) -> np.ndarray:
    """Return a palette of tinted grays from dark to bright: (count, 3), 20 to 240."""
    ramp = np.linspace(40, 220, count)
    tint = np.array([[rng.randint(-20, 20) for _ in "RGB"] for _ in range(count)])
    return np.rint(ramp[:, None] + tint).astype(int)


def exif(orientation: int, rng: random.Random) -> bytes:
    """Return Exif data with an orientation."""
    page = {274: (3, [orientation]), "blocks": []}
    return files.tiff(page, order=rng.choice("<>"))


def independent(data: bytes, format: str) -> np.ndarray:
    """Return what Pillow, libpng or tifffile read: (H, W) float from 0 to 255.

    Raises:
        Exception: They do not read it.
    """
    if format == "TIFF":
        return _by_tifffile(data)
    image = Image.open(io.BytesIO(data))
    orientation = image.getexif().get(0x0112, 1)
    if format == "PNG" and data[24] == 16:
        pixels = imagecodecs.png_decode(data)  # Pillow keeps 8 bits of colours
        pixels = gray(pixels if pixels.ndim == 3 else pixels[..., None], 16)
    elif format == "JPEG" and image.mode == "RGB":
        image.draft("L", image.size)  # the luma as stored
        pixels = _luma_of(image)
    else:
        pixels = _luma_of(image)
    return turned(pixels, orientation)


def _luma_of(image: Image.Image) -> np.ndarray:
    if image.mode in ("L", "LA"):
        return np.asarray(image.getchannel("L"), float)
    return np.asarray(image.convert("RGB"), float) @ LUMA


def _by_tifffile(data: bytes) -> np.ndarray:
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        films = [page for page in tiff.pages if not page.subfiletype & 5]
        (page,) = films
        pixels = page.asarray()
        if page.planarconfig == 2 and pixels.ndim == 3:
            pixels = np.moveaxis(pixels, 0, -1)
        pixels = pixels if pixels.ndim == 3 else pixels[..., None]
        name = page.photometric.name
        if name == "PALETTE":
            shown = (page.colormap.T / 257 @ LUMA)[pixels[..., 0]]
        elif name == "YCBCR":  # which tifffile returns as red, green and blue
            shown = gray(pixels, 8)
        else:
            shown = gray(pixels, page.bitspersample)
        if name == "MINISWHITE":
            shown = 255 - shown
        orientation = page.tags.get(274)
    return turned(shown, orientation.value if orientation else 1)


def damaged(data: bytes, how: str, rng: random.Random, start: int) -> bytes:
    """Return a file that is cut short, or whose bytes from `start` on are changed."""
    if how == "cut short":
        return data[: rng.randint(start, len(data) - 1)]
    changed = bytearray(data)
    if how == "a changed bit":
        changed[rng.randrange(start, len(data))] ^= 1 << rng.randrange(8)
    else:  # eight bytes, of which some differ
        position = rng.randrange(start, len(data) - 10)
        changed[position : position + 8] = bytes(rng.choices(range(1, 255), k=8))
    return bytes(changed)


# Makes a sample of a speciality, from bits, photometric interpretation and options.
Options = Dict[str, Any]
Special = Callable[[random.Random, int, int, Options], Sample]

DAMAGES = ("cut short", "a changed bit", "changed bytes")


# --- PNG ---

_PNG_KINDS = {
    0: ("gray", (1, 2, 4, 8, 16)),
    2: ("RGB", (8, 16)),
    3: ("palette", (1, 2, 4, 8)),
    4: ("gray with alpha", (8, 16)),
    6: ("RGB with alpha", (8, 16)),
}
_PNG_CHUNKS = {
    "gAMA chunk": files.chunk(b"gAMA", struct.pack(">I", 45455)),
    "odd gAMA chunk": files.chunk(b"gAMA", struct.pack(">I", 220000)),
    "sRGB chunk": files.chunk(b"sRGB", b"\0"),
    "cHRM chunk": files.chunk(b"cHRM", struct.pack(">8I", *range(9000, 41000, 4000))),
    "broken ICC profile": files.chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile")),
    "pHYs chunk": files.chunk(b"pHYs", struct.pack(">IIB", 3000, 6000, 1)),
    "text chunk": files.chunk(b"tEXt", b"Comment\0left wrist"),
    "unknown chunk": files.chunk(b"xeNo", b"anything"),
    "wrong checksum of a text": files.chunk(b"tEXt", b"Comment\0x")[:-1] + b"\0",
    "animated": files.chunk(b"acTL", struct.pack(">II", 2, 0)),
    "unknown critical chunk": files.chunk(b"CgBI", bytes(4)),
}


def pngs(rng: random.Random, number: int) -> Iterator[Sample]:
    """Yield PNGs."""
    for _ in range(number):
        special = rng.choice([*_PNG_CHUNKS, *DAMAGES, "short palette", *[""] * 16])
        colour_type = rng.choice(list(_PNG_KINDS))
        name, depths = _PNG_KINDS[colour_type]
        bits = rng.choice([bits for bits in depths if bits > 1 or not special])
        kind = f"{name}, {bits} bit{'s' * (bits > 1)}"
        samples, shown, palette = _png_pixels(rng, colour_type, bits)
        chunks = []
        if rng.random() < 0.5:
            orientation = rng.randint(1, 8)
            chunks.append(files.chunk(b"eXIf", exif(orientation, rng)))
            shown = turned(shown, orientation)
        if special in _PNG_CHUNKS:
            kind = special
            chunks.append(_PNG_CHUNKS[special])
        if special == "short palette" and colour_type == 3:
            kind, shown = "colours missing in the palette", None
            palette = palette[: 3 * int(samples.max())]
        is_interlaced = rng.random() < 0.3
        data = files.png(samples, bits, colour_type, is_interlaced, chunks, palette)
        if special in DAMAGES:
            kind, data = special, damaged(data, special, rng, 8)
        yield Sample("PNG", kind, data, shown)


def _png_pixels(
    rng: random.Random, colour_type: int, bits: int
) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Return samples, what they show, and the palette."""
    samples = files.samples(film(rng), bits, {2: 3, 6: 3}.get(colour_type, 1))
    shown, palette = gray(samples, bits), b""
    if colour_type == 3:
        table = palette_of(rng, 1 << bits)
        palette = bytes(table.astype(np.uint8))
        shown = (table @ LUMA)[samples[..., 0]]
    if colour_type in (4, 6):
        alpha = np.full_like(samples[..., :1], rng.randrange(1 << bits))
        samples = np.concatenate([samples, alpha], axis=2)
    return samples, shown, palette


# --- BMP ---

_BMP_MASKS = {
    "usual": struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0),
    "other": struct.pack("<4I", 0xFF, 0xFF00, 0xFF0000, 0),
}
# Bits, and changed options, of each speciality.
_BMP_SPECIALS: dict[str, tuple[int, Options]] = {
    "OS/2 header": (24, {"header": 12, "top_down": False}),
    "OS/2 header, palette": (8, {"header": 12, "top_down": False}),
    "RLE8": (8, {"compression": 1}),
    "RLE4": (4, {"compression": 2}),
    "RGB, 16 bits": (16, {}),
    "usual bit fields": (32, {"compression": 3, "extra": _BMP_MASKS["usual"]}),
    "other bit fields": (32, {"compression": 3, "extra": _BMP_MASKS["other"]}),
    "unknown header": (24, {"header": 44}),
    "colours missing in the palette": (8, {}),
    "cut short": (24, {}),
}
_BMP_UNCERTAIN = (
    *("RLE8", "RLE4", "RGB, 16 bits", "other bit fields", "unknown header"),
    "colours missing in the palette",
)


def bmps(rng: random.Random, number: int) -> Iterator[Sample]:
    """Yield bitmaps."""
    for _ in range(number):
        special = rng.choice([*_BMP_SPECIALS, *[""] * len(_BMP_SPECIALS)])
        bits, changes = rng.choice([1, 4, 8, 8, 24, 24, 32]), {}
        if special:
            bits, changes = _BMP_SPECIALS[special]
        options = {"top_down": rng.random() < 0.3, "header": rng.choice([40, 108, 124])}
        make = _bmp_palette if bits <= 8 else _bmp_colours
        samples, shown, palette = make(rng, bits)
        if special == "colours missing in the palette":
            palette = palette[: 4 * int(samples.max())]
        options["palette"] = palette
        data = files.bmp(samples, bits, **{**options, **changes})
        if special == "cut short":
            data = damaged(data, special, rng, 2)
        name = f"{'palette' if palette else 'RGB'}, {bits} bit{'s' * (bits > 1)}"
        is_certain = special not in _BMP_UNCERTAIN
        yield Sample("BMP", special or name, data, shown if is_certain else None)


def _bmp_palette(rng: random.Random, bits: int) -> tuple[np.ndarray, np.ndarray, bytes]:
    samples = files.samples(film(rng), bits)
    table = palette_of(rng, 1 << bits)
    palette = np.c_[table[:, ::-1], np.zeros(len(table))].astype(np.uint8)
    return samples, (table @ LUMA)[samples[..., 0]], bytes(palette)


def _bmp_colours(rng: random.Random, bits: int) -> tuple[np.ndarray, np.ndarray, bytes]:
    samples = files.samples(film(rng), 8, 3)
    shown = gray(samples, 8)
    fourth = np.full_like(samples[..., :1], rng.randrange(256))
    stored = np.concatenate([samples[..., ::-1], fourth], axis=2)
    return stored[..., : bits // 8], shown, b""


# --- JPEG ---


def _jpeg_parts(rng: random.Random, pixels: np.ndarray, kind: str) -> bytes:
    """Return a usual JPEG."""
    colours = 1 if kind == "gray" else 3
    samples = files.samples(pixels, 8, colours)
    if kind == "RGB":
        return bytes(imagecodecs.jpeg8_encode(samples, level=95, outcolorspace="RGB"))
    buffer = io.BytesIO()
    Image.fromarray(samples.squeeze()).save(
        buffer,
        "JPEG",
        quality=rng.choice([75, 90, 95]),
        subsampling=rng.choice([0, 1, 2]),
        progressive=rng.random() < 0.4,
        restart_marker_blocks=rng.choice([0, 0, 3]),
    )
    return buffer.getvalue()


def _with_segment(data: bytes, marker: int, content: bytes, at: int = 0) -> bytes:
    parts = files.segments(data)
    return files.jpeg([*parts[:at], (marker, content), *parts[at:]])


def _replaced(data: bytes, marker: int, change: Callable[[bytes], bytes]) -> bytes:
    parts = files.segments(data)
    return files.jpeg((m, change(c) if m == marker else c) for m, c in parts)


def _other_frame(data: bytes, marker: int) -> bytes:
    """Return a JPEG with another marker for its frame, at the same length."""
    parts = files.segments(data)
    return files.jpeg((marker if m in (0xC0, 0xC2) else m, c) for m, c in parts)


_ADOBE = b"Adobe\0\x64\0\0\0\0"
_JPEG_SPECIALS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bytes between markers": lambda data, rng: files.jpeg(
        files.segments(data), bytes(rng.randint(1, 9))
    ),
    "fill bytes before markers": lambda data, rng: files.jpeg(
        files.segments(data), b"\xff" * rng.randint(1, 3)
    ),
    "odd JFIF field": lambda data, rng: _replaced(
        data, 0xE0, lambda content: content[:5] + b"\7" + content[6:]
    ),
    "odd Adobe field": lambda data, rng: _with_segment(data, 0xEE, _ADOBE + b"\7"),
    "broken ICC profile": lambda data, rng: _with_segment(
        data, 0xE2, b"ICC_PROFILE\0\7\2nothing"
    ),
    "comment": lambda data, rng: _with_segment(data, 0xFE, b"left wrist"),
    "bytes after the end": lambda data, rng: data + b"\xff\xd8\xff" + bytes(50),
    "thumbnail": lambda data, rng: _with_segment(data, 0xE1, b"XXXX" + data[:900]),
    "odd Exif": lambda data, rng: _with_segment(data, 0xE1, b"Exif\0\0MM\0*\xff\xff"),
    "lossless": lambda data, rng: _other_frame(data, 0xC3),
    "arithmetic coding": lambda data, rng: _other_frame(data, 0xC9),
    "hierarchical": lambda data, rng: _other_frame(data, 0xC5),
    "12 bits": lambda data, rng: bytes(
        imagecodecs.jpeg8_encode(
            files.samples(film(rng), 12)[..., 0], level=90, bitspersample=12
        )
    ),
    "no height (DNL)": lambda data, rng: _replaced(
        _other_frame(data, 0xC0), 0xC0, lambda c: c[:1] + b"\0\0" + c[3:]
    ),
}
_UNCERTAIN = (
    "lossless",
    "arithmetic coding",
    "hierarchical",
    "12 bits",
    "no height (DNL)",
)


def jpegs(rng: random.Random, number: int) -> Iterator[Sample]:
    """Yield JPEGs."""
    for _ in range(number):
        kind = rng.choice(["gray", "gray", "YCbCr", "YCbCr", "RGB"])
        data = _jpeg_parts(rng, film(rng), kind)
        shown = independent(data, "JPEG")
        special = rng.choice(
            [*_JPEG_SPECIALS, *DAMAGES, "changed bytes", "CMYK", "no end", *[""] * 12]
        )
        name = f"{kind}, 8 bits"
        if special in _JPEG_SPECIALS:
            name, data = special, _JPEG_SPECIALS[special](data, rng)
            shown = None if special in _UNCERTAIN else shown
        elif special == "CMYK":
            buffer = io.BytesIO()
            cmyk = Image.fromarray(files.samples(film(rng), 8, 4), "CMYK")
            cmyk.save(buffer, "JPEG")
            name, data, shown = "CMYK", buffer.getvalue(), None
        elif special == "no end":
            name, data = "cut short", data[:-2]
        elif special in DAMAGES:
            start = data.index(b"\xff\xda") + 12
            name, data, shown = special, damaged(data, special, rng, start), None
        elif rng.random() < 0.5:
            orientation = rng.randint(1, 8)
            content = b"Exif\0\0" + exif(orientation, rng)
            data = _with_segment(data, 0xE1, content, rng.randint(0, 1))
            shown = turned(shown, orientation)
        yield Sample("JPEG", name, data, shown)


# --- TIFF ---

_WITH_COMPRESSION = {
    2: "CCITT",
    4: "CCITT",
    6: "old JPEG",
    34712: "JPEG 2000",
    34925: "LZMA",
    34933: "PNG",
    50000: "Zstandard",
    50001: "WebP",
    65000: "unknown",
}
_PHOTOMETRICS = {0: "white is zero", 1: "black is zero", 2: "RGB", 3: "palette"}


def _tiff_pixels(
    rng: random.Random, photometric: int, bits: int
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return samples, what they show, and the tags that they need."""
    samples = files.samples(film(rng), bits, 3 if photometric == 2 else 1)
    shown, tags = gray(samples, bits), {}
    if photometric == 0:
        samples = (((1 << bits) - 1) - samples).astype(samples.dtype)
    if photometric == 3:
        table = palette_of(rng, 1 << bits) * 257 + rng.randrange(-128, 128)
        shown = (table / 257 @ LUMA)[samples[..., 0]]
        tags["t320"] = (3, table.T.ravel().tolist())
    return samples, shown, tags


def _with_channels(
    samples: np.ndarray, rng: random.Random, extra: list[int]
) -> np.ndarray:
    more = [np.full_like(samples[..., :1], rng.randrange(200)) for _ in extra]
    return np.concatenate([samples, *more], axis=2)


def tiffs(rng: random.Random, number: int) -> Iterator[Sample]:
    """Yield TIFFs."""
    specials = [
        *(
            "alpha",
            "channel without a meaning",
            "premultiplied alpha",
            "further channels",
        ),
        *("signed", "floating point", "CMYK", "CIELAB", "YCbCr, uncompressed"),
        *("JPEG, gray", "JPEG, YCbCr", "JPEG, RGB", "reversed bits"),
        *("two pages", "a reduced page before", "a reduced page after", "a mask"),
        *("BigTIFF", "palette of 8-bit colours", "floating-point predictor"),
        *("missing strips", "different bits", "predictor without compression"),
        *(f"{name} compression" for name in sorted({*_WITH_COMPRESSION.values()})),
        *DAMAGES,
    ]
    for index in range(number):
        # Half of them have no speciality; each speciality is as frequent as another.
        special = specials[index // 2 % len(specials)] if index % 2 else ""
        yield _tiff(rng, special)


def _tiff(rng: random.Random, special: str) -> Sample:
    bits = rng.choice([1, 2, 4, 8, 8, 10, 12, 14, 16, 16])
    photometric = rng.choice([0, 1, 1, 2, 3] if bits <= 8 else [0, 1, 2])
    order = rng.choice("<>")
    compression = rng.choice([1, 5, 8, 32946, 32773])
    if special:  # of the usual kinds, so that nothing else is special
        bits, photometric = rng.choice([8, 16]), rng.choice([0, 1, 2])
    options: dict[str, Any] = {
        "compression": compression,
        "planar": rng.random() < 0.3,
        "tile": rng.choice([(), (), (16, 32)]),
        "rows_per_strip": rng.choice([None, 1, 7]),
        "order": order,
    }
    if compression not in (1, 32773) and bits in (8, 16) and photometric != 3:
        options["predictor"] = rng.choice([1, 2])
    if special in _TIFF_SPECIALS:
        return _TIFF_SPECIALS[special](rng, bits, photometric, options)
    name = f"{_PHOTOMETRICS[photometric]}, {bits} bit{'s' * (bits > 1)}"
    samples, shown, tags = _tiff_pixels(rng, photometric, bits)
    orientation = rng.randint(0, 8)
    if orientation:
        tags["t274"] = (3, [orientation])
        shown = turned(shown, orientation)
    page = files.tiff_page(samples, bits, photometric, **options, **tags)
    data = files.tiff(page, order=order)
    if special in DAMAGES:
        name, data = special, damaged(data, special, rng, 8)
        shown = shown if special == "cut short" else None
    return Sample("TIFF", name, data, shown)


def _channels(name: str, extra: list[int], is_certain: bool) -> Special:
    """Return a maker of TIFFs with further channels."""

    def make(
        rng: random.Random, bits: int, photometric: int, options: Options
    ) -> Sample:
        samples, shown, tags = _tiff_pixels(rng, photometric, bits)
        samples = _with_channels(samples, rng, extra)
        tags["t338"] = (3, extra)
        page = files.tiff_page(samples, bits, photometric, **options, **tags)
        data = files.tiff(page, order=options["order"])
        return Sample("TIFF", name, data, shown if is_certain else None)

    return make


def _tags(name: str, is_certain: bool = False, **changes: Any) -> Special:
    """Return a maker of TIFFs with other tags than their pixels."""

    def make(
        rng: random.Random, bits: int, photometric: int, options: Options
    ) -> Sample:
        samples, shown, tags = _tiff_pixels(rng, photometric, bits)
        page = files.tiff_page(samples, bits, photometric, **options, **tags)
        page.update({int(tag[1:]): value for tag, value in changes.items()})
        data = files.tiff(page, order=options["order"])
        return Sample("TIFF", name, data, shown if is_certain else None)

    return make


def _samples_of(name: str, photometric: int, colours: int, bits: int = 8) -> Special:
    """Return a maker of TIFFs in other colours."""

    def make(rng: random.Random, _: int, __: int, options: Options) -> Sample:
        samples = files.samples(film(rng), bits, colours)
        page = files.tiff_page(samples, bits, photometric, **options)
        return Sample("TIFF", name, files.tiff(page, order=options["order"]), None)

    return make


def _jpeg_tiff(name: str, photometric: int, colours: int) -> Special:
    def make(rng: random.Random, _: int, __: int, options: Options) -> Sample:
        samples = files.samples(film(rng), 8, colours)
        page = files.tiff_page(
            samples,
            8,
            photometric,
            compression=7,
            rows_per_strip=rng.choice([None, 16]),
            order=options["order"],
        )
        if colours == 3:
            page[530] = (3, [1, 1])
        data = files.tiff(page, order=options["order"])
        certain = photometric != 2
        return Sample("TIFF", name, data, _by_tifffile(data) if certain else None)

    return make


def _pages(name: str, kinds: list[int], is_certain: bool) -> Special:
    """Return a maker of TIFFs of several pages, by their subfile types."""

    def make(
        rng: random.Random, bits: int, photometric: int, options: Options
    ) -> Sample:
        pages, shown = [], None
        for kind in kinds:
            samples, seen, tags = _tiff_pixels(rng, photometric, bits)
            page = files.tiff_page(samples, bits, photometric, **options, **tags)
            if kind or rng.random() < 0.5:
                page[254] = (4, [kind])
            pages.append(page)
            shown = shown if kind else seen
        data = files.tiff(*pages, order=options["order"])
        return Sample("TIFF", name, data, shown if is_certain else None)

    return make


def _compression(name: str) -> Special:
    def make(
        rng: random.Random, bits: int, photometric: int, options: Options
    ) -> Sample:
        numbers = [n for n, other in _WITH_COMPRESSION.items() if other == name]
        samples, _, tags = _tiff_pixels(rng, photometric, bits)
        page = files.tiff_page(
            samples,
            bits,
            photometric,
            **{**options, "compression": rng.choice(numbers), "predictor": 1},
            **tags,
        )
        data = files.tiff(page, order=options["order"])
        return Sample("TIFF", f"{name} compression", data, None)

    return make


def _big(rng: random.Random, bits: int, photometric: int, options: Options) -> Sample:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, files.samples(film(rng), bits)[..., 0], bigtiff=True)
    return Sample("TIFF", "BigTIFF", buffer.getvalue(), None)


def _floating_point(
    rng: random.Random, bits: int, photometric: int, options: Options
) -> Sample:
    buffer = io.BytesIO()
    pixels = film(rng).astype(rng.choice(["f2", "f4", "f8"]))
    tifffile.imwrite(buffer, pixels, photometric="minisblack")
    return Sample("TIFF", "floating point", buffer.getvalue(), None)


def _uncompressed_predictor(
    rng: random.Random, bits: int, photometric: int, options: Options
) -> Sample:
    options = {**options, "compression": rng.choice([1, 32773]), "predictor": 2}
    return _tags("predictor without compression")(rng, bits, photometric, options)


def _palette_of_8(
    rng: random.Random, bits: int, photometric: int, options: Options
) -> Sample:
    colours = [rng.randrange(256) for _ in range(768)]
    options = {**options, "predictor": 1}
    maker = _tags("palette of 8-bit colours", t262=(3, [3]), t320=(3, colours))
    return maker(rng, 8, 1, options)


_TIFF_SPECIALS: dict[str, Special] = {
    "alpha": _channels("alpha", [2], True),
    "channel without a meaning": _channels("channel without a meaning", [0], True),
    "premultiplied alpha": _channels("premultiplied alpha", [1], False),
    "further channels": _channels("further channels", [0, 0], False),
    "signed": _tags("signed", t339=(3, [2])),
    "floating point": _floating_point,
    "CMYK": _samples_of("CMYK", 5, 4),
    "CIELAB": _samples_of("CIELAB", 8, 3),
    "YCbCr, uncompressed": _samples_of("YCbCr, uncompressed", 6, 3),
    "JPEG, gray": _jpeg_tiff("JPEG, gray", 1, 1),
    "JPEG, YCbCr": _jpeg_tiff("JPEG, YCbCr", 6, 3),
    "JPEG, RGB": _jpeg_tiff("JPEG, RGB", 2, 3),
    "reversed bits": _tags("reversed bits", t266=(3, [2])),
    "two pages": _pages("two pages", [0, 0], False),
    "a reduced page before": _pages("a reduced page before", [1, 0], True),
    "a reduced page after": _pages("a reduced page after", [0, 1], True),
    "a mask": _pages("a mask", [0, 4], True),
    "BigTIFF": _big,
    "palette of 8-bit colours": _palette_of_8,
    "floating-point predictor": _tags("floating-point predictor", t317=(3, [3])),
    "missing strips": _tags("missing strips", t257=(4, [400])),
    "different bits": _tags("different bits", t258=(3, [8, 16, 8])),
    "predictor without compression": _uncompressed_predictor,
    **{
        f"{name} compression": _compression(name) for name in _WITH_COMPRESSION.values()
    },
}


# --- others ---


def others(rng: random.Random, number: int) -> Iterator[Sample]:
    """Yield files of formats that are not read, most of which OpenCV knows."""
    writers = {
        "Sun raster": lambda pixels: _by_opencv(".ras", pixels[..., 0]),
        "Netpbm": lambda pixels: _by_opencv(rng.choice([".ppm", ".pnm"]), pixels),
        "Netpbm, gray": lambda pixels: _by_opencv(".pgm", pixels[..., 0]),
        "Radiance HDR": lambda pixels: _by_opencv(".hdr", pixels.astype(np.float32)),
        "PFM": lambda pixels: _by_opencv(".pfm", pixels.astype(np.float32)),
        "WebP": lambda pixels: _by_opencv(".webp", pixels),
        "JPEG 2000": lambda pixels: bytes(
            imagecodecs.jpeg2k_encode(pixels, codecformat=rng.choice(["jp2", "j2k"]))
        ),
        "GIF": lambda pixels: _by_pillow("GIF", pixels),
        "ICO": lambda pixels: _by_pillow("ICO", pixels),
        "Targa": lambda pixels: _by_pillow("TGA", pixels),
        "PDF": lambda pixels: _by_pillow("PDF", pixels),
    }
    for index in range(number):
        kind = list(writers)[index % len(writers)]
        pixels = files.samples(film(rng), 8, 3)
        yield Sample("other formats", kind, writers[kind](pixels), None)


def _by_opencv(suffix: str, pixels: np.ndarray) -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def _by_pillow(kind: str, pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()
