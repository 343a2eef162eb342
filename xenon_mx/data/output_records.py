"""What xenon notes of a file that it wrote, to know it as its own later.

Owns the records: the command that wrote a file, what it was made from, and its SHA-256.
A record is a file beside a table (`OUT.csv.json`), or the last line of a page or a
model card; other formats define their own. Must not know when a file may be replaced.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Protocol

from xenon_mx.errors import XenonError
from xenon_mx.runtime import files

_RECORD = ".json"  # appended to the whole name of the output
_FORMAT = 1  # of a record; raised when a reader of the old one would misread the new


class RecordedOutput(NamedTuple):
    """What is recorded of an output.

    Attributes:
        writer: The command that wrote it, such as `xenon-predict`.
        made_from: The fingerprint of what it was made from.
        is_unchanged: Whether its bytes are those that were written.
    """

    writer: str
    made_from: str
    is_unchanged: bool


class Record(Protocol):
    """How the record of one kind of file is stored."""

    def read(self, file: Path) -> RecordedOutput | None:
        """Return what is recorded of a file; None if xenon did not write it."""

    def add(
        self,
        file: Path,
        data: bytes,
        writer: str,
        origin: str,
        notes: Mapping[str, Any],
    ) -> dict[Path, bytes]:
        """Return the files to write, in this order, for an output and its record.

        After each of them, `read` still identifies the output as xenon's own.

        Args:
            file: The output.
            data: Its bytes.
            writer: The command.
            origin: What it is made from, as `made_from` returns it.
            notes: What else is recorded, as JSON values, if there is room.
        """

    def files(self, file: Path) -> list[Path]:
        """Return every file that is written for one output."""


class BesideRecord:
    """A record in a separate file, for formats that cannot contain one."""

    def read(self, file: Path) -> RecordedOutput | None:
        """Return what `OUT.csv.json` records of `OUT.csv`."""
        record = read_record(_beside(file))
        if record is None:
            return None
        is_unchanged = files.sha256(file) in record["sha256"]
        return RecordedOutput(record["written_by"], record["made_from"], is_unchanged)

    def add(
        self,
        file: Path,
        data: bytes,
        writer: str,
        origin: str,
        notes: Mapping[str, Any],
    ) -> dict[Path, bytes]:
        """Return the record, then the file."""
        sums = [hashlib.sha256(data).hexdigest()]
        previous = read_record(_beside(file))
        if previous is not None and file.is_file():
            # A process killed between the two leaves the old file with the new record.
            sums += {files.sha256(file)} & {*previous["sha256"]} - {*sums}
        own = {
            "format": _FORMAT,
            "written_by": writer,
            "made_from": origin,
            "sha256": sums,
        }
        content = {**own, **notes, **own}  # no note replaces what is the record's own
        return {_beside(file): files.json_bytes(content), file: data}

    def files(self, file: Path) -> list[Path]:
        """Return the file and its record."""
        return [_beside(file), file]


class LastLineRecord:
    """A record in the last line of an HTML page or a Markdown file, as a comment."""

    _LINE = re.compile(rb"<!-- (xenon-[a-z]+) ([0-9a-f]{64}) ([0-9a-f]{64}) -->\n\Z")

    def read(self, file: Path) -> RecordedOutput | None:
        """Return what the last line records of the lines before it."""
        data = file.read_bytes()
        match = self._LINE.search(data)
        if match is None:
            return None
        writer, origin, digest = (group.decode() for group in match.groups())
        actual = hashlib.sha256(data[: match.start()]).hexdigest()
        return RecordedOutput(writer, origin, actual == digest)

    def add(
        self,
        file: Path,
        data: bytes,
        writer: str,
        origin: str,
        notes: Mapping[str, Any],
    ) -> dict[Path, bytes]:
        """Return the file with one more line, which has no room for notes."""
        digest = hashlib.sha256(data).hexdigest()
        return {file: data + f"<!-- {writer} {origin} {digest} -->\n".encode()}

    def files(self, file: Path) -> list[Path]:
        """Return the file."""
        return [file]


class Notes(NamedTuple):
    """What is recorded beside a file; without `content`, `reason` says why."""

    content: Mapping[str, Any] | None
    reason: str = ""


def read_notes(file: Path) -> Notes:
    """Read what `OUT.csv.json` records of `OUT.csv`, if it is of these very bytes."""
    path = _beside(file)
    if not path.is_file():
        return Notes(None, f"there is no {path.name} beside the file")
    record = read_record(path)
    if record is None:
        return Notes(None, f"{path.name} is not a record of xenon, or is damaged")
    # Another sum may follow, of the file that was to be replaced.
    if record["sha256"][:1] != [files.sha256(file)]:
        return Notes(
            None, f"{path.name} is of another file, or {file.name} was changed since"
        )
    return Notes(record)


def _beside(file: Path) -> Path:
    return file.with_name(file.name + _RECORD)


def read_record(file: Path) -> dict[str, Any] | None:
    """Return the content of a record file; None if it is not a record."""
    try:
        content = files.read_json(file)
    except XenonError:
        return None
    is_record = isinstance(content.get("sha256"), list) and all(
        isinstance(content.get(key), str) for key in ("written_by", "made_from")
    )
    return content if is_record else None
