"""The ONNX file that `xenon-export` writes: its tensor names, properties and checksum.

Owns how such a file is recognised and how its properties are read without the package
onnx. Must not know ONNX Runtime, MXNet or run folders.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Iterator, Mapping

from xenon_mx.data import output_records

FORMAT = 1  # of the properties; raised when an older xenon would misread newer ones
PIXELS = "pixels"  # (N, S, S) uint8
PROBABILITY, MEMBERS, LOGITS = "probability", "members", "logits"  # (N,), (N, M) twice
MAPS = "maps"  # (N, M, h, h)
# Of each member, within the graph; MEMBER_MAP has the net's own number of cells.
MEMBER_LOGIT, MEMBER_MAP = "logit", "map"  # (N, 1), (N, 1, h, h)
MADE_FROM = "made_from"  # a property: the fingerprint of the runs
DECISION = "decision"  # a property: what xenon-decide decided about the run, if it did
FOLDS = "folds"  # a property: the number of folds that the members are of, if they are
# A property: `TrainingData.pretrained_on`, if a net began as one not trained here
PRETRAINED_ON = "pretrained_on"

# The last bytes of a file: a property `sha256`, of all the bytes before it. Protocol
# Buffers read a message followed by another field as one message, so a file can be told
# from other files, and from a truncated one, before anything parses it. The numbers are
# those of onnx.proto: metadata_props is field 14 of ModelProto, key and value are
# fields 1 and 2 of StringStringEntryProto.
_CHECKSUM = b'\x72\x4c\x0a\x06sha256\x12\x42"%s"'
_CHECKSUM_PATTERN = re.compile(_CHECKSUM.replace(b"%s", b"[0-9a-f]{64}") + rb"\Z")
_CHECKSUM_BYTES = 78
_PROPERTY, _KEY, _VALUE = 14, 1, 2
_VARINT, _LENGTH_DELIMITED = 0, 2  # the wire types that occur in a ModelProto


def member_prefix(number: int) -> str:
    """Return how the names of a member's tensors begin; the first member is 1."""
    return f"member_{number}/"


def is_onnx_file(path: Path) -> bool:
    """Return whether --run names a file, and not the folder of a run."""
    return path.is_file() or (path.suffix == ".onnx" and not path.exists())


def add_checksum(model: bytes) -> bytes:
    """Return a serialized model with its SHA-256 appended as one of its properties."""
    return model + _checksum(model)


def has_checksum(data: bytes) -> bool:
    """Return whether a file ends with the SHA-256 of the bytes before it."""
    return data[-_CHECKSUM_BYTES:] == _checksum(memoryview(data)[:-_CHECKSUM_BYTES])


def _checksum(model: bytes | memoryview) -> bytes:
    return _CHECKSUM % hashlib.sha256(model).hexdigest().encode()


def read_properties(data: bytes) -> dict[str, Any]:
    """Return the properties of a file that `has_checksum`: JSON values by key."""
    properties = {}
    for number, content in _fields(memoryview(data)):
        if number == _PROPERTY:
            entry = dict(_fields(content))
            key = str(entry[_KEY], "utf-8")
            properties[key] = json.loads(str(entry[_VALUE], "utf-8"))
    return properties


def extents(properties: Mapping[str, Any]) -> list[list[float]]:
    """Return `cam_block.cam_extent` of each member, from the properties.

    Raises:
        KeyError, TypeError: They are not there.
    """
    return [[*member["field"]] for member in properties["members"]]


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of each length-delimited field of a message."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type not in (_VARINT, _LENGTH_DELIMITED):
            raise ValueError(f"field {number} of a model has wire type {wire_type}")
        value, position = _varint(message, position)
        if wire_type == _LENGTH_DELIMITED:
            yield number, message[position : position + value]
            position += value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return a number of seven bits per byte, lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


class OnnxRecord:
    """The record of an ONNX file as an output, kept in its properties."""

    def read(self, file: Path) -> output_records.RecordedOutput | None:
        """Return what the properties record; None if the last one is no checksum."""
        data = file.read_bytes()
        if not _CHECKSUM_PATTERN.match(data[-_CHECKSUM_BYTES:]):
            return None
        is_unchanged = has_checksum(data)
        origin = read_properties(data).get(MADE_FROM, "") if is_unchanged else ""
        return output_records.RecordedOutput("xenon-export", origin, is_unchanged)

    def add(
        self,
        file: Path,
        data: bytes,
        writer: str,
        origin: str,
        notes: Mapping[str, Any],
    ) -> dict[Path, bytes]:
        """Return the file, whose properties already hold the record."""
        return {file: data}

    def files(self, file: Path) -> list[Path]:
        """Return the file."""
        return [file]
