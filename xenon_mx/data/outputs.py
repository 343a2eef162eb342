"""The rule for outputs: what a command may write, and what it may overwrite.

*An input of the command, or a data set's own file, is never an output. An existing file
is replaced only if xenon wrote it for the same inputs and run and it has not been
changed since, or if `--overwrite` is given.*

Owns the rule; by what xenon knows its own files, `output_records` owns. Must not know
what is in a file.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

from xenon_mx.data import mura, output_records
from xenon_mx.errors import ConfigError, FileError, XenonError, link_loop
from xenon_mx.runtime import files


def made_from(parts: Mapping[str, Any]) -> str:
    """Return the fingerprint of what an output is made from.

    Args:
        parts: Its inputs and runs, as JSON values, without paths or settings, so that
            the same command may be repeated elsewhere or with other settings.

    Returns:
        A SHA-256, in hexadecimal.
    """
    return files.json_sha256(parts)


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
    record: output_records.Record
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
            if file.exists() and output_records.read_record(file) is None:
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
