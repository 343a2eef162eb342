"""Signals at any time, and whatever code does with the exception that they raise."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import cv2
import pytest
import synthetic

from xenon_mx.dicom import decoders

CTX = ("--ctx", "cpu()")
TRAIN = ("--model", "mobilenet0.25", "--no-pretrained", "--batch-size", 4, *CTX)
OUTCOMES = {
    signal.SIGINT: (130, "interrupted"),
    signal.SIGTERM: (143, "terminated"),
    signal.SIGHUP: (129, "hung up"),
}
SIGNALS = pytest.mark.parametrize("number", OUTCOMES)
# A command that sends itself a signal by `hit()`, and otherwise takes 20 s.
COMMAND = """
import ctypes, os, signal, sys, time, types
from xenon_mx import errors, main

def hit():
    os.kill(os.getpid(), signal.{name})
    for _ in range(1000):  # where Python runs the handler
        pass

def pack(*_):
    {act}
    time.sleep(20)
    print("went on")

sys.modules["xenon_mx.commands.pack"] = types.SimpleNamespace(pack=pack)
sys.argv[1:] = ["a", "b"]
main.pack()
"""
# Where the signal arrives: in a destructor, in libraries that convert, replace, ignore
# or repeatedly ignore the exception, in a C callback, and in ordinary code.
PLACES = [
    "type('Array', (), {'__del__': lambda self: hit()})()",
    """
    try:
        hit()
    except BaseException as error:
        raise ImportError("initialization failed") from error""",
    """
    try:
        hit()
    except BaseException:
        raise SystemExit(3) from None""",
    """
    try:
        hit()
    except BaseException:
        pass""",
    """
    for _ in range(3):
        try:
            hit() if _ == 0 else time.sleep(20)
        except BaseException:
            continue""",
    "ctypes.CFUNCTYPE(None)(hit)()",
    "hit()",
]


def run(code, **options):
    """Run Python code; return its exit status and output."""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, **options)
    return done.returncode, done.stdout + done.stderr


@SIGNALS
@pytest.mark.parametrize("act", PLACES)
def test_a_signal_ends_the_command_whatever_becomes_of_its_exception(act, number):
    status, message = OUTCOMES[number]
    code = COMMAND.format(name=signal.Signals(number).name, act=act)
    assert run(code) == (status, f"{message}\n")


@SIGNALS
def test_ignored_signals_stay_ignored(number):
    """As with nohup and `&`."""
    name = signal.Signals(number).name
    code = COMMAND.format(name=name, act="hit(); print('done'); sys.exit(0)")
    code = f"import signal; signal.signal(signal.{name}, signal.SIG_IGN)\n{code}"
    assert run(code) == (0, "done\n")


@SIGNALS
def test_a_signal_held_back_ends_the_command_after_the_block(number):
    """So that what the block begins, such as a child process, is known to its end."""
    act = """
    from xenon_mx.runtime import signals
    with signals.deferred():
        hit()
        print("whole", end=" ")"""
    code = COMMAND.format(name=signal.Signals(number).name, act=act)
    status, message = OUTCOMES[number]
    assert run(code) == (status, f"whole {message}\n")


def test_a_terminal_that_hangs_up_twice_does_not_cut_the_end_short(tmp_path):
    """The kernel sends SIGHUP, and then the shell does."""
    act = """
    try:
        hit()
    finally:
        hit()
        time.sleep(0.1)
        print("removed")"""
    code = COMMAND.format(name="SIGHUP", act=act)
    assert run(code) == (129, "removed\nhung up\n")


def test_a_signal_during_the_last_line_sets_the_exit_status():
    act = """
    raw = type(sys.stderr.buffer.raw)
    write = raw.write
    def late(*args):
        raw.write = write
        hit()
    raw.write = late
    raise errors.XenonError("a reason")"""
    code = COMMAND.format(name="SIGTERM", act=act)
    assert run(code) == (143, "error: a reason\nterminated\n")


def test_an_eof_error_is_a_bug_and_no_interruption():
    """NumPy raises it for an empty file; click converts it as Ctrl-D."""
    code = COMMAND.format(name="SIGINT", act="raise EOFError('No data left in file')")
    status, output = run(code)
    assert status == 70
    assert "EOFError: No data left in file" in output


def test_an_interrupted_command_runs_its_exit_functions(tmp_path):
    """But no destructors, which may abort, and it does not wait for threads."""
    act = """
    import atexit, threading
    sys.late = type("Late", (), {"__del__": lambda self: os.abort()})()
    atexit.register(print, "removed")
    threading.Thread(target=lambda: time.sleep(5) or print("went on")).start()
    print("word", end=" ")
    hit()"""
    code = COMMAND.format(name="SIGINT", act=act)
    assert run(code) == (130, "word removed\ninterrupted\n")


def start(command, *args, **options):
    code = f"from xenon_mx.main import {command}; {command}()"
    words = [sys.executable, "-c", code, *map(str, args)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, **{**pipes, **options})


@SIGNALS
def test_a_signal_before_anything_is_imported_has_no_traceback(number, tmp_path):
    """From the first line of xenon on; earlier signals are handled by Python."""
    (tmp_path / "click.py").write_text(
        f"import os, time; os.kill(os.getpid(), {int(number)}); time.sleep(20)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = start("report", "--help", env=environment)
    status, message = OUTCOMES[number]
    assert process.communicate(timeout=60) == ("", f"{message}\n")
    assert process.returncode == status


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with a few radiographs, a run of one epoch, and a prediction table."""
    folder = tmp_path_factory.mktemp("trained")
    pixels, labels = synthetic.labelled(8, seed=3)
    for row, image in zip(synthetic.rows_of(labels, "valid", ("XR_A",), 2), pixels):
        file = folder / row.path.replace("MURA-v1.1", "data")
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), image)
    synthetic.pack(
        folder / "packed", {name: (pixels, labels) for name in ("train", "valid")}
    )
    for command, *args in (
        ("train", "packed", "run", *TRAIN, "--epochs", 1),
        ("predict", "data", "out.csv", "--run", "run", *CTX),
    ):
        process = start(command, *args, cwd=folder)
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
    return folder


