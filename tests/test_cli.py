"""The commands: files, messages, and every exit status.

As processes where the process itself is what is tested, else within this one: starting
Python and importing MXNet takes longer than most commands.
"""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import fields

import click
import pytest
from click.testing import CliRunner
from support import paths

from xenon_mx import cli, config, console, exit_status, settings
from xenon_mx.commands import pack as packing
from xenon_mx.errors import XenonError
from xenon_mx.models import net_names

CONFIGS = {name: getattr(config, f"{name.capitalize()}Config") for name in cli.COMMANDS}


def start(command, *args, **options):
    code = f"from xenon_mx import cli; cli.{command}()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(command, *args, status=0, **options):
    """Run a command, check its exit status, and return (stdout, stderr)."""
    process = start(command, *args, **options)
    out, err = process.communicate(timeout=240)
    assert process.returncode == status, err
    assert status == 70 or "Traceback" not in err
    return out, err


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Return a function that does as `run` does, within this process."""
    log = logging.getLogger("xenon_mx")
    level, handlers = log.level, log.handlers[:]

    def call(command, *args, status=0):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [f"xenon-{command}", *map(str, args)])
        log.handlers[:] = []
        console.log_to_stderr()
        actual = exit_status.status_of(cli.COMMANDS[command], f"xenon-{command}")
        out, err = capsys.readouterr()
        assert actual == status, err
        assert status == 70 or "Traceback" not in err
        return out, err

    yield call
    log.setLevel(level)
    log.handlers[:] = handlers


@pytest.fixture
def packed(mura_tree, tmp_path):
    packing.pack(config.PackConfig(mura_tree(), tmp_path / "packed", size=32))
    return tmp_path / "packed"


NET = ("--model", "mobilenet0.25", "--no-pretrained")
TRAIN = (*NET, "--ctx", "cpu0", "--epochs", 2)


@pytest.mark.slow  # tests/test_docs.py types much the same
def test_the_three_commands_take_a_folder_to_csvs(mura_tree, tmp_path, run_here):
    root = mura_tree()
    out, err = run_here("pack", root, tmp_path / "packed", "--size", 32)
    assert out == ""
    columns = ("study type", "images", "abnormal images", "studies")
    assert re.search(" +".join((*columns, "abnormal studies", "left out")), err)
    assert "XR_WRIST" in err
    assert "of disk" in err
    out, err = run_here("train", tmp_path / "packed", tmp_path / "run", *TRAIN)
    assert out == ""
    assert re.search(r"epoch 2/2 +train [\d.]+ +valid [\d.]+ +kappa", err)
    assert "next: xenon-report" in err
    arguments = ("--resume", "--epochs", 3)  # the rest is as the run recorded it
    _, err = run_here("train", tmp_path / "packed", tmp_path / "run", *arguments)
    assert re.findall(r"epoch \d/\d", err) == ["epoch 3/3"]
    images = root / "valid_image_paths.csv"
    arguments = (images, tmp_path / "out.csv", "--run", tmp_path / "run")
    out, err = run_here("predict", *arguments, "--ctx", "cpu()")
    assert out == ""
    counts = "study type +studies +abnormal studies +called abnormal"
    assert re.search(rf"{counts} +kappa \(95% interval\) +AUROC", err)
    assert re.search(r"overall +9 +3 +\d", err)
    assert re.search(r"sensitivity [\d.]+ .*, specificity .* over 2 patients", err)
    assert re.search(r"called abnormal .*: \d of 9 studies", err)
    table = (tmp_path / "out.csv").read_text()
    out, _ = run_here("predict", images, "-", "--run", tmp_path / "run")
    assert out == table


def test_training_logs_its_ctx(packed, tmp_path, run_here):
    arguments = (*NET, "--epochs", 1)
    _, err = run_here("train", packed, tmp_path / "run", *arguments)
    assert re.search(r"^ctx: (cpu|gpu)\(0\)", err, re.MULTILINE)


@pytest.mark.parametrize(
    ("command", "args", "message"),
    [
        ("pack", [], "Missing argument 'SOURCE'"),
        ("pack", ["a"], "Missing argument 'OUT'"),
        ("pack", ["a", "b", "--size", "x"], "not a valid integer"),
        ("pack", ["a", "b", "--size", "1"], "--size: must be at least 32"),
        ("pack", ["a", "b", "--fit", "crop"], "crop"),
        ("pack", ["a", "b", "--sise", "64"], "--sise"),
        ("train", ["a", "b", "--no-pretrained", "--pretrained", "x"], "contradicts"),
        ("train", ["a", "b", "--no-pretrained", "--freeze-epochs", "1"], "freeze"),
        ("train", ["--list-models", "31"], "32<=x<=2048"),
        ("train", ["a", "b", "--no-pretrained", "--lr", "0"], "at least 1e-37"),
        ("predict", ["a", "b"], "--run"),
        ("predict", ["a", "--run", "c"], "Missing argument"),
        ("decide", ["a"], "Missing argument 'TABLE.csv'"),
        ("decide", ["a", "b", "--sensitivity", "95"], "--sensitivity: must be at most"),
        ("decide", ["a", "b", "--best", "AUROC"], "--best"),
        ("decide", ["a", "b", "--best", "kappa", "--specificity", ".9"], "contradicts"),
        ("report", [], "Missing argument 'RUN|PREDICTIONS'"),
        ("report", ["a", "--gallery", "-1"], "at least 0"),
        ("predict", ["a", "b.csv", "--run", "c", "--cam", ""], "the path is empty"),
        ("pack", ["", "b"], "the path is empty"),
    ],
)
def test_wrong_usage_exits_2_with_a_message(command, args, message):
    out, err = run(command, *args, status=2)
    assert out == ""
    assert message in err
    assert f"Usage: xenon-{command}" in err


def test_a_wrong_ctx_is_wrong_usage(packed, tmp_path, run_here):
    options = (*NET, "--ctx", "tpu(0)")
    _, err = run_here("train", packed, tmp_path / "run", *options, status=2)
    assert "cpu(), gpu(0)" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("pack", ["nowhere", "out"]),
        ("train", ["nowhere", "run", "--no-pretrained"]),
        ("predict", ["nowhere.csv", "out.csv", "--run", "nowhere"]),
        ("decide", ["nowhere", "nowhere.csv"]),
        ("report", ["nowhere"]),
    ],
)
def test_a_failure_exits_1_with_one_line(
    command, args, tmp_path, monkeypatch, run_here
):
    monkeypatch.chdir(tmp_path)
    out, err = run_here(command, *args, status=1)
    assert out == ""
    assert err.startswith("error: nowhere")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_things_at_fault_are_listed_above_the_error(mura_tree, tmp_path):
    root = mura_tree()
    gone = sorted(root.rglob("image1.png"))[:2]
    for file in gone:
        file.unlink()
    _, err = run("pack", root, tmp_path / "packed", status=1)
    *details, error = err.splitlines()[-3:]
    assert all(str(file) in "\n".join(details) for file in gone)
    assert error.startswith("error: 2 images cannot be read")


def test_a_bug_shows_its_traceback_and_exits_70(monkeypatch, capsys):
    def fail(**flags):
        raise KeyError("surprise")

    monkeypatch.setattr(cli.COMMANDS["pack"], "callback", fail)
    monkeypatch.setattr(sys, "argv", ["xenon-pack", "a", "b"])
    assert exit_status.status_of(cli.COMMANDS["pack"], "xenon-pack") == 70
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "surprise" in err


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("pack", ["{long}", "out"]),
        ("predict", ["in", "{long}.csv", "--run", "run"]),
        ("predict", ["in", "out.csv", "--run", "{long}"]),
        ("export", ["run", "{long}.onnx"]),
        ("report", ["run", "-o", "{long}.html"]),
        ("train", ["{long}", "run"]),
    ],
)
def test_an_os_error_is_one_line_and_no_bug(
    command, args, tmp_path, monkeypatch, run_here
):
    """A name too long for any disk; a folder without permission fails alike."""
    monkeypatch.chdir(tmp_path)
    args = [each.format(long="a" * 300) for each in args]
    _, err = run_here(command, *args, status=1)
    assert re.search(r"^error: a+.*(: File n|: its n)ame (is )?too long", err)


def test_closed_standard_streams_are_no_bug(tmp_path):
    (tmp_path / "in").mkdir()
    for closed, status in (("2>&-", 1), (">&-", 1)):
        script = "from xenon_mx import cli; cli.predict()"
        words = [sys.executable, "-c", script, "in", "-", "--run", "run"]
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closed}', "sh", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status
        if closed == ">&-":
            assert done.stderr == (
                "error: standard output is closed: name a file, or open it\n"
            )


def test_an_error_keeps_its_details_in_order(monkeypatch, capsys):
    def fail(**flags):
        raise XenonError("two things", ["one", "other"])

    monkeypatch.setattr(cli.COMMANDS["pack"], "callback", fail)
    monkeypatch.setattr(sys, "argv", ["xenon-pack", "a", "b"])
    assert exit_status.status_of(cli.COMMANDS["pack"], "xenon-pack") == 1
    assert capsys.readouterr().err == "  one\n  other\nerror: two things\n"


@pytest.mark.parametrize(
    ("number", "status", "message"),
    [
        (signal.SIGINT, 130, "interrupted"),
        # tests/training/test_resume.py sends SIGTERM to a training, too.
        pytest.param(signal.SIGTERM, 143, "terminated", marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_training_with_its_status(
    packed, tmp_path, number, status, message
):
    options = (*TRAIN[:-1], 999, "--patience", 999)
    process = start("train", packed, tmp_path / "run", *options)
    log = tmp_path / "run" / "log.csv"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") > 1):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert err.splitlines()[-1] == message
    assert "Traceback" not in err


def test_a_terminal_gets_a_bar_and_a_file_gets_lines(mura_tree, tmp_path):
    root = mura_tree()
    _, lines = run("pack", root, tmp_path / "a", "--size", 32)
    assert "\r" not in lines
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    code = "from xenon_mx import cli; cli.pack()"
    subprocess.run(
        [sys.executable, "-c", code, str(root), str(tmp_path / "b"), "--size", "32"],
        stderr=slave,
        check=True,
    )
    os.close(slave)
    shown = os.read(master, 100_000).decode()
    os.close(master)
    assert "\r" in shown
    assert "img/s" in shown


@pytest.mark.parametrize("command", CONFIGS)
def test_flags_and_config_fields_are_the_same_in_name_and_default(command):
    params = cli.COMMANDS[command].params
    options = {p.name: p for p in params if isinstance(p, click.Option)}
    options.pop("version")
    options.pop("runs", None)
    options.pop("list_models", None)
    options.pop("check", None)
    wanted = {f.name: f for f in fields(CONFIGS[command]) if f.metadata}
    assert set(options) == set(wanted)
    for name, option in options.items():
        assert settings.flag_name(name) in option.opts
        assert option.default == wanted[name].default
        assert option.help


@pytest.mark.parametrize("command", CONFIGS)
def test_version_and_help_exit_0(command):
    out, _ = run(command, "--version")
    assert re.fullmatch(r"xenon, version \d+\.\d+\.\d+\n", out)
    out, _ = run(command, "-h")
    assert out.startswith(f"Usage: xenon-{command}")


@pytest.mark.parametrize(
    "names",
    [
        ["densenet169", "mobilenet0.25"],
        pytest.param(net_names.NAMES, marks=pytest.mark.slow, id="all"),
    ],
)
def test_list_models_prints_every_net_on_standard_output(names, monkeypatch, run_here):
    monkeypatch.setattr(net_names, "NAMES", names)
    out, _ = run_here("train", "--list-models", "224")
    head, *rows = [re.split(r"  +", line) for line in out.splitlines()]
    assert head == ["net", "ImageNet weights", "parameters", "GFLOP at 224 px"]
    assert {row[0] for row in rows} == set(names)
    # torchvision's documentation: 14,149,480 parameters with 1000 classes and 1664
    # features, and 3.36 G multiply-adds.
    (row,) = [row for row in rows if row[0] == "densenet169"]
    assert row[1:] == ["gluon, hub", f"{14_149_480 - 999 * 1665:,}", "6.7"]


def test_check_tells_a_whole_packed_folder_from_a_damaged_one(packed, run_here):
    out, _ = run_here("pack", "--check", packed)
    assert out == (
        f"{packed}: train: 36 records, whole\n{packed}: valid: 25 records, whole\n"
    )
    rec = packed / "valid.rec"
    content = bytearray(rec.read_bytes())
    content[len(content) // 2] ^= 1
    rec.write_bytes(content)
    _, err = run_here("pack", "--check", packed, status=1)
    assert err.startswith(f"error: {rec}")


def test_check_takes_every_folder_that_is_named(packed, tmp_path, run_here):
    others = [tmp_path / name for name in "abc"]
    for other in others:
        shutil.copytree(packed, other)
    for words in (
        ["--check", packed, *others],
        [packed, "--check", others[0], *others[1:]],
        ["--check", packed, "--check", others[0], *others[1:]],
    ):
        out, _ = run_here("pack", *words)
        named = {line.split(":")[0] for line in out.splitlines()}
        assert named == {str(packed), *map(str, others)}
    (others[0] / "pack.json").unlink()
    (others[1] / "valid.rec").write_bytes(b"")
    out, err = run_here("pack", "--check", packed, *others, status=1)
    assert f"{others[2]}: valid: 25 records, whole" in out
    assert f"  {others[0]}: not a packed folder" in err
    assert f"  {others[1]}/valid.rec: 0 bytes" in err
    assert err.splitlines()[-1] == "error: 2 folders cannot be used"


TWICE = """
import os, signal, time
import click
from xenon_mx import exit_status

