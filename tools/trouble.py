"""Trouble for xenon's commands, at random: kills, full disks, lost streams and so on.

Each kind of trouble disturbs one command on a small data set, lets it end, types the
same command again, and compares the results with those of a command that nobody
disturbed. A finding is whatever a user would complain of: another status than the
trouble deserves, a traceback, an end that does not come, a file that differs or is left
behind.
"""

from __future__ import annotations

import csv
import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Callable, NamedTuple

from environment import ROOT, say

FILMS = ROOT / "tests" / "fixtures" / "0.1.0" / "MURA-v1.1"
PATIENCE_S = 180.0  # chosen here: some twenty times what the longest command takes
EPOCHS = 3
TIMED = ("images_per_s", "wait_share", "seconds")  # columns that differ each time


class Command(NamedTuple):
    """A command, and what it writes.

    Attributes:
        name: The program.
        words: Its arguments; paths are relative to the folder of the trouble.
        results: Files and folders that it writes.
        seconds: How long it takes, undisturbed.
    """

    name: str
    words: tuple[str, ...]
    results: tuple[str, ...]
    seconds: float = 0.0


TRAIN = "--model mobilenet0.25 --no-pretrained --ctx cpu() --lr 1e-3 --batch-size 4"
COMMANDS = (
    Command(
        "xenon-pack",
        ("MURA-v1.1", "new", *"--size 32 --holdout 0.25".split()),
        ("new",),
    ),
    Command(
        "xenon-train",
        ("packed", "new", *TRAIN.split(), "--epochs", str(EPOCHS)),
        ("new",),
    ),
    Command(
        "xenon-predict",
        ("MURA-v1.1/valid_image_paths.csv", "new.csv", "--run", "run", "--images")
        + ("images.csv", "--cam", "maps", "--ctx", "cpu()"),
        ("new.csv", "new.csv.json", "images.csv", "images.csv.json", "maps"),
    ),
    Command("xenon-export", ("run", "new.onnx"), ("new.onnx",)),
    Command(
        "xenon-report",
        ("run", "studies.csv", "-o", "new.html", "--model-card", "new.md")
        + ("--figures", "figures.csv"),
        ("new.html", "new.md", "figures.csv", "figures.csv.json"),
    ),
)


class Bench:
    """A folder with all that the commands read, and what they write undisturbed."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs = programs
        self.folder = folder
        self.world = folder / "world"
        self.world.mkdir(parents=True)
        shutil.copytree(FILMS, self.world / "MURA-v1.1")
        for line in (
            "xenon-pack MURA-v1.1 packed --size 32 --holdout 0.25",
            f"xenon-train packed run {TRAIN} --epochs 1",
            "xenon-predict MURA-v1.1/valid_image_paths.csv studies.csv --run run",
        ):
            name, *words = line.split()
            status, said = self.finish(
                self.start(Command(name, tuple(words), ()), self.world)
            )
            assert status == 0, said
        self.commands, self.expected = [], {}
        for command in COMMANDS:
            place = self.place(f"expected-{command.name}")
            start = time.monotonic()
            status, said = self.finish(self.start(command, place))
            assert status == 0, said
            self.commands.append(command._replace(seconds=time.monotonic() - start))
            self.expected[command.name] = results(command, place)

    def place(self, name: str) -> Path:
        """Return a fresh copy of what the commands read."""
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.world, place)
        return place

    def start(
        self, command: Command, place: Path, shell: str = 'exec "$@"'
    ) -> subprocess.Popen[str]:
        """Start a command, in a process group of its own, by a line of the shell."""
        words = [str(self.programs / command.name), *command.words]
        return subprocess.Popen(
            ["bash", "-c", shell, "-", *words],
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> tuple[int | None, str]:
        """Wait for a command; return its status, None without an end, and its log."""
        try:
            _, said = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, said = process.communicate()
            return None, said
        return process.returncode, said

    def again(self, command: Command, place: Path) -> str:
        """Type the same command again; return what is wrong with its results."""
        if command.name == "xenon-train" and (place / "new" / "run.json").exists():
            command = command._replace(words=("packed", "new", "--resume"))
        if command.name == "xenon-pack" and (place / "new" / "pack.json").exists():
            command = command._replace(words=(*command.words, "--overwrite"))
        status, said = self.finish(self.start(command, place))
        if status != 0:
            return f"the same command again ended with {status}: {said[-800:]}"
        return self.compare(command, place)

    def compare(self, command: Command, place: Path) -> str:
        """Return how results differ from those of an undisturbed command."""
        if results(command, place) != self.expected[command.name]:
            return "the results are not those of an undisturbed command"
        strange = [
            str(path.relative_to(place))
            for path in place.rglob("*")
            if path.name.startswith(".xenon") or path.name.endswith(".partial")
        ]
        return f"left behind: {strange}" if strange else ""


def results(command: Command, place: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that a command wrote, by its name."""
    found = {}
    if command.results == ("new",) and command.name == "xenon-train":
        run = place / "new"
        with open(run / "log.csv", newline="") as log:
            rows = [
                {key: value for key, value in row.items() if key not in TIMED}
                for row in csv.DictReader(log)
            ]
        found["log.csv"] = repr(rows)
        files = [*(run / "params").iterdir(), run / "best.json"]
    else:
        paths = [place / name for name in command.results]
        files = [f for p in paths for f in (p.rglob("*") if p.is_dir() else [p])]
    for file in files:
        if file.is_file():
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            found[str(file.relative_to(place))] = digest
    return found


