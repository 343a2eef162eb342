"""xenon-launch: what it refuses, its exit status, and the processes it leaves."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.processes import environment_of, left_over, wait_for

from xenon_mx.commands import launch
from xenon_mx.config import LaunchConfig
from xenon_mx.errors import XenonError

LAUNCH = Path(sys.executable).with_name("xenon-launch")


def start(mark, *arguments, **options):
    """Start xenon-launch, with a mark in the environment of all its processes."""
    return subprocess.Popen(
        [LAUNCH, *map(str, arguments)],
        env={**os.environ, "MARK": str(mark)},
        **{"stderr": subprocess.PIPE, "text": True, **options},
    )


def finish(process):
    """Wait for the end of a launch; return its exit status and its lines."""
    try:
        stderr = process.communicate(timeout=150)[1]
    finally:
        process.kill()
    return process.returncode, (stderr or "").splitlines()


def processes_of(mark, role):
    """Return the ids of a launch's processes of one role."""
    return [
        int(pid)
        for pid in left_over(f"MARK={mark}")
        if f"DMLC_ROLE={role}" in environment_of(pid)
    ]


def test_hosts_are_read_without_comments(tmp_path):
    (tmp_path / "hosts").write_text("a\n# no longer used\n\nme@b  # added later\n")
    assert launch._read_hosts(tmp_path / "hosts") == ["a", "me@b"]


@pytest.mark.parametrize("content", ["", "\n# none\n"])
def test_a_file_without_hosts_is_refused(tmp_path, content):
    (tmp_path / "hosts").write_text(content)
    with pytest.raises(XenonError, match="names no host"):
        launch._read_hosts(tmp_path / "hosts")


def test_a_missing_host_file_is_refused(tmp_path):
    with pytest.raises(XenonError, match="No such file"):
        launch._read_hosts(tmp_path / "hosts")


def test_a_host_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "hosts").write_bytes(b"node\xff\n")
    with pytest.raises(XenonError, match="hosts: not text in UTF-8"):
        launch._read_hosts(tmp_path / "hosts")


def test_a_reserved_port_is_free_for_the_scheduler_alone():
    """The system assigns it to no socket that asks for any port."""
    with launch._reserve_port() as port:
        others = [socket.socket() for _ in range(500)]
        for other in others:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("", 0))
        assert port not in {other.getsockname()[1] for other in others}
        with socket.socket() as scheduler:
            scheduler.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            scheduler.bind(("127.0.0.1", port))
            scheduler.listen()
        for other in others:
            other.close()


def test_a_missing_program_is_refused():
    with pytest.raises(XenonError, match="xenon-trian: No such file"):
        launch.launch(LaunchConfig(("xenon-trian",)), print)


def test_an_unknown_interface_is_refused_with_the_names_of_all():
    config = LaunchConfig(("true",), interface="nope")
    with pytest.raises(XenonError, match=r"--interface nope: .*, only .*\blo\b"):
        launch.launch(config, print)