@click.command()
def stubborn():
    try:
        os.kill(os.getpid(), signal.SIGNAL)
    finally:
        os.kill(os.getpid(), signal.SIGNAL)
        time.sleep(60)

exit_status.run(stubborn, "xenon-stubborn")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_a_command_at_once(number):
    script = TWICE.replace("SIGNAL", signal.Signals(number).name)
    done = subprocess.run([sys.executable, "-c", script], timeout=30)
    assert done.returncode == -number


@pytest.mark.parametrize(
    ("number", "status", "message"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_in_a_destructor_ends_the_command_too(number, status, message):
    """Python ignores exceptions in destructors, which MXNet's arrays have."""
    script = """
import os, sys, time
from xenon_mx import cli; from xenon_mx.commands import pack as pack_module

number = int(sys.argv.pop())

class Array:
    def __del__(self):
        os.kill(os.getpid(), number)
        for _ in range(1000):  # so that the signal handler runs here
            pass

def pack(*_):
    Array()
    time.sleep(20)
    print("went on")

pack_module.pack = pack
cli.pack()
"""
    words = [sys.executable, "-c", script, "a", "b", str(int(number))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=15)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (status, "", message)


@pytest.mark.parametrize("command", CONFIGS)
def test_a_python_without_docstrings_is_refused_in_a_line(command):
    environment = {**os.environ, "PYTHONOPTIMIZE": "2"}
    _, err = run(command, "--help", env=environment, status=1)
    assert "PYTHONOPTIMIZE" in err
    assert err.count("\n") == 1
    environment["PYTHONOPTIMIZE"] = "1"
    out, _ = run(command, "--help", env=environment)
    assert "Usage" in out


def test_setup_names_every_command():
    setup = (paths.ROOT / "setup.py").read_text()
    assert set(cli.COMMANDS) == set(CONFIGS)
    for command in CONFIGS:
        assert f"xenon-{command} = xenon_mx.main:{command}" in setup


def test_xenon_alone_lists_the_commands():
    done = subprocess.run(
        [sys.executable, "-m", "xenon_mx"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines() if line[:2] == "  "]
    assert listed[-len(cli.COMMANDS) :] == list(cli.COMMANDS)


@pytest.mark.parametrize("command", ["pack", "train", "predict"])
def test_the_old_name_of_the_threads_leads_to_the_new(command):
    result = CliRunner().invoke(cli.COMMANDS[command], ["a", "b", "--workers", "2"])
    assert result.exit_code == 2
    assert "--threads" in result.output


@pytest.mark.parametrize(
    ("command", "out"), [("predict", "OUT.csv"), ("export", "OUT")]
)
def test_an_output_that_was_forgotten_is_named(command, out):
    result = CliRunner().invoke(
        cli.COMMANDS[command], ["a", "--run=r"][: 2 - (command == "export")]
    )
    assert result.exit_code == 2
    assert f"Missing argument '{out}'" in result.output
