"""RecordIO: the bytes of a .rec file, in dmlc-core's format with MXNet's image header.

Owns packing and parsing records; must not know files or the meaning of labels. Written
in Python, so that a damaged file is found before MXNet crashes on it, and so that
packing does not wait for MXNet's import.

A record is the magic number, a word with the length in the lower 29 bits and in the
upper 3 whether it is whole (0) or the first, middle or last part (1, 2, 3) of a payload
that contains the magic, and the payload padded to 4 bytes. An image's payload is
MXNet's `IRHeader` (`flag` the number of labels, a scalar label, `id`, `id2`), the
labels as float32, and the image file. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from typing import Iterator, NamedTuple, Protocol, Sequence

import numpy as np

from xenon_mx.runtime import text

LABEL_WIDTH = 3  # abnormal, study type, study

_MAGIC = struct.pack("<I", 0xCED7230A)
_WORD = struct.Struct("<I")
_HEADER = struct.Struct("<IfQQ")  # flag, label, id, id2
_LABELS = struct.Struct(f"<{LABEL_WIDTH}f")
_LENGTH_BITS = 29
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)


class DamageError(Exception):
    """Bytes that are not records, or damaged records."""


class Record(NamedTuple):
    """One image of a .rec file.

    Attributes:
        offset: Its start in the file, in bytes.
        number: The `id` in its header.
        labels: (3,) float32.
        image: The encoded image.
    """

    offset: int
    number: int
    labels: np.ndarray
    image: bytes


def pack(number: int, labels: Sequence[int], image: bytes) -> bytes:
    """Return the record of an encoded image.

    Args:
        number: The `id` in its header.
        labels: Three numbers that float32 represents exactly.
        image: The encoded image, under 512 MB.
    """
    payload = _HEADER.pack(LABEL_WIDTH, 0.0, number, 0) + _LABELS.pack(*labels) + image
    if len(payload) >= 1 << _LENGTH_BITS:
        raise ValueError(
            f"an image of {text.counted(len(image), 'byte')} does not fit a record"
        )
    parts = _split_at_magic(payload)
    record = b""
    for i, part in enumerate(parts):
        kind = _MIDDLE if i else _FIRST
        if i == len(parts) - 1:
            kind = _LAST if i else _WHOLE
        record += _MAGIC + _WORD.pack(kind << _LENGTH_BITS | len(part)) + part
    return record + bytes(-len(record) % 4)


def _split_at_magic(payload: bytes) -> list[bytes]:
    """Split a payload at every magic that a reader could take for a new record."""
    parts, start = [], 0
    position = payload.find(_MAGIC)
    while position >= 0:
        is_aligned = position % 4 == 0
        if is_aligned:
            parts.append(payload[start:position])
            start = position + 4
        # No match is missed: the magic does not overlap itself.
        position = payload.find(_MAGIC, position + (4 if is_aligned else 1))
    return [*parts, payload[start:]]


class Reader(Protocol):
    """What `read` needs of an open binary file."""

    def read(self, size: int, /) -> bytes:
        """Read up to a number of bytes."""

    def tell(self) -> int:
        """Return the position in the file."""


def read(rec: Reader) -> Iterator[Record]:
    """Yield every record of an open .rec file.

    Raises:
        DamageError: At the first bytes that are not a record.
    """
    parts: list[bytes] = []
    start = offset = 0
    while True:
        kind, part = _read_part(rec, offset)
        if kind is None and not parts:
            return
        if (kind in (_WHOLE, _FIRST)) == bool(parts) or kind is None:
            raise DamageError(f"a record is cut short at byte {offset}")
        start = start if parts else offset
        parts.append(part)
        offset = rec.tell()
        if kind in (_WHOLE, _LAST):
            yield _unpack(start, _MAGIC.join(parts))
            parts = []


def _read_part(rec: Reader, offset: int) -> tuple[int | None, bytes]:
    """Read the kind and payload of one part of a record; (None, b"") at the end."""
    head = rec.read(8)
    if not head:
        return None, b""
    if len(head) < 8 or head[:4] != _MAGIC:
        raise DamageError(f"no record begins at byte {offset}")
    (word,) = _WORD.unpack(head[4:])
    kind, length = word >> _LENGTH_BITS, word & ((1 << _LENGTH_BITS) - 1)
    padded = length + -length % 4
    data = rec.read(padded)
    if len(data) < padded or kind > _LAST:
        raise DamageError(f"a record is cut short at byte {offset}")
    return kind, data[:length]


def _unpack(offset: int, payload: bytes) -> Record:
    image_start = _HEADER.size + _LABELS.size
    if len(payload) <= image_start or _HEADER.unpack_from(payload)[0] != LABEL_WIDTH:
        raise DamageError(
            f"the record at byte {offset} has no image with {LABEL_WIDTH} labels"
        )
    labels = np.array(_LABELS.unpack_from(payload, _HEADER.size), np.float32)
    number = _HEADER.unpack_from(payload)[2]
    return Record(offset, number, labels, payload[image_start:])
