"""Writers of PNG, JPEG, BMP and TIFF files for tests: every kind, and odd ones.

They write what a test asks for, whether it makes sense or not, and share no code with
the readers. Samples are (H, W, samples) of uint8 or uint16.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, Iterable, Sequence

import imagecodecs
import numpy as np


def drawing(height: int = 48, width: int = 37) -> np.ndarray:
    """Return a film with no symmetry: (height, width), from 0.08 to 0.95 of white.

    A gradient like soft tissue, a bright bone, and a marker in one corner.
    """
    rows, columns = np.mgrid[:height, :width] / np.array([height, width]).reshape(
        2, 1, 1
    )
    film = 0.08 + 0.35 * rows + 0.2 * columns**2
    film += 0.32 * np.exp(-(((columns - 0.35 - 0.2 * rows) / 0.13) ** 2))
    film[2 : height // 8, 2 : width // 5] = 0.95
    return film


def samples(film: np.ndarray, bits: int, colours: int = 1) -> np.ndarray:
    """Return a film as samples of a number of bits: (H, W, colours).

    With three colours, each has a tint of its own.
    """
    tints = np.linspace(1, 0.7, colours)
    values = np.rint(film[..., None] * tints * ((1 << bits) - 1))
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def packed(rows: np.ndarray, bits: int, order: str = ">") -> bytes:
    """Return rows of samples (H, n), each row from a byte of its own on.

    Args:
        rows: The samples.
        bits: Of each; those of 16 are written in a byte order, others high bit first.
        order: `<` or `>`.
    """
    if bits == 16:
        return rows.astype(f"{order}u2").tobytes()
    shifts = np.arange(bits - 1, -1, -1)
    bit = (rows[..., None] >> shifts & 1).astype(np.uint8)
    return np.packbits(bit.reshape(len(rows), -1), axis=1).tobytes()


# --- PNG ---

# Adam7's passes: first row and column, and the steps of both.
_PASSES = [
    *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4)),
    *((0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
]


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG with its checksum."""
    return b"".join(
        [
            struct.pack(">I", len(content)),
            kind,
            content,
            struct.pack(">I", zlib.crc32(kind + content)),
        ]
    )


def png(
    pixels: np.ndarray,
    bits: int,
    colour_type: int,
    interlaced: bool = False,
    before: Iterable[bytes] = (),
    palette: bytes = b"",
) -> bytes:
    """Return a PNG.

    Args:
        pixels: Its samples.
        bits: Of a sample.
        colour_type: 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGB and alpha.
        interlaced: Whether it is stored in Adam7's seven passes.
        before: Further chunks, between the header and the palette.
        palette: Red, green and blue of each colour.
    """
    height, width = pixels.shape[:2]
    passes = _PASSES if interlaced else [(0, 0, 1, 1)]
    lines = b"".join(
        b"".join(
            b"\0" + line
            for line in _lines(pixels[top::down, left::right], bits)
            if pixels[top::down, left::right].size
        )
        for top, left, down, right in passes
    )
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlaced)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *before,
            *([chunk(b"PLTE", palette)] if palette else []),
            chunk(b"IDAT", zlib.compress(lines)),
            chunk(b"IEND", b""),
        ]
    )


def _lines(pixels: np.ndarray, bits: int) -> list[bytes]:
    return [packed(row.reshape(1, -1), bits) for row in pixels]


# --- BMP ---


def bmp(
    pixels: np.ndarray,
    bits: int,
    palette: bytes = b"",
    header: int = 40,
    compression: int = 0,
    top_down: bool = False,
    extra: bytes = b"",
) -> bytes:
    """Return a Windows bitmap.

    Args:
        pixels: Indices, or blue, green and red (and a fourth byte) of each pixel.
        bits: Of a pixel.
        palette: Blue, green, red and 0 of each colour.
        header: Bytes of the header: 12 or at least 40.
        compression: 0 none, 1 RLE8, 2 RLE4, 3 bit fields.
        top_down: Whether the first row is stored first.
        extra: What follows the first 40 bytes of the header, such as masks.
    """
    height, width = pixels.shape[:2]
    rows = pixels if top_down else pixels[::-1]
    lines = [packed(row.reshape(1, -1), min(bits, 8)) for row in rows]
    body = b"".join(line + bytes(-len(line) % 4) for line in lines)
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
        palette = b"".join(palette[i : i + 3] for i in range(0, len(palette), 4))
    else:
        sign = -1 if top_down else 1
        info = struct.pack(
            *("<IiiHHIIiiII", header, width, sign * height, 1, bits, compression),
            *(len(body), 2835, 2835, len(palette) // 4, 0),
        )
        info += extra + bytes(max(0, header - 40 - len(extra)))
    start = 14 + len(info) + len(palette)
    head = struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start)
    return head + info + palette + body


# --- JPEG ---


def segments(data: bytes) -> list[tuple[int, bytes]]:
    """Split a JPEG into markers with contents; the last holds the scans and the end."""
    offset, found = 2, []
    while data[offset + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, offset + 2)
        found.append((data[offset + 1], data[offset + 4 : offset + 2 + length]))
        offset += 2 + length
    return [*found, (0xDA, data[offset:])]


