"""Decoders of compressed DICOM pixels, in processes of their own.

Owns these processes. What pydicom decodes with are libraries in C++, and one changed
byte of a file can end the process that they work in: so it is never ours. They also
write to standard error what is ours to say. Knows no headers.
"""

from __future__ import annotations

import atexit
import io
import os
import signal
import subprocess
import sys
from collections import deque
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np

from xenon_mx.errors import XenonError

# Chosen here: some hundred times what the largest radiographs take.
_PATIENCE_S = 60
_PIXELS, _REASON = b"+", b"-"  # how an answer begins
# The child finds modules where we do, but does not run our main module.
_CHILD = """
import sys
sys.path[:] = {path!r}
from xenon_mx.dicom import decoders as dicom_decoders
dicom_decoders._serve({number})
"""


def pixels(data: bytes, bits: int) -> np.ndarray:
    """Decode a whole DICOM file's pixels; several threads may do so at once.

    Args:
        data: The file's bytes.
        bits: How many a pixel has in the stream: if BitsStored says fewer, some
            decoders would drop the others in silence.

    Returns:
        What pydicom's `pixel_array` is, of a single gray frame (H, W).

    Raises:
        XenonError: No decoder could; or one crashed, or did not come to an end.
    """
    child = _idle.pop() if _idle else _Child()
    try:
        answer = child.ask(data, bits)
    except BaseException:  # of Ctrl-C, too: the next answer would be that of this file
        child.end()
        raise
    _idle.append(child)
    if answer[:1] == _REASON:
        raise XenonError(answer[1:].decode())
    return np.load(io.BytesIO(answer[1:]), allow_pickle=False)


class _Child:
    """A process that decodes one file after the other."""

    def __init__(self) -> None:
        self._ours, theirs = Pipe()
        with theirs:
            number = theirs.fileno()
            code = _CHILD.format(path=sys.path, number=number)
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def ask(self, data: bytes, bits: int) -> bytes:
        try:
            self._ours.send_bytes(bytes([bits]) + data)
            if self._ours.poll(_PATIENCE_S):
                return self._ours.recv_bytes()
        except (EOFError, OSError) as error:
            raise XenonError(
                "its pixels are damaged: their decoder crashed at them"
            ) from error
        raise XenonError(
            f"its pixels are damaged: their decoder was at them for {_PATIENCE_S} s"
        )

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._ours.close()


_idle: deque[_Child] = deque()
# What a forked process inherits answers to its parent.
os.register_at_fork(after_in_child=_idle.clear)


@atexit.register
def end_all() -> None:
    """End the children that wait for work; without us, they would end by themselves."""
    while _idle:
        _idle.pop().end()


def _serve(number: int) -> None:
    """Be the child: answer until nobody asks any more."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)  # it is the parent's to answer
    with Connection(number) as parent:
        while True:
            try:
                asked = parent.recv_bytes()
            except EOFError:
                return
            parent.send_bytes(_answer(asked[1:], asked[0]))


def _answer(data: bytes, bits: int) -> bytes:
    import pydicom

    out = io.BytesIO()
    out.write(_PIXELS)
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        np.save(out, np.asarray(dataset.pixel_array), allow_pickle=False)
    except Exception:  # each decoder raises what it likes, in words of its own
        return _REASON + b"its pixels cannot be decoded: they are damaged"
    return out.getvalue()
