"""Decoding of compressed DICOM pixels in child processes.

Owns these processes; must not know headers. pydicom decodes with C++ libraries, and one
changed byte of a file can crash the process that calls them, so the caller's process
never does. The libraries also write to standard error, which is searched for damage
that they report in no other way.
"""

from __future__ import annotations

import atexit
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import deque
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np

from xenon_mx.errors import XenonError

# Chosen here: several hundred times the decoding time of the largest radiographs.
_TIMEOUT_S = 60
_PIXELS, _ERROR = b"+", b"-"  # the first byte of a reply
_HANDLERS = {"pydicom": "rle"}  # plugins that pydicom 2 has under other names
# Warnings of the libjpeg in GDCM, which returns pixels all the same (jerror.h).
_DAMAGE = re.compile(rb"Corrupt JPEG data|Premature end of JPEG")
# The child has the caller's sys.path, but does not run the caller's main module.
_CHILD = """
import sys
sys.path[:] = {path!r}
from xenon_mx.dicom import decoders
decoders._serve({descriptor})
"""


def pixels(data: bytes, bits: int, plugin: str) -> np.ndarray:
    """Decode the pixels of a DICOM file; may be called from several threads.

    Args:
        data: The file's bytes.
        bits: Bits per pixel in the codestream: some decoders would silently drop those
            above BitsStored.
        plugin: pydicom's name of the decoder. With several, pydicom would take the
            next one after an error, which may not notice the damage.

    Returns:
        pydicom's `pixel_array` of a single gray frame (H, W).

    Raises:
        XenonError: No decoder succeeded, or one crashed or timed out.
    """
    child = _idle.pop() if _idle else _Child()
    try:
        reply = child.request(data, bits, plugin)
    except BaseException:  # also on Ctrl-C: the next reply would be that of this file
        child.close()
        raise
    _idle.append(child)
    if reply[:1] == _ERROR:
        raise XenonError(reply[1:].decode())
    return np.load(io.BytesIO(reply[1:]), allow_pickle=False)


class _Child:
    """A child process that decodes one file at a time."""

    def __init__(self) -> None:
        self._connection, child_end = Pipe()
        with child_end:
            descriptor = child_end.fileno()
            code = _CHILD.format(path=sys.path, descriptor=descriptor)
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def request(self, data: bytes, *options: object) -> bytes:
        """Send a file with the options of `_decode`, and wait for the reply."""
        head = " ".join(map(str, options)).encode()
        try:
            self._connection.send_bytes(head + b"\n" + data)
            if self._connection.poll(_TIMEOUT_S):
                return self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise XenonError("its pixels are damaged: the decoder crashed") from error
        raise XenonError(
            f"its pixels are damaged: the decoder did not finish in {_TIMEOUT_S} s"
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._connection.close()


_idle: deque[_Child] = deque()
# A forked process must not share these children with its parent.
os.register_at_fork(after_in_child=_idle.clear)


@atexit.register
def close_all() -> None:
    """Kill the idle child processes; if this process is killed, they exit on EOF."""
    while _idle:
        _idle.pop().close()


def _serve(descriptor: int) -> None:
    """Reply to requests until the parent closes the pipe. Runs in the child."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent handles them
    with Connection(descriptor) as parent, tempfile.TemporaryFile() as messages:
        os.dup2(messages.fileno(), sys.stderr.fileno())  # of C++, too
        while True:
            try:
                request = parent.recv_bytes()
            except EOFError:
                return
            head, _, data = request.partition(b"\n")
            reply = _decode(data, *head.decode().split())
            messages.seek(0)
            if _DAMAGE.search(messages.read()):
                reply = _ERROR + b"its compressed pixels are damaged"
            messages.seek(0)
            messages.truncate()
            parent.send_bytes(reply)


def _decode(data: bytes, precision: str, plugin: str = "") -> bytes:
    """Reply to a request; without a plugin, pydicom chooses."""
    import pydicom

    bits = int(precision)
    out = io.BytesIO()
    out.write(_PIXELS)
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        dataset.BitsStored, dataset.HighBit = bits, bits - 1
        dataset.NumberOfFrames = 1  # 0 is a placeholder that pydicom 2 refuses
        if hasattr(dataset, "pixel_array_options"):  # since pydicom 3
            dataset.pixel_array_options(decoding_plugin=plugin)
        else:
            if plugin == "pylibjpeg" and bits <= 8:
                dataset.BitsAllocated = 8  # what openjpeg returns
            dataset.convert_pixel_data(_HANDLERS.get(plugin, plugin))
        np.save(out, np.asarray(dataset.pixel_array), allow_pickle=False)
    except Exception:  # every decoder has exceptions and messages of its own
        return _ERROR + b"its pixels cannot be decoded: they are damaged"
    return out.getvalue()