def jpeg(parts: Iterable[tuple[int, bytes]], between: bytes = b"") -> bytes:
    """Join what `segments` returns, with bytes between the segments."""
    joined = b"\xff\xd8"
    for marker, content in parts:
        joined += between
        if marker == 0xDA:
            joined += content
        else:
            joined += struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
    return joined


# --- TIFF ---

_FORMS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "I", 7: "s", 9: "i", 13: "I"}


def tiff(*pages: dict[int, Any], order: str = "<", big: bool = False) -> bytes:
    """Return a TIFF of pages, each a dictionary that `tiff_page` returned."""
    data = bytearray(
        struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 0)
    )
    if big:
        data[2:4] = struct.pack(f"{order}H", 43)
    link = 4
    for page in pages:
        tags = dict(page)
        blocks = tags.pop("blocks")
        offsets = []
        for block in blocks:
            offsets.append(len(data))
            data += block + bytes(len(block) % 2)
        where, sizes = (324, 325) if 322 in tags else (273, 279)
        tags[where], tags[sizes] = (4, offsets), (4, [len(block) for block in blocks])
        entries = b""
        for tag in sorted(tags):
            kind, value = tags[tag]
            content = _values(kind, value, order)
            count = len(value)
            if len(content) > 4:
                entries += struct.pack(f"{order}HHII", tag, kind, count, len(data))
                data += content + bytes(len(content) % 2)
            else:
                entries += struct.pack(f"{order}HHI", tag, kind, count)
                entries += content + bytes(4 - len(content))
        struct.pack_into(f"{order}I", data, link, len(data))
        data += struct.pack(f"{order}H", len(tags)) + entries
        link = len(data)
        data += bytes(4)
    return bytes(data)


def _values(kind: int, value: Any, order: str) -> bytes:
    if _FORMS[kind] == "s":
        return bytes(value)
    return struct.pack(f"{order}{len(value)}{_FORMS[kind]}", *value)


def tiff_page(
    pixels: np.ndarray,
    bits: int,
    photometric: int = 1,
    compression: int = 1,
    predictor: int = 1,
    planar: bool = False,
    tile: Sequence[int] = (),
    rows_per_strip: int | None = None,
    order: str = "<",
    **tags: Any,
) -> dict[Any, Any]:
    """Return a page: its tags as type and values, and its blocks.

    Args:
        pixels: Its samples.
        bits: Of a sample.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 3 palette ...
        compression: 1 none, 5 LZW, 8 or 32946 deflate, 32773 PackBits, others.
        predictor: 2 stores differences along the rows.
        planar: Whether each sample of the pixels has blocks of its own.
        tile: Height and width of the tiles; empty for strips.
        rows_per_strip: None puts all rows into one strip.
        order: The file's byte order.
        tags: Further tags by number, as `t274=(3, [6])`.
    """
    height, width, count = pixels.shape
    page: dict[Any, Any] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * count),
        259: (3, [compression]),
        262: (3, [photometric]),
        277: (3, [count]),
        284: (3, [2 if planar else 1]),
    }
    if predictor != 1:
        page[317] = (3, [predictor])
    step = rows_per_strip or height
    block = tuple(tile) or (step, width)
    if tile:
        page[322], page[323] = (4, [tile[1]]), (4, [tile[0]])
    else:
        page[278] = (4, [step])
    planes = [pixels[..., i : i + 1] for i in range(count)] if planar else [pixels]
    page["blocks"] = [
        compressed(part, bits, compression, predictor, order)
        for plane in planes
        for part in _blocks(plane, block, bool(tile))
    ]
    page.update({int(key[1:]): value for key, value in tags.items()})
    return page


def _blocks(
    plane: np.ndarray, block: Sequence[int], is_tiled: bool
) -> Iterable[np.ndarray]:
    for top in range(0, plane.shape[0], block[0]):
        for left in range(0, plane.shape[1], block[1]):
            part = plane[top : top + block[0], left : left + block[1]]
            if is_tiled:  # the last ones are filled up
                missing = block[0] - part.shape[0], block[1] - part.shape[1]
                part = np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)))
            yield part


def compressed(
    part: np.ndarray, bits: int, compression: int, predictor: int, order: str
) -> bytes:
    """Return a strip or tile of a TIFF."""
    if predictor == 2:
        part = np.diff(part, axis=1, prepend=part[:, :1] * 0)
        part = part & np.array((1 << bits) - 1, part.dtype)
    if compression == 7:
        return bytes(
            imagecodecs.jpeg8_encode(
                part if part.shape[2] > 1 else part[..., 0], level=95
            )
        )
    plain = packed(part.reshape(len(part), -1), bits, order)
    if compression == 5:
        return bytes(imagecodecs.lzw_encode(plain))
    if compression == 32773:
        # Rows are compressed one by one (TIFF 6.0, section 9).
        size = len(plain) // len(part)
        rows = [plain[i : i + size] for i in range(0, len(plain), size)]
        return b"".join(bytes(imagecodecs.packbits_encode(row)) for row in rows)
    if compression in (8, 32946):
        return zlib.compress(plain)
    if compression == 34925:
        return bytes(imagecodecs.lzma_encode(plain))
    if compression == 50000:
        return bytes(imagecodecs.zstd_encode(plain))
    return plain