def test_too_few_open_files_are_refused_in_a_line(tmp_path):
    command = ["sh", "-c", 'ulimit -n 16; exec "$@"', "sh", LAUNCH, "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "16 are allowed: ulimit -n 44" in done.stderr


def test_a_deleted_working_folder_is_refused_in_a_line(tmp_path):
    """With --hosts, which run the command in a folder of the same name."""
    (tmp_path / "hosts").write_text("localhost\n")
    (tmp_path / "gone").mkdir()
    script = 'cd gone && rmdir ../gone && exec "$@"'
    command = ["sh", "-c", script, "sh", LAUNCH, "--hosts", tmp_path / "hosts", "true"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the working directory no longer exists" in done.stderr


def test_lines_are_labelled_by_worker_and_the_exit_status_is_passed_on():
    """By the launch number, whatever a worker prints about its rank."""
    script = "import sys; print('rank 1 of 2'); print('hello'); sys.exit(7)"
    done = subprocess.run(
        [LAUNCH, "-n", "1", "--", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 7
    labelled = {"[worker 0] rank 1 of 2", "[worker 0] hello"}
    assert labelled <= set(done.stderr.splitlines())


CONNECTS = """
import os, socket, sys, time
address = (os.environ["DMLC_PS_ROOT_URI"], int(os.environ["DMLC_PS_ROOT_PORT"]))
for _ in range(600):
    try:
        socket.create_connection(address).close()
        sys.exit(3)
    except OSError:
        time.sleep(0.1)
"""


def test_no_module_of_the_working_folder_is_imported(tmp_path):
    """A scheduler that listens has imported all of MXNet."""
    for name in ("json.py", "tempfile.py", "typing.py", "xenon_mx/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (tmp_path / "connects").write_text(CONNECTS)
    arguments = ("-n", "1", "--", sys.executable, "-I", "connects")
    status, lines = finish(start(tmp_path, *arguments, cwd=tmp_path))
    assert status == 3, lines
    assert not (tmp_path / "ran").exists()


SCRIPT = "sleep 1000 & setsid sleep 1000 & wait"


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)],
)
def test_a_killed_launcher_leaves_no_process_behind(tmp_path, number):
    """Nor children of its workers in sessions of their own."""
    arguments = ("-n", "2", "--", "sh", "-c", SCRIPT)
    process = start(tmp_path, *arguments, stderr=subprocess.DEVNULL)
    # The launcher, its guard, scheduler, server, and two workers with two each.
    wait_for(lambda: len(left_over(f"MARK={tmp_path}")) >= 10)
    process.send_signal(number)
    process.wait()
    wait_for(lambda: not left_over(f"MARK={tmp_path}"))


@pytest.mark.slow
def test_a_launcher_killed_while_it_starts_leaves_no_process_behind(tmp_path):
    for milliseconds in range(50):
        mark = tmp_path / str(milliseconds)
        process = start(mark, "-n", "3", "--", "sleep", "1000")
        wait_for(lambda mark=mark: len(left_over(f"MARK={mark}")) > 1)
        time.sleep(milliseconds / 1000)
        process.kill()
        process.communicate()
        wait_for(lambda mark=mark: not left_over(f"MARK={mark}"))


PRINTS_5_MB = "import sys; [print('x' * 1000) for _ in range(5000)]; sys.exit(5)"


def test_a_log_whose_reader_has_gone_ends_nothing(tmp_path):
    """As with `2>&1 | head -1`."""
    process = start(tmp_path, "-n", "1", "--", sys.executable, "-c", PRINTS_5_MB)
    process.stderr.readline()
    process.stderr.close()
    try:
        assert process.wait(timeout=150) == 5
    finally:
        process.kill()


def test_a_log_on_a_full_disk_ends_nothing(tmp_path):
    with open("/dev/full", "w") as full:
        arguments = ("-n", "1", "--", sys.executable, "-c", PRINTS_5_MB)
        assert finish(start(tmp_path, *arguments, stderr=full))[0] == 5


@pytest.mark.parametrize(
    ("role", "name"), [("scheduler", "the scheduler"), ("server", "server 0")]
)
def test_a_lost_server_is_named_before_any_worker_has_joined(tmp_path, role, name):
    process = start(tmp_path, "-n", "2", "--", "sleep", "1000")
    (victim,) = wait_for(lambda: processes_of(tmp_path, role))
    os.kill(victim, signal.SIGKILL)
    status, lines = finish(process)
    assert status == 137
    assert lines == [
        f"error: {name} was killed by SIGKILL, as the system does when memory is full",
        "to continue a run, start again with --resume",
    ]
    assert left_over(f"MARK={tmp_path}") == []


def test_a_killed_worker_is_named(tmp_path):
    script = "test $DMLC_ROLE = worker && kill -SEGV $$"
    status, lines = finish(start(tmp_path, "-n", "1", "--", "sh", "-c", script))
    assert status == 139
    assert lines[-2] == "error: worker 0 was killed by SIGSEGV"


def launched(script, *arguments, **settings):
    """Launch a script of sh as workers; return the exit status and the lines."""
    lines = []
    command = ("sh", "-c", script, "sh", *map(str, arguments))
    config = LaunchConfig(command, **{"workers": 1, **settings})
    return launch.launch(config, lines.append), lines


@pytest.mark.parametrize(
    ("end", "status", "how"),
    [
        ("kill -KILL $$", 137, "was killed by SIGKILL, as the system does when memory"),
        ("exit 7", 7, "ended with exit status 7 (see its lines above)"),
    ],
)
def test_a_worker_that_fails_is_named_with_its_rank(end, status, how):
    found, lines = launched(f"echo rank 5 of 9; {end}")
    assert found == status
    assert lines[-1].startswith(f"error: worker 0 (rank 5) {how}")


# As ssh: a shell runs the last argument, and its status is passed on; if a signal ended
# the shell itself, the status is 255.
SSH = f"""#!{sys.executable} -S
import subprocess, sys
status = subprocess.call(["bash", "-c", sys.argv[-1]])
sys.exit(255 if status < 0 else status)
"""


@pytest.mark.parametrize(
    ("end", "status", "how"),
    [
        ("kill -KILL $$", 137, "was killed by SIGKILL, as the system does when memory"),
        ("exit 7", 7, "ended with exit status 7"),
        ("kill -KILL $PPID", 255, "ssh could not start it, or lost the connection"),
    ],
)
def test_a_worker_behind_ssh_is_named_with_its_host(
    tmp_path, monkeypatch, end, status, how
):
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "hosts").write_text("me@node1\n")
    place = {"hosts": tmp_path / "hosts", "address": "127.0.0.1", "interface": "lo"}
    found, lines = launched(f"echo rank 0 of 1; {end}", **place)
    assert found == status
    assert re.match(rf"error: worker 0 \(rank 0\) on me@node1:? {how}", lines[-1])


# One of the workers makes the folder; the others end at once, as when it is lost.
FIRST = """
if mkdir "$1"; then echo rank 1 of 2; sleep 0.5; exit 1; fi 2>/dev/null
while ! [ -e "$1" ]; do sleep 0.1; done
echo rank 0 of 2; echo "error: the worker of rank 1, on 127.0.0.1, is lost"; exit 1
"""


def test_the_worker_that_failed_is_named_and_not_those_that_lost_it(tmp_path):
    status, lines = launched(FIRST, tmp_path / "made", workers=2)
    assert status == 1
    assert re.fullmatch(
        r"error: worker \d \(rank 1\) ended with exit status 1 \(see .*\)", lines[-1]
    )


def test_workers_that_have_only_lost_one_another_are_said_to(monkeypatch):
    monkeypatch.setattr(launch, "_CAUSE_S", 1.0)
    status, lines = launched("echo 'error: the worker of rank 0 is lost'; exit 1")
    assert status == 1
    assert lines[-1].startswith("error: the workers have lost one another")


def test_a_stopped_training_is_continued_by_the_line_that_is_printed(tmp_path):
    """With the flags of the launcher, which the run does not record."""
    program = tmp_path / "xenon-train"
    program.write_text("#!/bin/sh\nkill -KILL $$\n")
    program.chmod(0o755)
    (tmp_path / "my run").mkdir()
    (tmp_path / "my run" / "run.json").write_text("{}")
    launcher = ("-n", "1", "--servers", "2", "--interface", "lo", "--")
    words = (*launcher, "nice", program, "packed", "my run", "--epochs", "9")
    status, lines = finish(start(tmp_path, *words, cwd=tmp_path))
    assert status == 137
    assert lines[-1] == (
        f"what is finished is kept; continue with: xenon-launch -n 1 -s 2 "
        f"--interface lo -- nice {program} packed 'my run' --resume"
    )


def test_a_training_that_has_not_begun_is_not_to_be_continued(tmp_path):
    program = tmp_path / "xenon-train"
    program.write_text("#!/bin/sh\nkill -KILL $$\n")
    program.chmod(0o755)
    status, lines = finish(start(tmp_path, "-n", "1", "--", program, "packed", "run"))
    assert status == 137
    assert lines[-1].startswith("error: worker 0 was killed by SIGKILL")
