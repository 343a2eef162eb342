"""What the README says to type can be typed."""

from __future__ import annotations

import re
import shlex

import cv2
import pytest
import synthetic
from support import paths

from xenon_mx import cli
from xenon_mx.runs.epoch_log import EpochRecord

README = (paths.ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = {
    "pack": cli._pack,
    "train": cli._train,
    "predict": cli._predict,
    "export": cli._export,
    "report": cli._report,
    "launch": cli._launch,
}


def typed():
    """Every command line of the README, with the name of its command."""
    lines = re.findall(r"^    xenon-(\w+) (.+)$", README, re.MULTILINE)
    inline = re.findall(r"`xenon-(\w+) (--[^`]+)`", README)
    return [(name, rest) for name, rest in lines + inline]


@pytest.mark.parametrize(("name", "rest"), typed())
def test_a_command_line_of_the_readme_parses(name, rest):
    arguments = shlex.split(rest)
    if arguments[0].startswith("--"):  # a flag that the text speaks of
        arguments = ["a", "b", *arguments]
    # Some flags do something at once and end; whether they are known is enough here.
    at_once = {"--list-models", "--check"} & set(arguments)
    context = COMMANDS[name].make_context(
        f"xenon-{name}", arguments, resilient_parsing=bool(at_once)
    )
    assert context.params


def test_the_readme_has_every_command():
    assert {name for name, _ in typed()} == set(COMMANDS)


def test_flags_that_the_readme_names_exist():
    known = {opt for c in COMMANDS.values() for p in c.params for opt in p.opts}
    known |= {"--slow", "--torch", "--cuda", "--help"}
    known |= {"--build-arg", "--gpus", "--rm"}  # docker's
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= known


def test_the_tools_that_the_readme_names_exist():
    for tool in re.findall(r"tools/\w+(?:/\w+)?(?:\.\w+)?", README):
        assert (paths.ROOT / tool).is_file(), tool


def test_the_columns_that_the_readme_names_are_written():
    assert "study,study_type,images,probability,prediction,label" in README
    assert len(EpochRecord._fields) == 9


def test_the_library_example_runs(tmp_path, monkeypatch):
    (example,) = re.findall(r"```python\n(.+?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("image1.png", synthetic.blobs(1, 48)[0])
    names: dict = {}
    exec(example, names)  # noqa: S102 - the README's own words
    assert names["logit"].shape == (1, 1)
    assert names["pooled"].shape == (1, 1024)


def test_nothing_placed_by_hand_is_left_open():
    assert not re.findall(r"@[A-Z_]+@", README)
