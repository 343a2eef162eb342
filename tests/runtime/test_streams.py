"""Standard streams that are full, broken or closed, and names that need escapes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import cv2
import pytest
import synthetic

LOST = ("full", "broken", "closed")
CTX = ("--ctx", "cpu()")
TRAIN = ("--model", "mobilenet0.25", "--no-pretrained", "--batch-size", 4, *CTX)


def script(command):
    return [sys.executable, "-c", f"from xenon_mx.main import {command}; {command}()"]


@contextlib.contextmanager
def lost(how):
    """Yield a descriptor to which writing fails."""
    if how == "full":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, descriptor = os.pipe()
        os.close(reader)
    yield descriptor
    os.close(descriptor)


def run(command, *args, out=None, err=None, **options):
    """Run a command with lost streams; return its status and its other output."""
    closed = "".join(
        f" {number}>&-" for number, how in ((1, out), (2, err)) if how == "closed"
    )
    words = ["sh", "-c", f'exec "$@"{closed}', "sh", *script(command), *map(str, args)]
    with contextlib.ExitStack() as stack:
        streams = {
            name: stack.enter_context(lost(how)) if how else subprocess.PIPE
            for name, how in (("stdout", out), ("stderr", err))
        }
        done = subprocess.run(words, text=True, timeout=240, **streams, **options)
    return done.returncode, (done.stdout or "") + (done.stderr or "")


@pytest.fixture(scope="session")
def studies(tmp_path_factory):
    """A folder of a few studies, and a packed folder of similar images."""
    folder = tmp_path_factory.mktemp("studies")
    pixels, labels = synthetic.labelled(8, seed=3)
    rows = synthetic.rows_of(labels, "valid", ("XR_A", "XR_B"), 2)
    for row, image in zip(rows, pixels):
        file = folder / row.path.replace("MURA-v1.1", "data")
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), image)
    splits = {"train": synthetic.labelled(16), "valid": (pixels, labels)}
    synthetic.pack(folder / "packed", splits)
    return folder


@pytest.mark.parametrize("how", LOST)
@pytest.mark.parametrize(
    ("args", "status"), [(["--sise"], 2), (["nowhere", "out"], 1), (["--help"], 0)]
)
def test_a_lost_log_leaves_the_exit_status_as_it_is(args, status, how, tmp_path):
    assert run("pack", *args, err=how, cwd=tmp_path)[0] == status


def test_packing_goes_on_without_its_log(studies, tmp_path):
    assert run("pack", studies / "data", tmp_path / "out", err="broken") == (0, "")
    status, output = run("pack", "--check", tmp_path / "out")
    assert (status, output.endswith("valid: 8 records, whole\n")) == (0, True)


def test_what_libraries_write_after_the_log_was_lost_goes_nowhere(tmp_path):
    """And not into a file opened with the number of the closed stream."""
    code = """
import os
from xenon_mx.runtime import streams
streams.guard()
with open("mine", "w") as mine:
    assert mine.fileno() > 2
    os.write(1, b"libpng warning")
    os.write(2, b"libpng warning")
"""
    words = [sys.executable, "-c", code]
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *words],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        assert (tmp_path / "mine").read_bytes() == b""


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["--check", "packed"]])
@pytest.mark.parametrize(
    ("how", "output"),
    [
        ("full", "error: standard output: No space left on device\n"),
        ("broken", ""),  # as in other programs, since the reader closed it on purpose
        ("closed", "error: standard output is closed\n"),
    ],
)
def test_results_that_cannot_be_written_end_in_one_line(args, how, output, studies):
    assert run("pack", *args, out=how, cwd=studies) == (1, output)


def test_a_full_nonblocking_log_is_waited_for(studies, tmp_path):
    """Node.js, for example, leaves terminals and pipes non-blocking."""
    code = """
import sys
from xenon_mx.runtime import streams
streams.guard()
print("x" * 500_000, file=sys.stderr)
"""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen([sys.executable, "-c", code], stderr=writer) as process:
        os.close(writer)
        with open(reader) as stream:
            assert stream.read() == "x" * 500_000 + "\n"
    assert process.returncode == 0


def test_a_log_lost_during_the_run_ends_nothing(tmp_path):
    """Not warnings, logging, tracebacks, bars, or Python's exit."""
    code = """
import logging, sys, threading, traceback, warnings
from tqdm import tqdm
import click
from xenon_mx.runtime import progress, streams
streams.guard()
click.echo("first", err=True)
input()
for _ in range(3):
    click.echo("x" * 100_000, err=True)
    logging.warning("word")
    warnings.warn("word %s" % _)
    with progress.for_stream(sys.stderr)(total=2, mininterval=0) as bar:
        bar.update()
        tqdm.write("word", file=sys.stderr)
    try:
        1 / 0
    except Exception:
        traceback.print_exc()
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
print("word", end="", file=sys.stderr)
print("done")
"""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, text=True, **pipes) as process:
        assert process.stderr.readline() == "first\n"
        process.stderr.close()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stdout.read() == "done\n"
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", LOST)
def test_every_command_succeeds_without_its_log(how, studies, tmp_path):
    run_folder, table = tmp_path / "run", tmp_path / "out.csv"
    steps = [
        ("pack", studies / "data", tmp_path / "packed"),
        ("train", studies / "packed", run_folder, *TRAIN, "--epochs", 2),
        ("predict", studies / "data", table, "--run", run_folder, *CTX),
        ("report", run_folder, table, "-o", tmp_path / "page.html"),
        ("export", run_folder, tmp_path / "net.onnx"),
        ("train", studies / "packed", run_folder, "--resume", "--epochs", 3),
    ]
    for command, *args in steps:
        assert run(command, *args, err=how) == (0, "")
    assert len((run_folder / "log.csv").read_text().splitlines()) == 4
    assert len(table.read_text().splitlines()) == 5


