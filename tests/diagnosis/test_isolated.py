"""Checks in processes of their own: a crash, an error and silence become lines."""

from __future__ import annotations

import os
import signal

import pytest
from support.checks import Told
from support.child_processes import wait_for_end

from xenon_mx.diagnosis import isolated
from xenon_mx.diagnosis.finding import Finding, fact
from xenon_mx.diagnosis.subject import Subject
from xenon_mx.errors import ConfigError

SUBJECT = Subject("mobilenet0.25", 32, 8, ("cpu(0)",), "/nowhere")
WHILE = "while waiting for the end"
REPORT = "; please report it with all of this file"
TOO_LITTLE = (
    "; too little memory is the usual reason: use a smaller --batch-size or --size; if "
    "that does not help, please report it with all of this file"
)


def run(how, **options):
    """Run the check of tests/support; return what it told and what it returned."""
    told = Told()
    returned = isolated.run(
        "checks",
        "net and end",
        SUBJECT,
        told.doing,
        told.found,
        package="support",
        how=how,
        **options,
    )
    assert told.findings[0] == fact("net", "mobilenet0.25")
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
        ("SIGKILL", f"SIGKILL{TOO_LITTLE}"),
        ("SIGFPE", f"SIGFPE{TOO_LITTLE}"),
        ("SIGSEGV", f"SIGSEGV{TOO_LITTLE}"),
        ("SIGABRT", f"SIGABRT{TOO_LITTLE}"),
        ("SIGILL", f"SIGILL{REPORT}"),
        ("exit", f"exit status 1: the last words{REPORT}"),
        ("bug", f"exit status 1: ZeroDivisionError: division by zero{REPORT}"),
    ],
)
def test_a_check_that_crashes_is_a_line_that_says_where(how, words):
    told, returned = run(how)
    words = f"the process ended with {words}"
    assert told.findings[1:] == [Finding("net and end", WHILE, words)]
    assert returned is None


FOREIGN = """
import os
os.write(1, b"not JSON\\n[1]\\n{}\\n\\xff\\nno end of a line")
"""


def test_what_something_else_prints_first_is_skipped(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(FOREIGN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    told, returned = run("well")
    assert told.findings[1:] == [Finding("end", "reached")]
    assert returned == {"threads": 3}


def test_a_check_that_is_silent_is_killed_with_all_that_it_started(tmp_path):
    file = tmp_path / "pid"
    told, returned = run("hang", silence_s=2.0, file=str(file))
    assert told.findings[1:] == [
        Finding("net and end", WHILE, f"no answer in 2 s{REPORT}")
    ]
    assert returned is None
    for pid in file.read_text().split():
        wait_for_end(int(pid))


def test_an_error_is_a_line_with_its_details():
    told, returned = run("error")
    assert told.findings[1:] == [Finding("net and end", "", "the sentence a detail")]
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
    for pid in file.read_text().split():
        wait_for_end(int(pid))
