"""Decompression of PNG's scanlines and of TIFF's strips and tiles.

Owns deflate, PackBits and LZW (TIFF 6.0, sections 9 and 13), so that damage is always
noticed: libpng and libtiff return success, or write on the terminal. Must not know
formats.
"""

from __future__ import annotations

from isal import isal_zlib

from xenon_mx.errors import XenonError

_CLEAR, _END = 256, 257  # codes of LZW
_FIRST_BITS, _MOST_BITS = 9, 12


def inflate(data: bytes, most: int) -> bytes:
    """Decompress zlib's deflate, a third as slow as zlib does (ISA-L).

    Args:
        data: The compressed bytes.
        most: The number of bytes to expect at most.

    Raises:
        XenonError: The data are damaged, or decompress to more.
    """
    stream = isal_zlib.decompressobj()
    try:
        plain = stream.decompress(data, most + 1)  # one more reaches the checksum
    except isal_zlib.error as error:  # type: ignore[misc]  # a stub's mistake
        raise XenonError("damaged: its compressed pixels have been changed") from error
    if not stream.eof:
        raise XenonError("damaged: its compressed pixels have another size")
    return plain


def unpack_bits(data: bytes, most: int) -> bytes:
    """Decompress PackBits: runs, each after a byte that tells its length.

    Args:
        data: The compressed bytes.
        most: The number of bytes to expect at most.

    Raises:
        XenonError: The data are damaged, or decompress to more.
    """
    parts, position, size = [], 0, 0
    while position < len(data) and size < most:
        head = data[position]
        if head < 128:  # so many bytes, and one more, as they are
            part = data[position + 1 : position + 2 + head]
            position += 2 + head
        elif head > 128:  # one byte, repeated
            part = data[position + 1 : position + 2] * (257 - head)
            position += 2
        else:
            part = b""
            position += 1
        parts.append(part)
        size += len(part)
    if position > len(data) or size > most:
        raise XenonError("damaged: its compressed pixels have another size")
    return b"".join(parts)


def unpack_lzw(data: bytes, most: int) -> bytes:
    """Decompress LZW: codes of 9 to 12 bits for strings that were seen before.

    Args:
        data: The compressed bytes.
        most: The number of bytes to expect at most.

    Raises:
        XenonError: The data are damaged, or decompress to more.
    """
    if data[:1] != b"\x80":  # the code to clear comes first, of nine bits
        raise XenonError("a TIFF with LZW of before TIFF 6.0: store it as PNG")
    strings, parts, size = _LzwStrings(), [], 0
    window = held = 0  # bits that are not used yet, and how many
    for byte in data:
        window, held = window << 8 | byte, held + 8
        if held < strings.bits:
            continue
        held -= strings.bits
        code, window = window >> held, window & ((1 << held) - 1)
        if code == _END:
            break
        if code == _CLEAR:
            strings.clear()
            continue
        parts.append(strings.look_up(code))
        size += len(parts[-1])
        if size > most:
            raise XenonError("damaged: its compressed pixels have another size")
    return b"".join(parts)


class _LzwStrings:
    """The strings of LZW's codes, of which each code but the first adds one.

    Attributes:
        bits: Of the next code.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.bits = _FIRST_BITS
        self._strings = [bytes([value]) for value in range(256)] + [b"", b""]
        self._previous = b""

    def look_up(self, code: int) -> bytes:
        strings, previous = self._strings, self._previous
        if code < len(strings) and (previous or code < _CLEAR):
            string = strings[code]
        elif code == len(strings) and previous:  # the one that it adds itself
            string = previous + previous[:1]
        else:
            raise XenonError("damaged: an unknown code in its LZW")
        if previous:
            strings.append(previous + string[:1])
            # One code early, as all programs have it since the first did.
            if len(strings) == (1 << self.bits) - 1:
                self.bits = min(self.bits + 1, _MOST_BITS)
            if len(strings) > 1 << _MOST_BITS:
                raise XenonError("damaged: too many codes in its LZW")
        self._previous = string
        return string
