"""Checks in processes of their own: a crash, an error and silence become lines."""

from __future__ import annotations

import signal
import time

import pytest
from support.checks import Told

from xenon_mx.diagnosis import isolated
from xenon_mx.diagnosis.finding import Finding
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.errors import ConfigError

SUBJECT = Subject("mobilenet0.25", 32, 8, ("cpu(0)",), "/nowhere")
WHILE = "while waiting for the end"
REPORT = "; please report it with all of this file"


def run(how, **options):
    """Run the check of tests/support; return what it told and what it returned."""
    told = Told()
    returned = isolated.run(
        "checks", SUBJECT, told.doing, told.found, package="support", how=how, **options
    )
    assert told.findings[0] == ("net", "mobilenet0.25", "", True)
    return told, returned


@pytest.mark.parametrize("how", ["well", "print"])
def test_a_check_that_ends_well_tells_and_returns(how):
    told, returned = run(how)
    assert told.done == ["waiting for the end"]
    assert told.findings[1:] == [Finding("end", "reached")]
    assert returned == {"threads": 3}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("crash", "the process ended with SIGSEGV"),
        ("exit", "the process ended with exit status 1: the last words"),
        (
            "bug",
            "the process ended with exit status 1: ZeroDivisionError: division by zero",
        ),
    ],
)
def test_a_check_that_crashes_is_a_line_that_says_where(how, words):
    told, returned = run(how)
    assert told.findings[1:] == [Finding("checks", WHILE, words + REPORT)]
    assert returned is None


def test_a_check_that_is_silent_is_killed_with_all_that_it_started(tmp_path):
    file = tmp_path / "pid"
    told, returned = run("hang", silence_s=2.0, file=str(file))
    assert told.findings[1:] == [Finding("checks", WHILE, f"no answer in 2 s{REPORT}")]
    assert returned is None
    wait_for_end(int(file.read_text()))


def wait_for_end(pid):
    """Wait for the end of a process that was killed."""
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid):
    """Return whether a process runs; a zombie that waits for its parent does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_error_is_a_line_with_its_details():
    told, returned = run("error")
    assert told.findings[1:] == [Finding("checks", "", "the sentence a detail")]
    assert returned is None


def test_a_wrong_setting_is_wrong_usage():
    with pytest.raises(ConfigError) as caught:
        run("setting")
    assert str(caught.value) == "--model: there is no such net"
    assert caught.value.flag == "--model"


def test_a_signal_of_the_caller_ends_the_check(tmp_path):
    """What interrupts this process must not leave the other one behind."""
    file = tmp_path / "pid"

    def interrupt(*_):
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 3.0)
    try:
        with pytest.raises(KeyboardInterrupt):
            run("hang", file=str(file))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    wait_for_end(int(file.read_text()))
