"""Damaged files, and the commands run on them, each in a process of its own.

    python tests/fuzzing.py CASES SEED FOLDER

Makes FOLDER/whole (a data set, packed; a run of two members and a last epoch; their
ONNX file), then damages one file of a copy and runs a command on it, CASES times;
prints how each ended as JSON, a list a line. MXNet is imported once, before the first
process is forked and before it has done anything, which is what makes a thousand cases
affordable.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import cv2
import synthetic

from support import mura_tree
from xenon_mx import cli
from xenon_mx.commands import pack, predict, train  # noqa: F401 - before the fork

LIMIT_S = 60  # for what takes half a second
TIMES = ("images_per_s", "wait_share", "seconds")
NET = ["--model", "mobilenet0.25", "--no-pretrained", "--ctx", "cpu()"]

# Command line, the files that may be damaged, and where its results are.
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


def damage(draw: random.Random, content: bytes) -> bytes:
    """Cut, change, delete, insert or blank out a few bytes."""
    at = draw.randrange(len(content)) if content else 0
    few = draw.randint(1, max(1, min(40, len(content) - at)))
    noise = bytes(draw.getrandbits(8) for _ in range(few))
    return draw.choice(
        [
            lambda: content[:at],
            lambda: content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)])
            + content[at + 1 :],
            lambda: content[:at] + content[at + few :],
            lambda: content[:at] + noise + content[at:],
            lambda: content[:at] + bytes(few) + content[at + few :],
        ]
    )()  # fmt: skip


def make(folder: Path) -> None:
    """Make what is to be damaged, with the commands themselves."""
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
    """Run a command in a process of its own.

    Returns:
        Its exit status, or the signal that ended it or `hang`; and its standard error.
    """
    errors = folder / "stderr"
    child = os.fork()
    if not child:
        os.setsid()
        os.chdir(folder)
        with open(errors, "wb") as stream:
            os.dup2(stream.fileno(), 2)
            os.dup2(stream.fileno(), 1)
        sys.argv = [f"xenon-{argv[0]}", *argv[1:]]
        status = 99
        try:
            getattr(cli, argv[0])()
        except SystemExit as end:
            status = end.code or 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    end = time.monotonic() + LIMIT_S
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hang", errors.read_text()
        time.sleep(0.01)
    said = errors.read_text(errors="replace")
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name, said
    return os.WEXITSTATUS(status), said


def results(path: Path) -> dict[str, str]:
    """What a command is to write whatever happens: file to digest, without times."""
    found = {}
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not file.is_file() or "tfevents" in file.name or file.suffix == ".json":
            continue  # the params that state.json and best.json name are compared
        content = file.read_bytes()
        if file.name == "log.csv":
            rows = list(csv.DictReader(content.decode().splitlines()))
            kept = [{k: v for k, v in r.items() if k not in TIMES} for r in rows]
            content = json.dumps(kept).encode()
        found[str(file.relative_to(path))] = hashlib.sha256(content).hexdigest()
    return found


def check(
    folder: Path, name: str, damaged: str, expected: dict[str, str]
) -> str | None:
    """Run a command on a damaged copy; say what is wrong with its answer."""
    argv, _, out = COMMANDS[name]
    status, said = execute(argv, folder)
    if "Traceback" in said:
        return f"traceback: {said[-1500:]}"
    if status == 0:
        same = results(folder / out) == expected
        return "right" if same else "exit 0, wrong results"
    if status != 1:
        return f"ended with {status}: {said[-1500:]}"
    last = said.splitlines()[-1]
    if not last.startswith("error: "):
        return f"the last line is no error: {last}"
    # A damaged list, index and record file are told apart by one another.
    stem = Path(damaged).name.split(".")[0]
    return "refused" if stem in said else f"does not name {damaged}: {said}"


def main(cases: int, seed: int, folder: Path) -> None:
    """Run every case, and print how each ended."""
    whole = folder / "whole"
    whole.mkdir(parents=True)
    make(whole)
    expected = {}
    for name, (argv, _, out) in COMMANDS.items():
        copy = folder / f"right-{name}"
        shutil.copytree(whole, copy)
        assert execute(argv, copy)[0] == 0, (copy / "stderr").read_text()
        expected[name] = results(copy / out)
    draw = random.Random(seed)
    for number in range(cases):
        name = draw.choice(list(COMMANDS))
        copy = folder / str(number)
        shutil.copytree(whole, copy)
        patterns = COMMANDS[name][1]
        files = sorted(f for pattern in patterns for f in copy.glob(pattern))
        file = draw.choice(files)
        before = file.read_bytes()
        file.write_bytes(damage(draw, before))
        damaged = str(file.relative_to(copy))
        answer = check(copy, name, damaged, expected[name])
        sys.stdout.write(json.dumps([number, name, damaged, answer]) + "\n")
        if answer in ("right", "refused"):
            shutil.rmtree(copy)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
