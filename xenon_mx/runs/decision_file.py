"""decision.json: the file of a run that holds what xenon-decide decided about it.

Owns its name, and how it is read and known as xenon's own; `evaluation.decision` owns
its content. Training neither reads nor writes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping

from xenon_mx.data import output_records
from xenon_mx.errors import XenonError
from xenon_mx.evaluation.decision import Decision
from xenon_mx.runtime import files, text

DECISION_JSON = "decision.json"
_WRITER, _MADE_FROM = "written_by", "made_from"


class DecisionRecord:
    """The record of decision.json as an output, kept in the file itself."""

    def read(self, file: Path) -> output_records.RecordedOutput | None:
        """Return what the file records of itself; None if xenon did not write it."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            return None
        if not isinstance(content, dict) or not {_WRITER, _MADE_FROM} <= set(content):
            return None
        try:
            files.read_json(file)
            is_unchanged = True
        except XenonError:
            is_unchanged = False
        return output_records.RecordedOutput(
            str(content[_WRITER]), str(content[_MADE_FROM]), is_unchanged
        )

    def add(
        self,
        file: Path,
        data: bytes,
        writer: str,
        origin: str,
        notes: Mapping[str, Any],
    ) -> dict[Path, bytes]:
        """Return the file with the record and a checksum among its values."""
        content = {_WRITER: writer, _MADE_FROM: origin, **json.loads(data)}
        return {file: files.json_bytes(content)}

    def files(self, file: Path) -> list[Path]:
        """Return the file."""
        return [file]


def read(folder: Path) -> Decision | None:
    """Read the decision about a run; None if there is none.

    Raises:
        XenonError: The file was changed, is damaged, or of another format.
    """
    path = folder / DECISION_JSON
    if not path.is_file():
        return None
    try:
        return Decision.from_json(files.read_json(path))
    except (XenonError, KeyError, TypeError, ValueError) as error:
        table = f"xenon-decide {text.shell_quote(folder)} TABLE.csv --overwrite"
        raise XenonError(
            f"{path}: is not as xenon-decide wrote it, or was written by a later "
            f"xenon: decide anew with {table}, or move the file to another folder"
        ) from error
