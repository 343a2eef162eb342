"""Reading of TensorBoard event files, with tensorboardX's protobuf messages."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Iterator

from tensorboardX.proto.event_pb2 import Event


def read(file: Path) -> list[Event]:
    """Return the events of a file, after a check of their checksums."""
    return list(_events(file.read_bytes()))


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """Return (step, value) of a tag in all event files of a folder, in order."""
    return [(event.step, value) for event, value in _of(folder, tag)]


def wall_times(folder: Path, tag: str) -> list[float]:
    """Return the Unix times of a tag's values, in the order of `scalars`."""
    return [event.wall_time for event, _ in _of(folder, tag)]


def _of(folder: Path, tag: str) -> Iterator[tuple[Event, float]]:
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for event in read(file):
            for value in event.summary.value:
                if value.tag == tag:
                    yield event, value.simple_value


def _events(content: bytes) -> Iterator[Event]:
    at = 0
    while at < len(content):  # u64 length, u32 CRC, message, u32 CRC
        length, length_crc = struct.unpack_from("<QI", content, at)
        message = content[at + 12 : at + 12 + length]
        (message_crc,) = struct.unpack_from("<I", content, at + 12 + length)
        assert length_crc == _masked(content[at : at + 8])
        assert message_crc == _masked(message)
        yield Event.FromString(message)
        at += 16 + length


def _masked(data: bytes) -> int:
    """Return the CRC-32C by RFC 3720, masked as in TensorFlow's TFRecord."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