# Prints a line once its handlers are installed; earlier signals are handled by Python.
READY = """
from xenon_mx import main; from xenon_mx.runtime import signals
install = signals.install
signals.install = lambda: (install(), print("ready", flush=True))
main.{command}()
"""


@pytest.mark.slow
@SIGNALS
@pytest.mark.parametrize("command", ["report", "predict", "pack"])
def test_a_signal_at_a_random_time_ends_in_one_word(command, number, trained, tmp_path):
    """Either the output is complete, or nothing is left; no traceback is printed."""
    name, *args = {
        "report": ("page.html", "run", "out.csv", "--root", "data", "-o", "page.html"),
        "predict": ("new.csv", "data", "new.csv", "--run", "run", *CTX),
        "pack": ("new", "data", "new", "--overwrite"),
    }[command]
    status, message = OUTCOMES[number]
    rng = random.Random(f"{command} {number}")
    duration, before = 0.0, set(trained.iterdir())
    for turn in range(21):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        words = [sys.executable, "-c", READY.format(command=command), *map(str, args)]
        process = subprocess.Popen(words, cwd=trained, **pipes)
        process.stdout.readline()
        start_time = time.monotonic()
        if turn:
            time.sleep(rng.uniform(0, duration))
            process.send_signal(number)
        _, err = process.communicate(timeout=240)
        duration = duration or time.monotonic() - start_time
        assert "Traceback" not in err
        if process.returncode == status:
            assert err.splitlines()[-1] == message
        else:  # finished, or already exiting
            assert process.returncode in (0, -number), err
            assert (trained / name).exists()
        left = set(trained.iterdir()) - before
        assert {path.name for path in left} <= {name, f"{name}.json"}
        for path in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.slow
def test_training_whose_terminal_is_closed_can_go_on(trained, tmp_path):
    """The kernel sends SIGHUP, and writes to standard error fail."""
    master, slave = pty.openpty()
    args = ("packed", tmp_path / "run", "--epochs", 999, "--patience", 999, *TRAIN)
    process = start(
        "train",
        *args,
        cwd=trained,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    log = tmp_path / "run" / "log.csv"
    while not (log.exists() and log.read_text().count("\n") > 1):
        assert process.poll() is None, os.read(master, 10_000)
        os.read(master, 10_000)
    os.close(master)
    assert process.wait(120) == 129
    epochs = log.read_text().count("\n")
    process = start(
        "train", "packed", tmp_path / "run", "--resume", "--epochs", epochs, cwd=trained
    )
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "was finished" in err


def test_a_hung_up_training_says_how_to_go_on(tmp_path):
    """Even if a library has converted the exception of the signal."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    code = """
import os, signal, sys, types
from xenon_mx import main

def train(*_):
    try:
        os.kill(os.getpid(), signal.SIGHUP)
    except BaseException as error:
        raise ImportError from error

sys.modules["xenon_mx.commands.train"] = types.SimpleNamespace(train=train)
sys.argv[1:] = ["packed", "run", "--no-pretrained"]
main.train()
"""
    assert run(code, cwd=tmp_path) == (
        129,
        "the epoch in progress is discarded; continue with: xenon-train packed run "
        "--resume\nhung up\n",
    )


@SIGNALS
def test_a_signal_to_the_launcher_leaves_no_process_behind(number):
    mark = f"XENON_TEST_MARK={os.getpid()}-{int(number)}"
    environment = dict([*os.environ.items(), mark.split("=")])
    worker = "import time; print('ready', flush=True); time.sleep(600)"
    args = ("-n", 2, "--", sys.executable, "-c", worker)
    process = start("launch", *args, env=environment)
    assert {process.stderr.readline() for _ in range(2)} == {
        f"[worker {number}] ready\n" for number in range(2)
    }
    assert len(marked(mark)) >= 5
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    status, message = OUTCOMES[number]
    assert (process.returncode, err) == (status, f"{message}\n")
    assert marked(mark) == []


def marked(mark):
    """Return the PIDs of processes with NAME=VALUE in their environment."""
    pids = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or belongs to another user
            continue
        if mark.encode() in environment:
            pids.append(process.name)
    return pids


@SIGNALS
def test_a_decoder_leaves_signals_to_its_parent(number):
    """A terminal sends signals to both; the parent would report the exit as a crash."""
    child = decoders._Child()
    try:
        reply = child.request(b"no file", 8)  # its handlers are installed
        os.kill(child._process.pid, number)
        assert child.request(b"no file", 8) == reply
    finally:
        child.close()
