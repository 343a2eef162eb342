"""The rule for outputs: what a command may write, and what it may overwrite.

*An input of the command, or a data set's own file, is never an output. An existing file
is replaced only if xenon wrote it for the same inputs and run and it has not been
changed since, or if `--overwrite` is given.*

Owns the rule, and the record that identifies xenon's own files: the command that wrote
a file, what it was made from, and its SHA-256. The record is a file beside a table
(`OUT.csv.json`), and the last line of a page or a model card; other formats define
their own. Must not know what is in a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Protocol, Sequence

from xenon_mx.data import mura
from xenon_mx.errors import ConfigError, FileError, XenonError, link_loop
from xenon_mx.runtime import files

_RECORD = ".json"  # appended to the whole name of the output
_FORMAT = 1  # of a record; raised when a reader of the old one would misread the new


def made_from(parts: Mapping[str, Any]) -> str:
    """Return the fingerprint of what an output is made from.

    Args:
        parts: Its inputs and runs, as JSON values, without paths or settings, so that
            the same command may be repeated elsewhere or with other settings.

    Returns:
        A SHA-256, in hexadecimal.
    """
    return files.json_sha256(parts)


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
        record = _read_record(_beside(file))
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
        previous = _read_record(_beside(file))
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
    record = _read_record(path)
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


class Output(NamedTuple):
    """A file that a command is to write.

    Attributes:
        path: The file; a link is followed, and stays a link.
        flag: The option or argument of the command line that names it.
        suffixes: The suffixes that its name may have.
        record: How its record is stored.
        has_fixed_name: Whether the command chooses the name itself.
    """

    path: Path
    flag: str
    suffixes: Sequence[str]
    record: Record
    has_fixed_name: bool = False


class Outputs:
    """The files that one command writes: checked, then claimed, then written together.

    Args:
        writer: The command, such as `xenon-predict`.
        outputs: Its files.
        overwrite: Whether they may replace existing files other than inputs.

    Raises:
        ConfigError: A name has another suffix, and may be that of another file.
        XenonError: A file cannot be written, or is a data set's own.
    """

    def __init__(self, writer: str, outputs: Sequence[Output], overwrite: bool) -> None:
        self._writer = writer
        self._outputs = outputs
        self._overwrite = overwrite
        self._origin = ""
        for output in outputs:
            _check_path(output)
        written = [file for out in outputs for file in out.record.files(out.path)]
        targets = [file.resolve() for file in written]
        for file, target in zip(written, targets):
            if targets.count(target) > 1:
                raise named_twice(file)

    def claim(self, origin: str, inputs: Iterable[Path]) -> None:
        """Check that every file may be written; to be called before the work.

        Args:
            origin: What they will be made from, as `made_from` returns it.
            inputs: All files that the command reads.

        Raises:
            XenonError: A file is an input, or exists and may not be replaced.
        """
        self._origin = origin
        self._refuse_inputs(inputs)
        with self._locked():
            for output in self._outputs:
                self._check_replaceable(output)

    def write(
        self,
        contents: Mapping[Path, bytes],
        notes: Mapping[Path, Mapping[str, Any]] | None = None,
    ) -> None:
        """Write all files, or none.

        Args:
            contents: Path of an output to its bytes, without a record.
            notes: Path of an output to what else its record is to hold.

        Raises:
            XenonError: The system cannot write them, for example because the disk is
                full; or a file that may not be replaced was created since `claim`.
        """
        assert self._origin, "call claim first"
        with self._locked():
            written: dict[Path, bytes] = {}
            for output in self._outputs:
                if output.path in contents:
                    self._check_replaceable(output)
                    written.update(
                        output.record.add(
                            output.path,
                            contents[output.path],
                            self._writer,
                            self._origin,
                            (notes or {}).get(output.path, {}),
                        )
                    )
            files.write_all(written)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from moving a record without its file meanwhile."""
        paths = [output.path for output in self._outputs]
        try:
            with files.locked(path.resolve().parent for path in paths):
                yield
        except OSError as error:
            raise files.write_error(error, paths) from error

    def _refuse_inputs(self, inputs: Iterable[Path]) -> None:
        """Raise an error if an output is an input, under whatever name."""
        existing = {}
        for output in self._outputs:
            for file in output.record.files(output.path):
                if file.exists():
                    existing[_identity(file)] = file
        for path in inputs if existing else ():
            with contextlib.suppress(OSError):  # reading it will raise the error
                if _identity(path) in existing:
                    raise XenonError(
                        f"{existing[_identity(path)]}: is an input of this command: "
                        f"name another output"
                    )

    def _check_replaceable(self, output: Output) -> None:
        """Raise an error if a file exists and may not be replaced."""
        path = output.path
        for file in output.record.files(path):
            _check_regular(file, output.flag)
        if self._overwrite:
            return
        if not path.exists():
            self._check_record_name(output)
        elif path.stat().st_size:  # an empty file is no loss
            self._check_own(output)

    def _check_record_name(self, output: Output) -> None:
        """Check that a file with the name of the output's record is a record."""
        for file in output.record.files(output.path):
            if file.exists() and _read_record(file) is None:
                raise XenonError(
                    f"{file}: exists and is not a record of {self._writer}: name "
                    f"another file for {output.flag}, or use --overwrite"
                )

    def _check_own(self, output: Output) -> None:
        try:
            recorded = output.record.read(output.path)
        except OSError as error:
            raise files.write_error(error, [output.path]) from error
        if recorded is None or recorded.writer != self._writer:
            why = f"was not written by {self._writer}"
        elif not recorded.is_unchanged:
            why = f"was changed since {self._writer} wrote it"
        elif recorded.made_from != self._origin:
            why = "was made from other inputs or another run"
        else:
            return
        remedy = f"name another file for {output.flag}"
        if output.has_fixed_name:
            remedy = "move it to another folder"
        raise XenonError(
            f"{output.path}: exists and {why}: {remedy}, or use --overwrite"
        )


