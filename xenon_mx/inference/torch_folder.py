"""The folder of `--to torch`: each member's weights for PyTorch, complete or absent.

Owns the names of its files, what xenon.json records of them, and what may be replaced.
Must not know nets, or what the model card says.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Mapping

from xenon_mx.data import outputs
from xenon_mx.errors import XenonError, os_error
from xenon_mx.models.torch_config import CONFIG_JSON, WEIGHTS
from xenon_mx.runtime import files, staging

README = "README.md"  # the hub's model card
XENON_JSON = "xenon.json"  # what the folder was made from, and its files
_MEMBERS = "members"


def member_folder(number: int) -> str:
    """Return where a member lies within the folder; the first member is 1."""
    return "" if number == 1 else f"{_MEMBERS}/{number}/"


def check_replaceable(out: Path, origin: str, overwrite: bool) -> None:
    """Check that a folder's files may be replaced; see `outputs` for the rule.

    Args:
        out: The folder.
        origin: What the new files are made from, as `outputs.made_from` returns it.
        overwrite: Whether files made from anything else may be replaced, too.

    Raises:
        XenonError: It is not a folder, may not be read, or holds anything else.
    """
    if not out.exists() and not out.is_symlink():
        return
    try:
        names = sorted(n for n in os.listdir(out) if not files.is_partial(n))
    except OSError as error:
        raise XenonError(
            f"{os_error(out, error)}; --to torch writes a folder"
        ) from error
    recorded = _recorded(out)
    for name in {README, CONFIG_JSON, WEIGHTS, XENON_JSON, *_sums(recorded)}:
        _check_file(out / name)
    if not names or overwrite:
        return
    remedy = "name a new or an empty folder, or use --overwrite"
    if recorded.get("made_from") != origin:
        raise XenonError(f"{out}: already holds {names[0]}: {remedy}")
    for name, digest in _sums(recorded).items():
        if not (out / name).is_file() or files.sha256(out / name) != digest:
            raise XenonError(
                f"{out / name}: was changed since xenon-export wrote it: {remedy}"
            )


def _check_file(path: Path) -> None:
    """Check that a path is a file that may be written over, if it exists."""
    if path.is_symlink() or path.exists():
        if path.is_symlink() or not path.is_file():
            raise XenonError(f"{path}: is not a regular file: name another folder")
        outputs.check_unprotected(path)


def _recorded(out: Path) -> dict[str, Any]:
    """Return the content of xenon.json; empty if there is none of xenon."""
    try:
        return files.read_json(out / XENON_JSON)
    except XenonError:
        return {}


def _sums(recorded: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of each file that xenon.json records."""
    return dict(recorded.get("sha256", {}))


class TorchFolder(staging.Staging):
    """A folder that receives an export for PyTorch, all of it or none.

    xenon.json is moved last, and marks the folder as complete.

    Args:
        out: The folder, created if it does not exist.
        origin: What it is made from, as `outputs.made_from` returns it.
        overwrite: As for `check_replaceable`.

    Raises:
        XenonError: As `check_replaceable` and `staging.Staging` raise it.
    """

    def __init__(self, out: Path, origin: str, overwrite: bool) -> None:
        super().__init__(out, XENON_JSON)
        self._origin, self._overwrite = origin, overwrite
        self._written: dict[str, str] = {}

    def check(self) -> None:
        """Check that the files in OUT may be replaced."""
        check_replaceable(self.out, self._origin, self._overwrite)

    def add_member(self, number: int, config: Mapping[str, Any], data: bytes) -> Path:
        """Write a member's weights and config.json.

        Args:
            number: The member, from 1.
            config: The content of config.json.
            data: The content of the weights file.

        Returns:
            The weights file, which is moved when the folder is complete.
        """
        text = json.dumps(config, indent=2, allow_nan=False) + "\n"
        folder = member_folder(number)
        self._write(folder + CONFIG_JSON, text.encode())
        return self._write(folder + WEIGHTS, data)

    def complete(self, readme: str, properties: Mapping[str, Any]) -> None:
        """Write the model card and xenon.json, and move all files into place.

        Args:
            readme: The model card.
            properties: What xenon.json says beside the record of the files.
        """
        # A path on the card may contain bytes that are not UTF-8.
        self._write(README, readme.encode(errors="backslashreplace"))
        content = {
            **properties,
            "written_by": "xenon-export",
            "made_from": self._origin,
            "sha256": self._written,
        }
        replaced = self._replaced_files()
        record = self._write(XENON_JSON, files.json_bytes(content))
        sums = {**self._written, XENON_JSON: files.sha256(record)}
        self.prepare(sums, replaced)
        self.move()

    def _write(self, name: str, data: bytes) -> Path:
        file = self.folder / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        except OSError as error:
            raise os_error(self.out, error) from error
        if name != XENON_JSON:
            self._written[name] = hashlib.sha256(data).hexdigest()
        return file

    def _replaced_files(self) -> dict[str, str]:
        """Return the files of OUT to remove; without a sum if they were changed."""
        recorded = _sums(_recorded(self.out))
        names = {*recorded, *self._written, XENON_JSON}
        found = {n: files.sha256(self.out / n) for n in names if self._exists(n)}
        own = {**recorded}
        if recorded:  # xenon.json is xenon's own, too
            own[XENON_JSON] = found[XENON_JSON]
        return {
            n: digest if own.get(n) == digest else "" for n, digest in found.items()
        }

    def _exists(self, name: str) -> bool:
        return (self.out / name).is_file()
