"""The rule for outputs: what a command may write, and what it may write over.

*An input of the command, or a data set's own file, is never an output. What exists is
replaced only if xenon wrote it for the same inputs and run, and nobody has changed it
since, or if `--overwrite` is said.*

Owns the rule, and the record by which xenon knows its own files: what wrote a file,
what it was made from, and its SHA-256. The record stands beside a table
(`OUT.csv.json`), and in the last line of a page or a model card; other formats bring
their own. Does not know what is in a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from pathlib import Path
from typing import Any, Iterable, Mapping, NamedTuple, Protocol, Sequence

from xenon_mx.data import mura
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import files

_RECORD = ".json"  # behind the whole name of the file that it is of
_FORMAT = 1  # of a record; raised when a reader of the old would misread the new


def made_from(parts: Mapping[str, Any]) -> str:
    """Return the fingerprint of what an output is made from.

    Args:
        parts: Its inputs and runs: whatever JSON can hold, and no paths or settings, so
            that the same command may be typed again elsewhere or with other settings.

    Returns:
        A SHA-256, in hexadecimal.
    """
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class Found(NamedTuple):
    """What a file's record says of it.

    Attributes:
        writer: The command that wrote it, such as `xenon-predict`.
        made_from: The fingerprint of what it was made from.
        is_unchanged: Whether its bytes are those that were written.
    """

    writer: str
    made_from: str
    is_unchanged: bool


class Record(Protocol):
    """Where a kind of file keeps its record."""

    def read(self, file: Path) -> Found | None:
        """Return what is recorded of a file; None if it is not of xenon's."""

    def add(
        self, file: Path, data: bytes, writer: str, origin: str
    ) -> dict[Path, bytes]:
        """Return what to write, in this order, for the file and its record.

        Between any two of them, `read` still takes what it finds for xenon's own.
        """

    def files(self, file: Path) -> list[Path]:
        """Return every file that is written for one output."""


class BesideRecord:
    """A record in a file of its own, for formats that have no room for one."""

    def read(self, file: Path) -> Found | None:
        """Return what `OUT.csv.json` says of `OUT.csv`."""
        record = _read_record(_beside(file))
        if record is None:
            return None
        is_unchanged = files.sha256(file) in record["sha256"]
        return Found(record["written_by"], record["made_from"], is_unchanged)

    def add(
        self, file: Path, data: bytes, writer: str, origin: str
    ) -> dict[Path, bytes]:
        """Return the record, then the file."""
        sums = [hashlib.sha256(data).hexdigest()]
        before = _read_record(_beside(file))
        if before is not None and file.is_file():
            # Whoever is killed between the two leaves the old file, the new record.
            sums += {files.sha256(file)} & {*before["sha256"]} - {*sums}
        content = {
            "format": _FORMAT,
            "written_by": writer,
            "made_from": origin,
            "sha256": sums,
        }
        return {_beside(file): files.json_bytes(content), file: data}

    def files(self, file: Path) -> list[Path]:
        """Return the file and its record."""
        return [_beside(file), file]


class LastLineRecord:
    """A record in the last line of an HTML page or a Markdown file, as a comment."""

    _LINE = re.compile(rb"<!-- (xenon-[a-z]+) ([0-9a-f]{64}) ([0-9a-f]{64}) -->\n\Z")

    def read(self, file: Path) -> Found | None:
        """Return what the last line says of the lines before."""
        data = file.read_bytes()
        found = self._LINE.search(data)
        if found is None:
            return None
        writer, origin, digest = (group.decode() for group in found.groups())
        actual = hashlib.sha256(data[: found.start()]).hexdigest()
        return Found(writer, origin, actual == digest)

    def add(
        self, file: Path, data: bytes, writer: str, origin: str
    ) -> dict[Path, bytes]:
        """Return the file with a line more."""
        digest = hashlib.sha256(data).hexdigest()
        return {file: data + f"<!-- {writer} {origin} {digest} -->\n".encode()}

    def files(self, file: Path) -> list[Path]:
        """Return the file."""
        return [file]


def _beside(file: Path) -> Path:
    return file.with_name(file.name + _RECORD)


class Output(NamedTuple):
    """A file that a command is asked to write.

    Attributes:
        path: The file; a link is followed, and stays one.
        flag: How the command line spells it.
        suffixes: What its name may end in.
        record: Where its kind of file keeps the record.
    """

    path: Path
    flag: str
    suffixes: Sequence[str]
    record: Record