@pytest.mark.slow
def test_a_table_that_cannot_be_written_to_the_stream_ends_in_one_line(
    studies, tmp_path
):
    run("train", studies / "packed", tmp_path / "run", *TRAIN, "--epochs", 1)
    args = (studies / "data", "-", "--run", tmp_path / "run", *CTX)
    status, output = run("predict", *args)
    assert (status, "error" in output) == (0, False)
    full, output = run("predict", *args, out="full")
    assert output.splitlines()[-1] == "error: standard output: No space left on device"
    broken, output = run("predict", *args, out="broken")
    assert "error" not in output
    assert (full, broken) == (1, 1)
    status, output = run("train", "--list-models", out="full")
    assert output.splitlines()[-1] == "error: standard output: No space left on device"
    assert status == 1


def _slowly(*args):
    """Return a slow case: one that imports MXNet or matplotlib before it fails."""
    return pytest.param(*args, marks=pytest.mark.slow)


ODD = os.fsdecode(b"o\xff\n\x1b[31m")


@pytest.mark.parametrize(
    ("command", "args", "status", "output"),
    [
        _slowly("report", [ODD], 1, r"error: o\xff\n\x1b[31m: not a run"),
        ("pack", [ODD, "out"], 1, r"error: o\xff\n\x1b[31m: no such file"),
        ("pack", ["a", "b", "--size", "a\nb"], 2, r"'a\nb' is not a valid integer"),
        ("pack", ["a", "b", f"--{ODD}"], 2, "No such option"),
    ],
)
def test_a_message_is_one_line_whatever_a_name_holds(
    command, args, status, output, tmp_path
):
    actual_status, text = run(command, *args, cwd=tmp_path)
    assert actual_status == status
    assert output in text.splitlines()[-1]
    assert text.replace("\n", "").isprintable()


def test_a_hint_names_a_folder_so_that_it_can_be_pasted(studies, tmp_path):
    status, output = run("pack", studies / "data", ODD, cwd=tmp_path)
    assert status == 0
    packed, hint = output.splitlines()[-1].split("; next: ")
    assert packed.split(";")[0] == r"packed into o\xff\n\x1b[31m"
    rec = r"$'o\377\012\033[31m/valid.rec'"
    assert hint == f"xenon-predict {rec} OUT.csv --run RUN"
    status, output = run("pack", "--check", ODD, cwd=tmp_path)
    assert (status, len(output.splitlines())) == (0, 1)


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("pack", ["{}", "out"]),
        ("pack", ["{studies}/data", "{}"]),
        ("predict", ["{}", "out.csv", "--run", "run"]),
        _slowly("predict", ["in", "{}", "--run", "run"]),
        _slowly("predict", ["in", "out.csv", "--run", "{}"]),
        _slowly("export", ["run", "{}"]),
        _slowly("report", ["run", "-o", "{}"]),
    ],
)
def test_a_link_to_itself_is_a_line(command, args, studies, tmp_path):
    ring = tmp_path / "ring.csv"
    if "export" in command or "report" in command:
        ring = ring.with_suffix({"export": ".onnx", "report": ".html"}[command])
    ring.symlink_to(ring.name)
    args = [arg.format(ring, studies=studies) for arg in args]
    status, output = run(command, *args, cwd=tmp_path)
    assert (status, output) == (1, f"error: {ring}: a link that leads to itself\n")


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("pack", ["data", "out"]),
        _slowly("train", ["packed", "run", "--no-pretrained"]),
        _slowly("predict", ["data", "out.csv", "--run", "run"]),
        _slowly("export", ["run", "out.onnx"]),
        _slowly("report", ["run"]),
        ("launch", ["-n", 1, "--", "nowhere/program"]),
    ],
)
def test_a_working_folder_that_is_gone_is_a_line(command, args, tmp_path):
    words = ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *script(command)]
    done = subprocess.run(
        [*words, *map(str, args)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_absolute_paths_need_no_working_folder(studies, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    words = ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *script("pack")]
    args = map(str, (studies / "data", tmp_path / "out"))
    subprocess.run([*words, *args], cwd=gone, check=True, capture_output=True)
    assert (tmp_path / "out" / "valid.rec").exists()
