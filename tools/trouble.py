"""Random disturbances of xenon's commands: kills, full disks, lost streams and others.

Each disturbance affects one command on a small data set. After the command has ended,
it is repeated, and its results are compared with those of an undisturbed command. A
finding is a wrong exit status, a traceback, a command that does not end, or a file that
differs or is left behind.
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

from environment import ROOT, print_status

MURA = ROOT / "tests" / "fixtures" / "0.1.0" / "MURA-v1.1"
TIMEOUT_S = 180.0  # chosen here: about twenty times the longest command
EPOCHS = 3
# These differ in every run.
TIME_COLUMNS = ("images_per_s", "wait_share", "seconds", "finished")


class Command(NamedTuple):
    """A command and its outputs.

    Attributes:
        name: The program.
        words: Its arguments; paths are relative to the working directory.
        results: Files and folders that it writes.
        seconds: Its duration when undisturbed.
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
    """A folder with all inputs, and the results of undisturbed commands.

    Args:
        programs: The folder of the commands.
        folder: An empty folder to work in.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs = programs
        self.folder = folder
        self.inputs = folder / "inputs"
        self.inputs.mkdir(parents=True)
        shutil.copytree(MURA, self.inputs / "MURA-v1.1")
        for line in (
            "xenon-pack MURA-v1.1 packed --size 32 --holdout 0.25",
            f"xenon-train packed run {TRAIN} --epochs 1",
            "xenon-predict MURA-v1.1/valid_image_paths.csv studies.csv --run run",
        ):
            name, *words = line.split()
            status, log = self.finish(
                self.start(Command(name, tuple(words), ()), self.inputs)
            )
            assert status == 0, log
        self.commands, self.expected = [], {}
        for command in COMMANDS:
            place = self.copy_inputs(f"expected-{command.name}")
            start = time.monotonic()
            status, log = self.finish(self.start(command, place))
            assert status == 0, log
            self.commands.append(command._replace(seconds=time.monotonic() - start))
            self.expected[command.name] = results(command, place)

    def copy_inputs(self, name: str) -> Path:
        """Return a folder with a new copy of the inputs."""
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.inputs, place)
        return place

    def start(
        self, command: Command, place: Path, shell: str = 'exec "$@"'
    ) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, through a line of bash."""
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
        """Wait for a command; return its status, or None on a timeout, and its log."""
        try:
            _, log = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, log = process.communicate()
            return None, log
        return process.returncode, log

    def repeat(self, command: Command, place: Path) -> str:
        """Repeat a command; return what is wrong with its results, or an empty text."""
        if command.name == "xenon-train" and (place / "new" / "run.json").exists():
            command = command._replace(words=("packed", "new", "--resume"))
        if command.name == "xenon-pack" and (place / "new" / "pack.json").exists():
            command = command._replace(words=(*command.words, "--overwrite"))
        status, log = self.finish(self.start(command, place))
        if status != 0:
            return f"the repeated command ended with {status}: {log[-800:]}"
        return self.compare(command, place)

    def compare(self, command: Command, place: Path) -> str:
        """Return how the results differ from undisturbed ones, or an empty string."""
        if results(command, place) != self.expected[command.name]:
            return "the results differ from those of an undisturbed command"
        leftovers = [
            str(path.relative_to(place))
            for path in place.rglob("*")
            if path.name.startswith(".xenon") or path.name.endswith(".partial")
        ]
        return f"left behind: {leftovers}" if leftovers else ""


