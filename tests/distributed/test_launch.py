"""xenon-launch: what it refuses, the statuses that it passes on, and who is left."""

from __future__ import annotations

import os
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


def started(mark, *words, **more):
    """Start xenon-launch; what it starts is found by the mark."""
    return subprocess.Popen(
        [LAUNCH, *map(str, words)],
        env={**os.environ, "MARK": str(mark)},
        **{"stderr": subprocess.PIPE, "text": True, **more},
    )


def ended(process):
    """Wait for the end of a launch; give its status and its lines."""
    try:
        said = process.communicate(timeout=150)[1]
    finally:
        process.kill()
    return process.returncode, (said or "").splitlines()


def of_role(mark, role):
    """The process that plays a role in a launch."""
    return [
        int(pid)
        for pid in left_over(f"MARK={mark}")
        if f"DMLC_ROLE={role}" in environment_of(pid)
    ]


def test_hosts_are_read_without_comments(tmp_path):
    (tmp_path / "hosts").write_text("a\n# the old ones\n\nme@b  # the new one\n")
    assert launch._read_hosts(tmp_path / "hosts") == ["a", "me@b"]


@pytest.mark.parametrize("content", ["", "\n# none\n"])
def test_a_file_without_hosts_is_refused(tmp_path, content):
    (tmp_path / "hosts").write_text(content)
    with pytest.raises(XenonError, match="names no host"):
        launch._read_hosts(tmp_path / "hosts")


def test_a_missing_host_file_is_refused(tmp_path):
    with pytest.raises(XenonError, match="no such file"):
        launch._read_hosts(tmp_path / "hosts")


def test_a_host_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "hosts").write_bytes(b"node\xff\n")
    with pytest.raises(XenonError, match="hosts: is not text in UTF-8"):
        launch._read_hosts(tmp_path / "hosts")


def test_the_schedulers_port_is_given_to_nobody_else():
    """To no other program that asks for any port; to the scheduler it is."""
    with launch._reserved_port() as port:
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


def test_a_program_that_is_not_there_is_refused():
    with pytest.raises(XenonError, match="xenon-trian: No such file"):
        launch.launch(LaunchConfig(("xenon-trian",)), print)


def test_an_interface_that_is_not_there_is_refused_and_those_that_are_named():
    config = LaunchConfig(("true",), interface="nope")
    with pytest.raises(XenonError, match=r"--interface nope: .*, but .*\blo\b"):
        launch.launch(config, print)


def test_too_few_open_files_are_refused_in_a_line(tmp_path):
    command = ["sh", "-c", 'ulimit -n 16; exec "$@"', "sh", LAUNCH, "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "16 are allowed: ulimit -n 44" in done.stderr


def test_a_deleted_working_folder_is_refused_in_a_line(tmp_path):
    """Where it is needed: the hosts are to work in the folder of that name."""
    (tmp_path / "hosts").write_text("localhost\n")
    (tmp_path / "gone").mkdir()
    script = 'cd gone && rmdir ../gone && exec "$@"'
    command = ["sh", "-c", script, "sh", LAUNCH, "--hosts", tmp_path / "hosts", "true"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the working folder has been deleted" in done.stderr


def test_lines_carry_their_worker_and_the_worst_status_is_passed_on():
    script = "import os, sys; print('hello'); sys.exit(7)"
    done = subprocess.run(
        [LAUNCH, "-n", "1", "--", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 7
    assert "[worker 0] hello" in done.stderr.splitlines()


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


def test_nothing_of_the_working_folder_is_run(tmp_path):
    """By the time that the scheduler listens, it has imported all of MXNet."""
    for name in ("json.py", "tempfile.py", "typing.py", "xenon_mx/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (tmp_path / "connects").write_text(CONNECTS)
    words = ("-n", "1", "--", sys.executable, "-I", "connects")
    status, said = ended(started(tmp_path, *words, cwd=tmp_path))
    assert status == 3, said
    assert not (tmp_path / "ran").exists()


SCRIPT = "sleep 1000 & setsid sleep 1000 & wait"


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)],
)
def test_a_killed_launcher_leaves_nobody_behind(tmp_path, number):
    """Not the children of its workers either, though they have left its groups."""
    words = ("-n", "2", "--", "sh", "-c", SCRIPT)
    process = started(tmp_path, *words, stderr=subprocess.DEVNULL)
    # The launcher, its guard, scheduler, server, and two workers with two each.
    wait_for(lambda: len(left_over(f"MARK={tmp_path}")) >= 10)
    process.send_signal(number)
    process.wait()
    wait_for(lambda: not left_over(f"MARK={tmp_path}"))


@pytest.mark.slow
def test_a_launcher_killed_while_it_starts_leaves_nobody_behind(tmp_path):
    for milliseconds in range(50):
        mark = tmp_path / str(milliseconds)
        process = started(mark, "-n", "3", "--", "sleep", "1000")
        wait_for(lambda mark=mark: len(left_over(f"MARK={mark}")) > 1)
        time.sleep(milliseconds / 1000)
        process.kill()
        process.communicate()
        wait_for(lambda mark=mark: not left_over(f"MARK={mark}"))


TALKS = "import sys; [print('x' * 1000) for _ in range(5000)]; sys.exit(5)"


def test_a_log_that_nobody_reads_any_more_ends_nothing(tmp_path):
    """As `2>&1 | head -1` does it: 5 MB more are to come."""
    process = started(tmp_path, "-n", "1", "--", sys.executable, "-c", TALKS)
    process.stderr.readline()
    process.stderr.close()
    try:
        assert process.wait(timeout=150) == 5
    finally:
        process.kill()


def test_a_log_on_a_full_disk_ends_nothing(tmp_path):
    with open("/dev/full", "w") as full:
        words = ("-n", "1", "--", sys.executable, "-c", TALKS)
        assert ended(started(tmp_path, *words, stderr=full))[0] == 5


@pytest.mark.parametrize(
    ("role", "name"), [("scheduler", "the scheduler"), ("server", "server 0")]
)
def test_a_lost_server_is_named_before_any_worker_has_joined(tmp_path, role, name):
    process = started(tmp_path, "-n", "2", "--", "sleep", "1000")
    (victim,) = wait_for(lambda: of_role(tmp_path, role))
    os.kill(victim, signal.SIGKILL)
    status, said = ended(process)
    assert status == 137
    (line,) = said
    assert line.startswith(f"error: {name} was killed by SIGKILL")
    assert left_over(f"MARK={tmp_path}") == []


def test_a_killed_worker_is_named(tmp_path):
    script = "test $DMLC_ROLE = worker && kill -SEGV $$"
    status, said = ended(started(tmp_path, "-n", "1", "--", "sh", "-c", script))
    assert status == 139
    assert said[-1].startswith("error: worker 0 was killed by SIGSEGV: start again")
