"""Decoding of TIFF files.

Owns the tags of TIFF 6.0 and how the pixels follow from them. Only what has one meaning
is read; everything else is refused by name. `compression` decompresses its strips.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Sequence

import numpy as np

from xenon_mx.errors import XenonError
from xenon_mx.formats import compression, ifd, jpeg, pixels
from xenon_mx.formats.ifd import Tags
from xenon_mx.runtime.text import counted

# Tags, by TIFF 6.0.
_SUBFILE_TYPE, _OLD_SUBFILE_TYPE = 254, 255
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_FILL_ORDER, _SAMPLES, _ROWS_PER_STRIP, _PLANAR, _PREDICTOR = 266, 277, 278, 284, 317
_STRIPS = (273, 279)  # their offsets and sizes in bytes
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS = 322, 323, 324
_TILES = (_TILE_OFFSETS, 325)
_COLOUR_MAP, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _JPEG_TABLES = 320, 338, 339, 347
_DESCRIPTION = 270
_TAGS = frozenset(
    (
        *(_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION),
        *(_PHOTOMETRIC, _FILL_ORDER, _SAMPLES, _ROWS_PER_STRIP, _PLANAR, _PREDICTOR),
        *(*_STRIPS, *_TILES, _TILE_WIDTH, _TILE_HEIGHT, _COLOUR_MAP, _EXTRA_SAMPLES),
        *(_SAMPLE_FORMAT, _JPEG_TABLES, _DESCRIPTION, ifd.ORIENTATION),
    )
)

_NOT_THE_IMAGE = 0b101  # bits of the subfile type: a reduced copy, a mask
_OLD_REDUCED = 2
_UNCOMPRESSED, _LZW, _JPEG, _PACK_BITS = 1, 5, 7, 32773
_DEFLATE = (8, 32946)
_UNPACK = {
    _LZW: compression.unpack_lzw,
    _PACK_BITS: compression.unpack_bits,
    **dict.fromkeys(_DEFLATE, compression.inflate),
}
_COMPRESSIONS = {
    2: "CCITT",
    3: "CCITT",
    4: "CCITT",
    6: "old JPEG",
    34712: "JPEG 2000",
    34925: "LZMA",
    34933: "PNG",
    50000: "Zstandard",
    50001: "WebP",
}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_PHOTOMETRICS = {
    2: "RGB",
    3: "a palette",
    4: "mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELAB",
    9: "ICCLAB",
}
_SAMPLE_BITS = (2, 4, 8, 10, 12, 14, 16)
_CHUNKY, _PLANES = 1, 2
_PREMULTIPLIED = 1  # of ExtraSamples
_UNSIGNED = 1
# Beyond 4 GB, and for some programs always, a stack has only its first page.
_IMAGEJ_STACK = re.compile(rb"\AImageJ=.*^images=(\d{1,9})$", re.DOTALL | re.MULTILINE)
_NO_PREDICTOR, _DIFFERENCES = 1, 2
_SAVE_AS = "store it as PNG, or as a TIFF without compression"


@dataclass(frozen=True)
class _Layout:
    """How a page's samples lie in its strips or tiles, which are its blocks.

    Attributes:
        width: Of the page, px.
        height: Of the page, px.
        bits: Of a sample.
        samples: Of a pixel, alpha included.
        planes: 1, or `samples` if each has blocks of its own.
        block_width: Of a block, px.
        block_height: Of a block, px; the last strip may have less.
        is_tiled: Whether the blocks are tiles.
    """

    width: int
    height: int
    bits: int
    samples: int
    planes: int
    block_width: int
    block_height: int
    is_tiled: bool

    @property
    def depth(self) -> int:
        """Return the samples of a pixel in a block."""
        return self.samples // self.planes

    @property
    def row_bytes(self) -> int:
        """Return the bytes of a row of a block."""
        return (self.block_width * self.depth * self.bits + 7) // 8

    def rows(self, top: int) -> int:
        """Return the rows of the block whose first row is `top`."""
        left = self.height - top
        return self.block_height if self.is_tiled else min(self.block_height, left)


def decode(data: bytes) -> np.ndarray:
    """Decode a TIFF to upright (H, W) uint8 gray.

    Colours and palettes become luma, alpha is dropped, and fewer or more than 8 bits
    are scaled to 8.

    Raises:
        XenonError: The file is damaged, has not exactly one image, or is of a kind that
            cannot be read with certainty; the reason names it.
        MemoryError: There is too little memory for the image.
    """
    tags = _only_image(ifd.read_pages(data, _TAGS))
    _check_kind(tags)
    layout = _layout(tags)
    samples = _samples(data, tags, layout)
    if tags[_PHOTOMETRIC][0] == _RGB:
        gray = pixels.luma(samples[:, :, :3], layout.bits)
    else:
        gray = _grays(tags, layout.bits)[samples[:, :, 0]]
    return pixels.upright(gray, _number(tags, ifd.ORIENTATION, 1))


def _number(tags: Tags, tag: int, absent: int | None = None) -> int:
    """Return the first number of a tag."""
    value = tags.get(tag)
    if not value and absent is None:
        raise XenonError(f"a damaged TIFF: it has no tag {tag}")
    return ifd.first(value, absent or 0)


def _only_image(pages: Sequence[Tags]) -> Tags:
    """Return the only page that is neither a reduced copy nor a mask."""
    images = [
        tags
        for tags in pages
        if not _number(tags, _SUBFILE_TYPE, 0) & _NOT_THE_IMAGE
        and _number(tags, _OLD_SUBFILE_TYPE, 0) != _OLD_REDUCED
    ]
    if not images:
        raise XenonError("a TIFF without a page of full size")
    count = max(len(images), _stacked(images[0]))
    if count > 1:
        raise XenonError(f"a TIFF of {counted(count, 'page')}: store each as a file")
    return images[0]


def _stacked(tags: Tags) -> int:
    """Return the number of images that ImageJ says follow a page without pages."""
    match = _IMAGEJ_STACK.search(bytes(n & 0xFF for n in tags.get(_DESCRIPTION, ())))
    return int(match[1]) if match else 1


# --- what is read ---


def _check_kind(tags: Tags) -> None:
    """Check that the pixels of a page have only one meaning."""
    compression = _number(tags, _COMPRESSION, _UNCOMPRESSED)
    if compression not in (_UNCOMPRESSED, _JPEG, *_UNPACK):
        name = _COMPRESSIONS.get(compression, "unknown")
        raise XenonError(f"a TIFF with {name} compression ({compression}): {_SAVE_AS}")
    _check_photometric(tags, compression)
    if {*tags.get(_SAMPLE_FORMAT, ())} - {_UNSIGNED}:
        raise XenonError(
            "a TIFF of signed or floating-point pixels, of which no value is black for "
            "certain: store it with 16 bits, unsigned"
        )
    if _number(tags, _FILL_ORDER, 1) != 1:
        raise XenonError(f"a TIFF with its bits in reverse (FillOrder 2): {_SAVE_AS}")
    if _PREMULTIPLIED in tags.get(_EXTRA_SAMPLES, ()):
        raise XenonError("a TIFF with premultiplied alpha: store it without alpha")
    predictor = _number(tags, _PREDICTOR, _NO_PREDICTOR)
    is_differences = predictor == _DIFFERENCES and compression in (_LZW, *_DEFLATE)
    if predictor != _NO_PREDICTOR and not is_differences:
        raise XenonError(f"a TIFF with predictor {predictor}: {_SAVE_AS}")


def _check_photometric(tags: Tags, compression: int) -> None:
    """Check what the samples mean, which JPEG decides for itself unless it is luma."""
    photometric = _number(tags, _PHOTOMETRIC)
    known = {_WHITE_IS_ZERO, _BLACK_IS_ZERO}
    known |= {_YCBCR} if compression == _JPEG else {_RGB, _PALETTE}
    if photometric not in known:
        name = _PHOTOMETRICS.get(photometric, "other colours")
        also = ", compressed as JPEG" if compression == _JPEG else ""
        raise XenonError(
            f"a TIFF in {name} (photometric interpretation {photometric}){also}: store "
            f"it in gray"
        )


def _layout(tags: Tags) -> _Layout:
    """Return how the samples lie; check that it is a layout that is read."""
    width, height = _number(tags, _WIDTH), _number(tags, _HEIGHT)
    pixels.check_size(width, height)
    bits, samples, planes = _bits(tags), _sample_count(tags), 1
    if _number(tags, _COMPRESSION, _UNCOMPRESSED) == _JPEG:
        if bits != 8:
            raise XenonError(f"a TIFF with {bits} bits, compressed as JPEG: {_SAVE_AS}")
        samples = 1  # the luma that is decoded of them
    elif _number(tags, _PLANAR, _CHUNKY) == _PLANES:
        planes = samples
    is_tiled = _TILE_OFFSETS in tags
    block_width, block_height = width, _number(tags, _ROWS_PER_STRIP, height)
    block_height = min(block_height, height)  # often 2 ** 32 - 1 for a single strip
    if is_tiled:
        block_width, block_height = (
            _number(tags, _TILE_WIDTH),
            _number(tags, _TILE_HEIGHT),
        )
    pixels.check_size(block_width, block_height)
    if is_tiled:  # what is beyond the image is decompressed as well
        across, down = -(-width // block_width), -(-height // block_height)
        pixels.check_size(across * block_width, down * block_height)
    return _Layout(
        width=width,
        height=height,
        bits=bits,
        samples=samples,
        planes=planes,
        block_width=block_width,
        block_height=block_height,
        is_tiled=is_tiled,
    )


def _bits(tags: Tags) -> int:
    """Return the bits of a sample, the same for all samples of a pixel."""
    every = {*tags.get(_BITS, (1,))}
    bits = _number(tags, _BITS, 1)
    if every != {bits} or bits not in _SAMPLE_BITS:
        names = " and ".join(str(number) for number in sorted(every))
        raise XenonError(f"a TIFF with {names} bits a sample: store it with 8 or 16")
    is_differences = _number(tags, _PREDICTOR, _NO_PREDICTOR) == _DIFFERENCES
    if is_differences and bits not in (8, 16):
        raise XenonError(f"a TIFF with {bits} bits and a predictor: {_SAVE_AS}")
    return bits


def _sample_count(tags: Tags) -> int:
    """Return the samples of a pixel: those of its colours, and alpha at most."""
    samples = _number(tags, _SAMPLES, 1)
    colours = 3 if tags[_PHOTOMETRIC][0] in (_RGB, _YCBCR) else 1
    extra = len(tags.get(_EXTRA_SAMPLES, ()))
    if samples != colours + extra or extra > 1:
        raise XenonError(
            f"a TIFF of {samples} samples a pixel: store it in gray, without further "
            f"channels"
        )
    return samples


# --- pixels ---


def _grays(tags: Tags, bits: int) -> np.ndarray:
    """Return the gray of every value of a sample: (2 ** bits,) uint8."""
    photometric = _number(tags, _PHOTOMETRIC)
    if photometric == _PALETTE:
        return _palette(tags, bits)
    return pixels.grays(bits)[:: -1 if photometric == _WHITE_IS_ZERO else 1]


def _palette(tags: Tags, bits: int) -> np.ndarray:
    """Return the gray of a palette's colours: (2 ** bits,) uint8."""
    colours = np.asarray(tags.get(_COLOUR_MAP, ()))
    if bits > 8 or len(colours) != 3 << bits:
        raise XenonError("a damaged TIFF: its palette does not fit its bits")
    if colours.max() < 256:
        # By TIFF 6.0 nearly black; some programs take such a palette for one of 8 bits.
        raise XenonError(f"a TIFF with a palette of 8 bits instead of 16: {_SAVE_AS}")
    return pixels.luma_of_palette(colours.reshape(3, -1).T, 65535)


