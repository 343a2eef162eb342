"""Runs of the commands on damaged files, each in a process of its own.

    python -m support.fuzzing CASES SEED FOLDER

Creates FOLDER/whole (a data set, packed; a run of two members and a last epoch; their
ONNX file), then damages one file of a copy and runs a command on it, CASES times, and
prints each outcome as JSON, one list per line. MXNet is imported once, before the first
fork and without computing anything, which makes a thousand cases affordable. What a
command should give is computed when a case first asks for it.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import cv2
import synthetic

from support import mura_tree
from xenon_mx import cli
from xenon_mx.commands import pack, predict, train  # noqa: F401 - before the fork

TIMEOUT_S = 60  # a command takes half a second
TIMES = ("images_per_s", "wait_share", "seconds", "finished")
NET = ["--model", "mobilenet0.25", "--no-pretrained", "--ctx", "cpu()"]

# Command line, the files that may be damaged, and the output.
COMMANDS = {
    "pack": (["pack", "source", "out", "--size", "32"], ["source/**/*.png"], "out"),
    "train": (
        ["train", "packed", "out", *NET, "--epochs", "1"],
        ["packed/*"],
        "out",
    ),
    "predict": (
        ["predict", "packed/valid.rec", "out.csv", "--run", "run", "--ctx", "cpu()"],
        ["packed/valid.*", "packed/pack.json", "run/*.json", "run/params/*"],
        "out.csv",
    ),
    "exported": (
        ["predict", "packed/valid.rec", "out.csv", "--run", "run.onnx"],
        ["run.onnx"],
        "out.csv",
    ),
    "resume": (
        ["train", "packed", "run", "--resume", "--epochs", "3"],
        ["run/*.json", "run/last/*", "run/params/*", "packed/*"],
        "run",
    ),
}


def damage(rng: random.Random, content: bytes) -> bytes:
    """Truncate the content, flip a bit, or delete, insert or zero a few bytes."""
    at = rng.randrange(len(content)) if content else 0
    count = rng.randint(1, max(1, min(40, len(content) - at)))
    noise = bytes(rng.getrandbits(8) for _ in range(count))
    return rng.choice(
        [
            lambda: content[:at],
            lambda: content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)])
            + content[at + 1 :],
            lambda: content[:at] + content[at + count :],
            lambda: content[:at] + noise + content[at:],
            lambda: content[:at] + bytes(count) + content[at + count :],
        ]
    )()  # fmt: skip


def make(folder: Path) -> None:
    """Create the files to damage, with the commands themselves."""
    pixels, labels = synthetic.labelled(16)
    studies = [
        mura_tree.Study(("train", "valid")[number >= 10], "XR_A", number, label)
        for number, label in enumerate(labels)
    ]
    mura_tree.write_images(
        folder / "source", studies, lambda f, n: cv2.imwrite(str(f), pixels[n])
    )
    for argv in (
        ["pack", "source", "packed", "--size", "32"],
        ["train", "packed", "run", *NET, "--epochs", "2"],
        ["export", "run", "run.onnx"],
    ):
        assert execute(argv, folder)[0] == 0


def execute(argv: list[str], folder: Path) -> tuple[int | str, str]:
    """Run a command in a forked process.

    Returns:
        The exit status, signal name or `hang`; and the output.
    """
    errors = folder / "stderr"
    child = os.fork()
    if not child:
        _run_child(argv, folder, errors)
    end = time.monotonic() + TIMEOUT_S
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hang", errors.read_text()
        time.sleep(0.01)
    output = errors.read_text(errors="replace")
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name, output
    return os.WEXITSTATUS(status), output


def _run_child(argv: list[str], folder: Path, errors: Path) -> NoReturn:
    """Run a command in this process, with its output in a file, and exit."""
    os.setsid()
    os.chdir(folder)
    with open(errors, "wb") as stream:
        os.dup2(stream.fileno(), 2)
        os.dup2(stream.fileno(), 1)
    sys.argv = [f"xenon-{argv[0]}", *argv[1:]]
    status = 99
    try:
        getattr(cli, argv[0])()
    except SystemExit as stop:
        status = stop.code or 0
    finally:
        sys.stderr.flush()
        os._exit(status)


def results(path: Path) -> dict[str, str]:
    """Return a command's reproducible output: file to digest, without times."""
    digests = {}
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not file.is_file() or "tfevents" in file.name or file.suffix == ".json":
            continue  # the params that state.json and best.json name are compared
        content = file.read_bytes()
        if file.name == "log.csv":
            rows = list(csv.DictReader(content.decode().splitlines()))
            kept = [{k: v for k, v in r.items() if k not in TIMES} for r in rows]
            content = json.dumps(kept).encode()
        digests[str(file.relative_to(path))] = hashlib.sha256(content).hexdigest()
    return digests


@functools.lru_cache(maxsize=None)
def expected(whole: Path, name: str) -> dict[str, str]:
    """Return the results of a command on a copy of the whole files."""
    argv, _, out = COMMANDS[name]
    copy = whole.with_name(f"right-{name}")
    shutil.copytree(whole, copy)
    assert execute(argv, copy)[0] == 0, (copy / "stderr").read_text()
    return results(copy / out)


def check(whole: Path, folder: Path, name: str, damaged: str) -> str | None:
    """Run a command on a damaged copy; return `right`, `refused` or what is wrong."""
    argv, _, out = COMMANDS[name]
    status, output = execute(argv, folder)
    if "Traceback" in output:
        return f"traceback: {output[-1500:]}"
    if status == 0:
        same = results(folder / out) == expected(whole, name)
        return "right" if same else "exit 0, wrong results"
    if status != 1:
        return f"ended with {status}: {output[-1500:]}"
    last = output.splitlines()[-1]
    if not last.startswith("error: "):
        return f"the last line is no error: {last}"
    # A list, index and record file are checked against each other, so that the error
    # may name either: the stem is enough.
    stem = Path(damaged).name.split(".")[0]
    return "refused" if stem in output else f"does not name {damaged}: {output}"


def main(cases: int, seed: int, folder: Path) -> None:
    """Run every case, and print its outcome."""
    whole = folder / "whole"
    whole.mkdir(parents=True)
    make(whole)
    rng = random.Random(seed)
    for number in range(cases):
        name = rng.choice(list(COMMANDS))
        copy = folder / str(number)
        shutil.copytree(whole, copy)
        patterns = COMMANDS[name][1]
        files = sorted(f for pattern in patterns for f in copy.glob(pattern))
        file = rng.choice(files)
        before = file.read_bytes()
        file.write_bytes(damage(rng, before))
        damaged = str(file.relative_to(copy))
        outcome = check(whole, copy, name, damaged)
        sys.stdout.write(json.dumps([number, name, damaged, outcome]) + "\n")
        if outcome in ("right", "refused"):
            shutil.rmtree(copy)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
