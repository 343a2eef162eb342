"""What TensorBoard would show: its events, read by tensorboardX's own messages."""

from __future__ import annotations

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """Every (step, value) of a tag in all event files of a folder, in their order."""
    found = []
    for file in sorted(folder.glob("events.out.tfevents.*")):
        content, at = file.read_bytes(), 0
        while at < len(content):  # u64 length, u32 its sum, the message, u32 its sum
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            for value in event.summary.value:
                if value.tag == tag:
                    found.append((event.step, value.simple_value))
    return found