def results(command: Command, place: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that a command wrote, by relative path."""
    digests = {}
    if command.results == ("new",) and command.name == "xenon-train":
        run = place / "new"
        with open(run / "log.csv", newline="") as stream:
            rows = [
                {key: value for key, value in row.items() if key not in TIME_COLUMNS}
                for row in csv.DictReader(stream)
            ]
        digests["log.csv"] = repr(rows)
        files = [*(run / "params").iterdir(), run / "best.json"]
    else:
        paths = [place / name for name in command.results]
        files = [f for p in paths for f in (p.rglob("*") if p.is_dir() else [p])]
    for file in files:
        if file.is_file():
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            digests[str(file.relative_to(place))] = digest
    return digests


def check_end(status: int | None, log: str, allowed: set[int]) -> str:
    """Return what is wrong with the end of a disturbed command, or an empty string."""
    if status is None:
        return f"still running after {TIMEOUT_S:.0f} s: {log[-800:]}"
    if "Traceback" in log or "this is a bug" in log:
        return f"a traceback: {log[-1500:]}"
    if status not in allowed:
        return f"ended with {status}: {log[-800:]}"
    return ""


def kill(bench: Bench, rng: random.Random, command: Command, place: Path) -> str:
    """Kill a command with SIGKILL at a random time."""
    process = bench.start(command, place)
    time.sleep(rng.uniform(0, command.seconds))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return bench.repeat(command, place)


def interrupt(bench: Bench, rng: random.Random, command: Command, place: Path) -> str:
    """Send SIGINT, SIGTERM or SIGHUP to a command at a random time."""
    process = bench.start(command, place)
    time.sleep(rng.uniform(0.1, command.seconds))
    number = rng.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    os.killpg(process.pid, number)
    status, log = bench.finish(process)
    # While Python starts, and after the command is done, the signal itself ends it.
    wrong = check_end(status, log, {0, 128 + number, -number})
    return wrong or bench.repeat(command, place)


def full_disk(bench: Bench, rng: random.Random, command: Command, place: Path) -> str:
    """Limit the size of every file to a random value."""
    blocks = rng.choice([0, 1, 2, 4, 16, 64, 256, 860, 1024, 1700])
    process = bench.start(command, place, f'ulimit -f {blocks}; exec "$@"')
    status, log = bench.finish(process)
    wrong = check_end(status, log, {0, 1})
    if not wrong and status and not log.splitlines()[-1].startswith("error: "):
        wrong = f"the last line is not an error: {log[-800:]}"
    return wrong or bench.repeat(command, place)


def lost_stream(bench: Bench, rng: random.Random, command: Command, place: Path) -> str:
    """Close, fill or break a command's standard error."""
    shell = rng.choice(
        [
            'exec "$@" 2>/dev/full',
            'exec "$@" 2>&-',
            'set -o pipefail; "$@" 2>&1 | head -1 >/dev/null',
            'set -o pipefail; "$@" 2>&1 | true',
        ]
    )
    status, log = bench.finish(bench.start(command, place, shell))
    return check_end(status, log, {0}) or bench.compare(command, place)


def double_start(
    bench: Bench, rng: random.Random, command: Command, place: Path
) -> str:
    """Start a command twice, the second time after a random delay."""
    first = bench.start(command, place)
    time.sleep(rng.uniform(0, command.seconds / 2))
    second = bench.start(command, place)
    ends = [bench.finish(process) for process in (first, second)]
    wrong = [check_end(status, log, {0, 1}) for status, log in ends]
    if any(wrong):
        return "; ".join(wrong)
    if 0 not in [status for status, _ in ends]:
        return f"both failed: {ends[0][1][-400:]} / {ends[1][1][-400:]}"
    return bench.compare(command, place)


def moved(bench: Bench, rng: random.Random, command: Command, place: Path) -> str:
    """Move a run folder during training, and start another run at its old path."""
    (train,) = (c for c in bench.commands if c.name == "xenon-train")
    process = bench.start(train, place)
    time.sleep(rng.uniform(0, train.seconds))
    if not (place / "new").exists():
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return ""
    os.rename(place / "new", place / "kept")
    wrong = bench.repeat(train, place)
    status, log = bench.finish(process)
    return wrong or check_end(status, log, {0, 1}) or bench.compare(train, place)


Disturbance = Callable[[Bench, random.Random, Command, Path], str]
DISTURBANCES: tuple[Disturbance, ...] = (
    kill,
    interrupt,
    full_disk,
    lost_stream,
    double_start,
    moved,
)


def run(programs: Path, folder: Path, seconds: float, seed: int) -> int:
    """Disturb random commands; print every finding, and the count of each disturbance.

    Args:
        programs: The folder of the commands.
        folder: An empty folder to work in.
        seconds: The duration.
        seed: The seed of the random choices.

    Returns:
        The number of findings.
    """
    rng = random.Random(seed)
    bench = Bench(programs, folder)
    counts: dict[str, int] = {}
    findings = 0
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        disturb, command = rng.choice(DISTURBANCES), rng.choice(bench.commands)
        name = f"{disturb.__name__} {command.name}"
        if disturb is moved:
            name = "moved xenon-train"
        place = bench.copy_inputs(f"trouble-{number}")
        wrong = disturb(bench, rng, command, place)
        counts[name] = counts.get(name, 0) + 1
        number += 1
        if wrong:
            findings += 1
            print_status(f"FOUND {name} in {place}: {wrong}")
        else:
            shutil.rmtree(place)
        left = max(0.0, end - time.monotonic())
        print_status(
            f"{number} disturbances, {findings} findings, {left:.0f} s left: {name}"
        )
    for name in sorted(counts):
        print_status(f"{counts[name]:5} {name}")
    print_status(f"{number} disturbances, {findings} findings")
    return findings