def judge(status: int | None, said: str, allowed: set[int]) -> str:
    """Return what is wrong with how a disturbed command ended."""
    if status is None:
        return f"no end after {PATIENCE_S:.0f} s: {said[-800:]}"
    if "Traceback" in said or "this is a bug" in said:
        return f"a traceback: {said[-1500:]}"
    if status not in allowed:
        return f"ended with {status}: {said[-800:]}"
    return ""


def kill(bench: Bench, draw: random.Random, command: Command, place: Path) -> str:
    """Kill a command by SIGKILL at a random instant."""
    process = bench.start(command, place)
    time.sleep(draw.uniform(0, command.seconds))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return bench.again(command, place)


def interrupt(bench: Bench, draw: random.Random, command: Command, place: Path) -> str:
    """Send a command Ctrl-C, SIGTERM or SIGHUP at a random instant."""
    process = bench.start(command, place)
    time.sleep(draw.uniform(0.1, command.seconds))
    number = draw.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    os.killpg(process.pid, number)
    status, said = bench.finish(process)
    # Python itself ends by the signal while it starts, and so does a finished command.
    wrong = judge(status, said, {0, 128 + number, -number})
    return wrong or bench.again(command, place)


def full_disk(bench: Bench, draw: random.Random, command: Command, place: Path) -> str:
    """Let no file grow beyond a random size."""
    most = draw.choice([0, 1, 2, 4, 16, 64, 256, 860, 1024, 1700])
    process = bench.start(command, place, f'ulimit -f {most}; exec "$@"')
    status, said = bench.finish(process)
    wrong = judge(status, said, {0, 1})
    if not wrong and status and not said.splitlines()[-1].startswith("error: "):
        wrong = f"the last line is no error: {said[-800:]}"
    return wrong or bench.again(command, place)


def lost_stream(
    bench: Bench, draw: random.Random, command: Command, place: Path
) -> str:
    """Take a command's standard error away."""
    shell = draw.choice(
        [
            'exec "$@" 2>/dev/full',
            'exec "$@" 2>&-',
            'set -o pipefail; "$@" 2>&1 | head -1 >/dev/null',
            'set -o pipefail; "$@" 2>&1 | true',
        ]
    )
    status, said = bench.finish(bench.start(command, place, shell))
    return judge(status, said, {0}) or bench.compare(command, place)


def double_start(
    bench: Bench, draw: random.Random, command: Command, place: Path
) -> str:
    """Start a command twice, a moment apart."""
    first = bench.start(command, place)
    time.sleep(draw.uniform(0, command.seconds / 2))
    second = bench.start(command, place)
    ends = [bench.finish(process) for process in (first, second)]
    wrong = [judge(status, said, {0, 1}) for status, said in ends]
    if any(wrong):
        return "; ".join(wrong)
    if 0 not in [status for status, _ in ends]:
        return f"both were refused: {ends[0][1][-400:]} / {ends[1][1][-400:]}"
    return bench.compare(command, place)


def moved(bench: Bench, draw: random.Random, command: Command, place: Path) -> str:
    """Move a run while it trains, and begin another at its old path."""
    (train,) = (each for each in bench.commands if each.name == "xenon-train")
    process = bench.start(train, place)
    time.sleep(draw.uniform(0, train.seconds))
    if not (place / "new").exists():
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return ""
    os.rename(place / "new", place / "kept")
    wrong = bench.again(train, place)
    status, said = bench.finish(process)
    return wrong or judge(status, said, {0, 1}) or bench.compare(train, place)


Trouble = Callable[[Bench, random.Random, Command, Path], str]
TROUBLES: tuple[Trouble, ...] = (
    kill,
    interrupt,
    full_disk,
    lost_stream,
    double_start,
    moved,
)


def run(programs: Path, folder: Path, seconds: float, seed: int) -> int:
    """Make trouble for a while; print a count of each kind, and every finding.

    Args:
        programs: Where the commands are.
        folder: An empty folder to work in.
        seconds: How long.
        seed: Of what is done when.

    Returns:
        How many findings there were.
    """
    draw = random.Random(seed)
    bench = Bench(programs, folder)
    counts: dict[str, int] = {}
    findings = 0
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        trouble, command = draw.choice(TROUBLES), draw.choice(bench.commands)
        name = f"{trouble.__name__} {command.name}"
        if trouble is moved:
            name = "moved xenon-train"
        place = bench.place(f"trouble-{number}")
        wrong = trouble(bench, draw, command, place)
        counts[name] = counts.get(name, 0) + 1
        number += 1
        if wrong:
            findings += 1
            say(f"FOUND {name} in {place}: {wrong}")
        else:
            shutil.rmtree(place)
        left = max(0.0, end - time.monotonic())
        say(f"{number} troubles, {findings} findings, {left:.0f} s left: {name}")
    for name in sorted(counts):
        say(f"{counts[name]:5} {name}")
    say(f"{number} troubles, {findings} findings")
    return findings
