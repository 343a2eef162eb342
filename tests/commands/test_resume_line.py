"""The lines that continue a training: split, and put together again."""

from __future__ import annotations

from pathlib import Path

import pytest

from xenon_mx.commands import resume_line
from xenon_mx.config import LaunchConfig


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("xenon-train P R --lr 1", "xenon-train"),
        ("/opt/venv/bin/xenon-train P R --lr 1", "/opt/venv/bin/xenon-train"),
        ("nice -n 5 xenon-train P R --lr 1", "nice -n 5 xenon-train"),
        ("xenon train P R --lr 1", "xenon train"),
        ("python -m xenon_mx train P R --lr 1", "python -m xenon_mx train"),
    ],
)
def test_a_command_that_trains_is_split_after_its_program(command, program):
    found = resume_line.split_command(command.split())
    assert found == (program.split(), "P R --lr 1".split())


@pytest.mark.parametrize("command", ["sh train.sh", "train", "xenon pack a b", "true"])
def test_other_commands_are_not_split(command):
    assert resume_line.split_command(command.split()) is None


def test_a_launch_is_continued_with_the_flags_that_it_had():
    config = LaunchConfig(
        ("xenon-train",),
        workers=4,
        servers=2,
        hosts=Path("my hosts"),
        address="10.0.0.1",
    )
    words = resume_line.launch_words("xenon launch", config)
    line = resume_line.resume_line([*words, "xenon-train"], Path("p"), Path("r"))
    assert line == (
        "xenon launch -n 4 -s 2 --hosts 'my hosts' --address 10.0.0.1 -- xenon-train p "
        "r --resume"
    )


def test_the_number_of_workers_is_always_named():
    words = resume_line.launch_words("xenon-launch", LaunchConfig(("xenon-train",)))
    assert words == ["xenon-launch", "-n", "2", "--"]
