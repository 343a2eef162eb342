"""The process in which a check runs: what it receives, and how it answers.

Owns this end of the pipe; `isolated` has the other. Must not know any check: each is a
module of this package with a function `check`.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
from typing import IO, Any, Mapping

from xenon_mx.diagnosis.finding import Finding
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.errors import ConfigError, XenonError
from xenon_mx.runtime import child_process


class _Answers:
    """Sends what the check tells to the process that started this one, as JSON."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._stream.write(b"\n")  # ends a line that something else has begun

    def doing(self, what: str) -> None:
        """Send what is done next."""
        self.send({"doing": what})

    def found(self, finding: Finding) -> None:
        """Send what was found."""
        self.send({"finding": finding._asdict()})

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message on a line of its own."""
        self._stream.write(json.dumps(message, allow_nan=False).encode() + b"\n")
        self._stream.flush()


def main(name: str) -> None:
    """Run the check of a module, named in full, as standard input asks for."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    # What MXNet prints must not mix with the answers.
    answers = _Answers(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    with open(0, "rb", buffering=0, closefd=False) as stream:
        asked = json.loads(stream.readline())
    child_process.end_with_parent()
    try:
        module = importlib.import_module(name)
        subject = Subject.from_json(asked["subject"])
        data = module.check(subject, answers, **asked["options"])
        answers.send({"data": data or {}})
    except ConfigError as error:
        answers.send({"error": str(error), "flag": error.flag})
    except XenonError as error:
        answers.send({"error": " ".join([str(error), *error.details])})