def named_twice(file: Path) -> FileError:
    """Return the error of an output that is also an input or another output."""
    return FileError(file, "is named twice; an output needs a file of its own")


def _read_record(file: Path) -> dict[str, Any] | None:
    """Return the content of a record file; None if it is not a record."""
    try:
        content = files.read_json(file)
    except XenonError:
        return None
    is_record = isinstance(content.get("sha256"), list) and all(
        isinstance(content.get(key), str) for key in ("written_by", "made_from")
    )
    return content if is_record else None


def _identity(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_dev, state.st_ino


def _check_path(output: Output) -> None:
    """Check the name and the folder of an output."""
    path, flag = output.path, output.flag
    real = resolved(path)
    check_folder(real.parent, path)
    for file in output.record.files(path):
        check_name(file)
    if path.is_dir():
        raise XenonError(f"{path}: is a folder; name a file for {flag}")
    if path.suffix.lower() not in output.suffixes:
        raise ConfigError(
            flag,
            f"{path} is not named {output.suffixes[0]}: name a file with that suffix",
        )
    if mura.is_data_set_file(real.name):
        raise XenonError(
            f"{path}: has the name of a data set's own file: name another file for "
            f"{flag}"
        )


def resolved(path: Path) -> Path:
    """Return a path with all links resolved.

    Raises:
        XenonError: It is a link that leads to itself.
    """
    try:
        return path.resolve()
    except RuntimeError as error:  # pathlib's, before Python 3.13
        raise link_loop(path) from error


def check_folder(folder: Path, path: Path) -> None:
    """Check that files can be created in a folder.

    Args:
        folder: The folder.
        path: The file, as named in errors.

    Raises:
        XenonError: The folder does not exist, or is not writable.
    """
    if not folder.is_dir():
        raise XenonError(f"{path}: its folder does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise XenonError(f"{path}: its folder is not writable")


def check_name(path: Path) -> None:
    """Check that a name is not longer than its file system allows.

    Raises:
        XenonError: It is longer.
    """
    longest = os.pathconf(path.absolute().parent, "PC_NAME_MAX")
    if len(os.fsencode(path.name)) > longest:
        raise XenonError(
            f"{path}: its name is too long: this disk allows {longest} bytes at most"
        )


def _check_regular(path: Path, flag: str) -> None:
    """Check that an existing path is a file, and not write-protected."""
    if not path.exists():
        return
    if not path.is_file():
        raise XenonError(f"{path}: is not a regular file; name another one for {flag}")
    check_unprotected(path)


def check_unprotected(path: Path) -> None:
    """Check that an existing file is not write-protected.

    Raises:
        XenonError: It is, also if the user is root, whom the system would let write.
    """
    writable = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    if not path.stat().st_mode & writable or not os.access(path, os.W_OK):
        raise XenonError(
            f"{path}: is write-protected: name another path, or make it writable"
        )
