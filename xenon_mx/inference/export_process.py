"""The process that exports checkpoints, so that another process needs no MXNet.

    python -m xenon_mx.inference.export_process

Owns both ends of the pipe between them: what is asked on standard input, and how graphs
and errors come back on standard output. Must not know where graphs are kept.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # the working directory: a json.py there would shadow Python's

import contextlib  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
from dataclasses import asdict, dataclass  # noqa: E402
from typing import IO, Any, Iterator, Sequence  # noqa: E402

from xenon_mx.errors import XenonError  # noqa: E402
from xenon_mx.runtime import extras, mxnet, progress, signals  # noqa: E402

_PACKAGES = {"mxnet": "MXNet", "gluoncv": "gluoncv", "onnx": "onnx"}


@dataclass(frozen=True)
class Net:
    """A checkpoint to export.

    Attributes:
        model: Its net, one of `net_names.NAMES`.
        params: The path of its weights.
        sha256: The SHA-256 that they must have.
        size: The side of the net's square input, px.
    """

    model: str
    params: str
    sha256: str
    size: int


def check_installed() -> None:
    """Check that exporting is possible, without the time that it takes to import.

    Raises:
        XenonError: A package is missing.
    """
    missing = [name for key, name in _PACKAGES.items() if not _is_installed(key)]
    if missing:
        raise XenonError(
            f"the run has to be exported first, which needs {', '.join(missing)}: "
            f"{extras.install('cpu,export')}, which is needed for that only; or use "
            f"--runtime mxnet"
        )


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # imported, and hidden
        return False


def export(nets: Sequence[Net]) -> Iterator[bytes]:
    """Yield the graph of each checkpoint, exported by another process.

    The process ends when the iterator is closed.

    Raises:
        XenonError: A file is missing or damaged, or its net cannot be exported.
    """
    with contextlib.ExitStack() as stack:
        with signals.deferred():
            child = subprocess.Popen(
                [sys.executable, "-m", "xenon_mx.inference.export_process"],
                env=mxnet.environment_of_child(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Ctrl-C reaches this process alone, which ends the other silently.
                start_new_session=True,
            )
            stack.callback(child.wait)
            stack.callback(child.kill)  # no effect if it has ended
        assert child.stdin is not None
        assert child.stdout is not None
        stack.callback(child.stdout.close)
        with contextlib.suppress(BrokenPipeError), child.stdin as stdin:
            asked = json.dumps([asdict(net) for net in nets], allow_nan=False)
            stdin.write(asked.encode())
        for _ in nets:
            yield _receive(child.stdout)


def _receive(stream: IO[bytes]) -> bytes:
    """Read the next graph, or raise the error that came instead."""
    line = stream.readline()
    answer: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
    if "bytes" in answer:
        data = stream.read(answer["bytes"])
        if len(data) == answer["bytes"]:
            return data
    if "error" in answer:
        raise XenonError(answer["error"], answer["details"])
    raise XenonError(
        "the process that exports the run has ended without a result: see its messages "
        "above, or use --runtime mxnet"
    )


def _send(stream: IO[bytes], answer: dict[str, Any], data: bytes = b"") -> None:
    stream.write(json.dumps(answer, allow_nan=False).encode() + b"\n" + data)
    stream.flush()


def main() -> None:
    """Export what standard input asks for, and exit."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    # What MXNet prints must not mix with the graphs.
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    nets = [Net(**each) for each in json.load(sys.stdin)]
    try:
        for net in nets:
            data = _export(net)
            _send(stream, {"bytes": len(data)}, data)
    except XenonError as error:
        _send(stream, {"error": str(error), "details": error.details})
    except BrokenPipeError:  # nobody waits any more
        pass
    stream.close()


def _export(net: Net) -> bytes:
    from pathlib import Path

    from xenon_mx.inference import onnx_export, onnx_graph
    from xenon_mx.models import network

    onnx_graph.check_packages()
    with mxnet.failures():
        built = network.build(
            net.model,
            Path(net.params),
            [mxnet.mx.cpu()],
            reference=True,
            sha256=net.sha256,
        )
        properties = {"members": [{"model": net.model, "sha256": net.sha256}]}
        bar = progress.silent(total=2)
        return onnx_export.export(net.params, [built], net.size, properties, bar)


if __name__ == "__main__":
    main()