class Outputs:
    """The files that one command writes: checked, then claimed, then written together.

    Args:
        writer: The command, such as `xenon-predict`.
        outputs: Its files.
        overwrite: Whether they may replace whatever exists, inputs excepted.

    Raises:
        ConfigError: A name ends otherwise: it may be that of another file.
        XenonError: A file cannot be written, or is a data set's own.
    """

    def __init__(self, writer: str, outputs: Sequence[Output], overwrite: bool) -> None:
        self._writer = writer
        self._outputs = outputs
        self._overwrite = overwrite
        self._origin = ""
        for output in outputs:
            _check_place(output)
        places = [
            file.resolve() for each in outputs for file in each.record.files(each.path)
        ]
        for output in outputs:
            for file in output.record.files(output.path):
                if places.count(file.resolve()) > 1:
                    raise XenonError(
                        f"{file}: is named twice; an output needs a file of its own"
                    )

    def claim(self, origin: str, inputs: Iterable[Path]) -> None:
        """Stop unless every file may be written; call it before the work.

        Args:
            origin: What they will be made from, as `made_from` returns it.
            inputs: All files that the command reads.

        Raises:
            XenonError: A file is an input, or exists and may not be replaced.
        """
        self._origin = origin
        self._refuse_inputs(inputs)
        for output in self._outputs:
            self._check_replaced(output)

    def write(self, contents: Mapping[Path, bytes]) -> None:
        """Write all files, or none.

        Args:
            contents: Path of an output to its bytes, without a record.

        Raises:
            XenonError: The disk is full, or the like; or a file that may not be
                replaced has come to be since `claim`.
        """
        assert self._origin, "claim comes first"
        try:
            with files.locked(path.resolve().parent for path in contents):
                written: dict[Path, bytes] = {}
                for output in self._outputs:
                    if output.path in contents:
                        self._check_replaced(output)
                        written.update(self._signed(output, contents[output.path]))
                files.write_all(written)
        except OSError as error:
            raise files.write_error(error, contents) from error

    def _signed(self, output: Output, data: bytes) -> dict[Path, bytes]:
        return output.record.add(output.path, data, self._writer, self._origin)

    def _refuse_inputs(self, inputs: Iterable[Path]) -> None:
        """Stop if an output is an input, under whatever name."""
        existing = {}
        for output in self._outputs:
            for file in output.record.files(output.path):
                if file.exists():
                    existing[_identity(file)] = file
        for path in inputs if existing else ():
            with contextlib.suppress(OSError):  # what reads it says what is wrong
                if _identity(path) in existing:
                    raise XenonError(
                        f"{existing[_identity(path)]}: is an input of this command: "
                        f"name another file to write"
                    )

    def _check_replaced(self, output: Output) -> None:
        """Stop if a file exists and may not be replaced."""
        path = output.path
        for file in output.record.files(path):
            _check_kind(file, output.flag)
        if self._overwrite:
            return
        if not path.exists():
            self._check_alone(output)
        elif path.stat().st_size:  # what is empty is no loss
            self._check_own(output)

    def _check_alone(self, output: Output) -> None:
        """Stop at a file beside, where there is none that it could be the record of."""
        for file in output.record.files(output.path):
            if file.exists() and _read_record(file) is None:
                raise XenonError(
                    f"{file}: exists and is no record of {self._writer}: name another "
                    f"file for {output.flag}, or say --overwrite"
                )

    def _check_own(self, output: Output) -> None:
        try:
            found = output.record.read(output.path)
        except OSError as error:
            raise files.write_error(error, [output.path]) from error
        if found is None or found.writer != self._writer:
            why = f"was not written by {self._writer}"
        elif not found.is_unchanged:
            why = f"was changed since {self._writer} wrote it"
        elif found.made_from != self._origin:
            why = "was made from other inputs or another run"
        else:
            return
        raise XenonError(
            f"{output.path}: exists and {why}: name another file for {output.flag}, or "
            f"say --overwrite"
        )


def _read_record(file: Path) -> dict[str, Any] | None:
    """Return what a record beside an output holds; None if the file is none."""
    try:
        content = files.read_json(file)
    except XenonError:
        return None
    known = isinstance(content.get("sha256"), list) and all(
        isinstance(content.get(key), str) for key in ("written_by", "made_from")
    )
    return content if known else None


def _identity(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_dev, state.st_ino


def _check_place(output: Output) -> None:
    """Stop if a file could not be written where it is asked for."""
    path, flag = output.path, output.flag
    real = resolved(path)
    check_folder(real.parent, path)
    for file in output.record.files(path):
        check_name(file)
    if path.is_dir():
        raise XenonError(f"{path}: is a folder; name a file for {flag}")
    if path.suffix.lower() not in output.suffixes:
        raise ConfigError(
            flag, f"{path} is not named {output.suffixes[0]}: which file to write?"
        )
    if mura.is_data_set_file(real.name):
        raise XenonError(
            f"{path}: is a data set's own file, by its name: name another one for "
            f"{flag}"
        )


def resolved(path: Path) -> Path:
    """Return where a path leads.

    Raises:
        XenonError: It is a link that leads to itself.
    """
    try:
        return path.resolve()
    except RuntimeError as error:  # pathlib's, before Python 3.13
        raise XenonError(f"{path}: a link that leads to itself") from error


def check_folder(folder: Path, path: Path) -> None:
    """Stop if a folder cannot take a file.

    Args:
        folder: The folder.
        path: The file, as errors call it.
    """
    if not folder.is_dir():
        raise XenonError(f"{path}: its folder does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise XenonError(f"{path}: its folder may not be written to")


def check_name(path: Path) -> None:
    """Stop if a name is longer than its file system takes."""
    longest = os.pathconf(path.absolute().parent, "PC_NAME_MAX")
    if len(os.fsencode(path.name)) > longest:
        raise XenonError(
            f"{path}: its name is too long: this disk takes {longest} bytes at most"
        )


def _check_kind(path: Path, flag: str) -> None:
    """Stop at what is no file, or at a file that is protected."""
    if not path.exists():
        return
    if not path.is_file():
        raise XenonError(f"{path}: is no ordinary file; name another one for {flag}")
    check_unprotected(path)


def check_unprotected(path: Path) -> None:
    """Stop at an existing file that may not be written to, whoever asks for it."""
    anybody = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    # Root, too, whom the system would let, has protected it for a reason.
    if not path.stat().st_mode & anybody or not os.access(path, os.W_OK):
        raise XenonError(
            f"{path}: is write-protected: name another place, or allow writing to it"
        )