def _samples(data: bytes, tags: Tags, layout: _Layout) -> np.ndarray:
    """Decode all blocks: (H, W, samples) uint8 or uint16."""
    tags_of_blocks = _TILES if layout.is_tiled else _STRIPS
    offsets, sizes = (tags.get(tag, ()) for tag in tags_of_blocks)
    across = -(-layout.width // layout.block_width)
    blocks = across * -(-layout.height // layout.block_height)
    if not len(offsets) == len(sizes) == blocks * layout.planes:
        raise XenonError("a damaged TIFF: strips or tiles are missing")
    dtype = np.uint8 if layout.bits <= 8 else np.uint16
    image = np.empty((layout.height, layout.width, layout.samples), dtype)
    for number, (offset, size) in enumerate(zip(offsets, sizes)):
        if offset + size > len(data):
            raise XenonError("the TIFF file is cut short")
        plane, position = divmod(number, blocks)
        top = position // across * layout.block_height
        left = position % across * layout.block_width
        rows = layout.rows(top)
        block = _block(data[offset : offset + size], tags, layout, rows)
        if layout.bits == 16 and ifd.byte_order(data) != ifd.NATIVE:
            block = block.byteswap()
        if _number(tags, _PREDICTOR, _NO_PREDICTOR) == _DIFFERENCES:
            block = np.cumsum(block, axis=1, dtype=dtype)
        first = plane * layout.depth
        part = image[top : top + rows, left:, first : first + layout.depth]
        part = part[:, : layout.block_width]
        part[:] = block[: part.shape[0], : part.shape[1]]
    return image


def _block(content: bytes, tags: Tags, layout: _Layout, rows: int) -> np.ndarray:
    """Decode one block: (rows, block_width, depth), 16 bits in the file's order."""
    shape = (rows, layout.block_width, layout.depth)
    compression = _number(tags, _COMPRESSION, _UNCOMPRESSED)
    if compression == _JPEG:
        tables = tags.get(_JPEG_TABLES, ())
        if max(tables, default=0) > 255:
            raise XenonError("a damaged TIFF: its JPEG tables are no bytes")
        if tables:  # each block lacks them
            content = bytes(tables)[:-2] + content[2:]
        gray = jpeg.decode_stored(content)
        if gray.shape != shape[:2]:
            raise XenonError("a damaged TIFF: a JPEG in it has another size")
        return gray.reshape(shape)
    size = rows * layout.row_bytes
    unpack = _UNPACK.get(compression)
    if unpack:
        content = unpack(content, layout.block_height * layout.row_bytes)
    if len(content) < size:
        raise XenonError("a damaged TIFF: a strip or tile is too short")
    if layout.bits == 16:
        return np.frombuffer(content, np.uint16, size // 2).reshape(shape)
    packed = np.frombuffer(content, np.uint8, size).reshape(rows, -1)
    per_row = layout.block_width * layout.depth
    return pixels.unpack(packed, layout.bits, per_row).reshape(shape)
